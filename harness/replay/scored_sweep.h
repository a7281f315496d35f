/* One KV head's scored queries, and their sweep over all of its recorded rows: exact attention. */
#ifndef KVBENCH_HARNESS_SCORED_SWEEP_H
#define KVBENCH_HARNESS_SCORED_SWEEP_H

#include "harness/base/pool.h"
#include "harness/replay/query_rows.h"

struct kv_scored { const struct kv_layer *layer; const struct kv_kernels *kernels; uint32_t n; const uint32_t *tokens; };

/* The query rows of a KV head, widened, and what belongs to each; all of it is the pool's. */
int kv_scored_rows(struct kv_rows *out, const struct kv_scored *scored, uint32_t head, struct kv_pool *pool,
                   struct kv_error *err);

struct kv_scored_sweep {
    struct kv_sweep sweep;                     /* its answers are the caller's to set */
    struct kv_recorded recorded;
    float *scratch;
};

/* `out` stays where it is: the sweep points into it. Rows are those of kv_scored_rows, or some of them; everything
 * else is the pool's. */
int kv_scored_sweep_create(struct kv_scored_sweep *out, const struct kv_scored *scored, uint32_t head,
                           const struct kv_rows *rows, struct kv_pool *pool, struct kv_error *err);

#endif
