/* perf attn: exact fp32 causal attention beside the multiply-add peak of the same kernel set.
 * Useful operations only: 4 d a visible (query, key) pair; softmax, packing and masked columns
 * count nothing.
 *
 * The keys include some that every query is far from, so that weights would be subnormal (weights
 * below 2^-60 of a row's largest are exactly 0: kernels.h). */
#include <stdio.h>
#include <string.h>

#include "harness/perf/benches.h"
#include "harness/perf/sweep_case.h"

enum { HEADS = 4 };

static double goal_of(const struct kv_kernels *kernels, uint32_t dim)
{
    if (!strcmp(kernels->isa, "avx512")) return dim >= 128 ? 0.85 : 0.82;
    return 0.75;
}

static int measure(struct kv_perf *perf, uint32_t tokens, uint32_t dim, struct kv_error *err)
{
    char name[64], shape[96];
    struct kv_sweep_case work;
    kv_sweep_case_create(&work, &perf->kernels, tokens, dim, HEADS, 0);
    snprintf(name, sizeof name, "T=%u d=%u", tokens, dim);
    snprintf(shape, sizeof shape, "tokens=%u dim=%u heads=%d kv_heads=1", tokens, dim, HEADS);
    const struct kv_perf_case row = {.name = name,
                                     .unit = "GFLOP/s",
                                     .unit_size = 1e9,
                                     .limit = {"fma peak", kv_perf_peak, &perf->kernels},
                                     .ours = {"sweep", kv_sweep_case_run, &work},
                                     .kind = KV_PERF_AT_LEAST,
                                     .goal = goal_of(&perf->kernels, dim),
                                     .shape = shape,
                                     .shape_work = work.flops};
    const int status =
        work.bad ? kv_fail(err, KV_EMEMORY, "perf attn: out of memory for %u tokens", tokens)
                 : kv_perf_measure(perf, &row, err);
    kv_sweep_case_free(&work);
    return status;
}

int kv_perf_attn(struct kv_perf *perf, struct kv_error *err)
{
    static const uint32_t own_tokens[] = {1024, 4096, 16384}, own_dims[] = {64, 128};
    const struct kv_perf_sizes tokens =
        kv_perf_sizes(perf, &perf->options.tokens, own_tokens, 3, 96);
    const struct kv_perf_sizes dims = kv_perf_sizes(perf, &perf->options.dims, own_dims, 2, 64);
    int status = KV_OK;
    for (uint32_t d = 0; d < dims.n; d++)
        for (uint32_t t = 0; status == KV_OK && t < tokens.n; t++)
            status = measure(perf, tokens.at[t], dims.at[d], err);
    return status;
}
