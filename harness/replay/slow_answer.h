/* The slow road's answers: one step at a time, over mirrors of the held rows, so that weights can be
 * observed and reads be selected. */
#ifndef KVBENCH_HARNESS_SLOW_ANSWER_H
#define KVBENCH_HARNESS_SLOW_ANSWER_H

#include "harness/replay/replay.h"

struct kv_slow;

struct kv_read_bytes { double resident, offloaded; };   /* stored bytes that are touched, by where they lie */

int kv_slow_create(struct kv_slow **out, const struct kv_replay *replay, struct kv_cache *main,
                   struct kv_cache *rest, struct kv_pool *pool, struct kv_error *err);

/* The owner's queries of token t: [n_heads][group][key_dim], valid until the next call. */
const float *kv_slow_queries(struct kv_slow *slow, uint32_t t);

/* Answers token t: into row `scored` of the arrays, or only the weights when it is UINT32_MAX. After
 * kv_slow_queries(t) and kv_cache_begin(t). Returns the stored bytes that the selected rows touch, of the
 * caches that select. */
struct kv_read_bytes kv_slow_step(struct kv_slow *slow, uint32_t t, uint32_t scored);

/* Whether a policy of the main cache looks at weights; and the step's, [n_heads]. */
bool kv_slow_observes(const struct kv_slow *slow);
const struct kv_observed *kv_slow_observed(const struct kv_slow *slow);

#endif
