/* The memory of a model's cache: of a method, of a whole model, in the order in which it was saved.
 */
#ifndef KVBENCH_HARNESS_MEMORY_MEMORY_H
#define KVBENCH_HARNESS_MEMORY_MEMORY_H

#include "harness/memory/memory_count.h"
#include "harness/models/model.h"

struct kv_memory_setting {
    uint32_t decode; /* of the context's tokens, how many came one by one */
    uint32_t element_bits, state_bits;
    bool all_rows; /* local layers keep every row, as without a windowed cache */
};

/* One model with one method: the laws of its layers, shared where layers are alike. */
struct kv_memory;

int kv_memory_open(struct kv_memory **out, const struct kv_model *model, const struct kv_spec *spec,
                   const struct kv_memory_setting *setting, const struct kv_kernels *kernels,
                   struct kv_error *err);
void kv_memory_close(struct kv_memory *memory);

/* Of one sequence; state and index columns are no method's business and come on top. */
struct kv_memory_total {
    struct kv_memory_bytes cache;
    int64_t state, index, total; /* total = cache.total + state + index */
    int64_t elements; /* of K and V in the cache's rows: bits an element = 8 * cache.total / this */
};
int kv_memory_at(struct kv_memory *memory, uint32_t context, struct kv_memory_total *total,
                 struct kv_error *err);

enum { KV_NO_CONTEXT = -2 }; /* none up to 2^30, however long */

/* The largest context of at most `limit` bytes for one sequence (2^30: any), or the first with at
 * least as many (`reach`). -1: not known, since rows would have to be gone through. */
int64_t kv_memory_most_context(struct kv_memory *memory, int64_t limit);
int64_t kv_memory_reach(struct kv_memory *memory, int64_t bytes);

/* True when kv_memory_at does not go through rows one by one at such a context. */
bool kv_memory_is_counted(struct kv_memory *memory, uint32_t context);

/* -- the chain of savings: each step with all that came before it ----------------------------- */

enum kv_saving {
    KV_SAVING_NONE,
    KV_SAVING_HEADS,
    KV_SAVING_SHARING,
    KV_SAVING_WINDOWS,
    KV_SAVING_LATENT,
    KV_SAVINGS
};
extern const char *const kv_saving_names[KV_SAVINGS];

/* The model as it would be with the savings up to `until` only; the caller frees it. applies: the
 * model has this saving at all. */
int kv_model_with_savings(struct kv_model *out, const struct kv_model *model, enum kv_saving until,
                          bool *applies, struct kv_error *err);

#endif
