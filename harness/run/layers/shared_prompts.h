/* Statistics of a layer's prompt that methods share, a KV head at a time: computed before the first method
 * of the head comes, or by it, and forgotten after the last, so that few heads' are in memory at once. */
#ifndef KVBENCH_HARNESS_SHARED_PROMPTS_H
#define KVBENCH_HARNESS_SHARED_PROMPTS_H

#include "methods/policy.h"
#include "traces/trace.h"

struct kv_shared_prompts;

/* Whether a spec that wants this reads any of them; rows and queries are not shared (kv_prompt_rows). */
bool kv_shared_prompts_wanted(const struct kv_wants *wants);

/* `layer` stays the caller's. NULL when memory is short. */
struct kv_shared_prompts *kv_shared_prompts_create(const struct kv_layer *layer, const struct kv_wants *wants,
                                                   const struct kv_kernels *kernels);
void kv_shared_prompts_free(struct kv_shared_prompts *shared);
/* Bytes that were there at once, at most; and what threads spent on them. */
size_t kv_shared_prompts_most(const struct kv_shared_prompts *shared);
double kv_shared_prompts_seconds(const struct kv_shared_prompts *shared);

/* Before the threads start: one more will take this head, or at least leave. */
void kv_shared_prompts_expect(struct kv_shared_prompts *shared, uint32_t head);

/* By any thread: computes them where somebody is expected; once for each that was expected, takes them, and
 * leaves them. */
void kv_shared_prompts_compute(struct kv_shared_prompts *shared, uint32_t head);
int kv_shared_prompts_take(struct kv_shared_prompts *shared, uint32_t head, struct kv_prompt *prompt,
                           struct kv_error *err);
void kv_shared_prompts_leave(struct kv_shared_prompts *shared, uint32_t head);

#endif
