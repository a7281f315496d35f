/* Exact attention of all queries of one made layer (one KV head): the reference that benches of
 * whole passes are measured against. */
#ifndef KVBENCH_HARNESS_PERF_FULL_ATTENTION_H
#define KVBENCH_HARNESS_PERF_FULL_ATTENTION_H

#include "harness/check/check_layer.h"
#include "harness/replay/query_rows.h"

struct kv_full_attention {
    struct kv_layer *layer;
    struct kv_recorded recorded;
    struct kv_sweep sweep;
    float *memory, *scratch;
    uint32_t *index;
};

int kv_full_attention_create(struct kv_full_attention *out, const struct kv_check_shape *shape,
                             const struct kv_kernels *kernels, struct kv_error *err);
/* A kv_perf_work: context is the struct; returns the queries answered. */
double kv_full_attention_run(void *context);
void kv_full_attention_free(struct kv_full_attention *attention);

/* Share of the multiply-adds' peak that exact attention of so many dimensions is asked for (perf.md, G1). */
double kv_full_attention_goal(const struct kv_kernels *kernels, uint32_t dim);

#endif
