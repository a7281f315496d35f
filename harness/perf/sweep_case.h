/* A causal attention sweep over synthetic rows: what several benches time. */
#ifndef KVBENCH_HARNESS_PERF_SWEEP_CASE_H
#define KVBENCH_HARNESS_PERF_SWEEP_CASE_H

#include "harness/perf/perf.h"
#include "methods/sweep/sweep.h"

struct kv_sweep_case {
    struct kv_geometry geometry;
    struct kv_sweep sweep;
    float *keys, *values; /* [tokens][dim] */
    float *queries, *outputs, *log_sum_exp, *scratch;
    uint32_t *position, *until, *token;
    double flops; /* useful ones: 4 dim a visible pair */
    bool bad;     /* out of memory */
};

/* `heads` query heads on one KV head, each at `positions` tokens that are spread over all (all of
 * them when positions is 0). One token in 64 has a key that every query is far from: its logits lie
 * 48 to 112 below the others, where plain exponentials would be tiny, subnormal or 0. */
void kv_sweep_case_create(struct kv_sweep_case *work, const struct kv_kernels *kernels,
                          uint32_t tokens, uint32_t dim, uint32_t heads, uint32_t positions);
void kv_sweep_case_free(struct kv_sweep_case *work);

/* kv_perf_work: floating-point operations. Context: a kv_sweep_case. */
kv_perf_work kv_sweep_case_run;

#endif
