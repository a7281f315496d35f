/* perf fht: the Walsh-Hadamard transform, in cycles. The clock is measured beside it, by additions
 * that wait for each other.
 *
 * n = 2^k floats in vectors of `lanes` take n k / lanes additions, and a shuffle for each step
 * inside a vector: at n = 128 and 16 lanes 56 and 32. A core that cuts 8 lanes in two 128-bit
 * halves needs four times as many operations of each kind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/perf/benches.h"

enum { VECTORS = 16 }; /* that lie in the L1 cache together */

struct transform {
    const struct kv_kernels *kernels;
    float *x;
    uint32_t n;
};

/* Transforms grow vectors by sqrt(n) each: zeros stay what they are and cost the same. */
static double transform(void *context)
{
    const struct transform *work = context;
    for (uint32_t i = 0; i < VECTORS; i++) work->kernels->hadamard(work->x + i * work->n, work->n);
    return VECTORS;
}

static int measure(struct kv_perf *perf, uint32_t n, const struct kv_kernels *generic,
                   struct kv_error *err)
{
    char name[64];
    struct transform work = {&perf->kernels, aligned_alloc(64, VECTORS * n * sizeof(float)), n};
    if (!work.x) return kv_fail(err, KV_EMEMORY, "perf fht: out of memory");
    memset(work.x, 0, VECTORS * n * sizeof(float));
    struct transform plain = work;
    plain.kernels = generic;
    snprintf(name, sizeof name, "d=%u, cycles", n);
    const bool wide = !strcmp(perf->kernels.isa, "avx512");
    const struct kv_perf_case row = {.name = name,
                                     .unit = "M/s",
                                     .unit_size = 1e6,
                                     .limit = {"cycles", kv_perf_cycles, NULL},
                                     .ours = {"hadamard", transform, &work},
                                     .yardstick = {"generic C", transform, &plain},
                                     .kind = KV_PERF_AT_MOST,
                                     .goal = n == 128 ? 34 : 0,
                                     .reason =
                                         wide ? NULL
                                              : "the goal is for a core with two 512-bit units; "
                                                "narrower vectors need more operations"};
    const int status = kv_perf_measure(perf, &row, err);
    free(work.x);
    return status;
}

int kv_perf_fht(struct kv_perf *perf, struct kv_error *err)
{
    static const uint32_t own[] = {64, 128, 256, 512, 1024};
    const struct kv_perf_sizes dims = kv_perf_sizes(perf, &perf->options.dims, own, 5, 64);
    struct kv_kernels generic;
    int status = kv_kernels_fill(&generic, "generic", err);
    for (uint32_t i = 0; status == KV_OK && i < dims.n; i++) {
        const uint32_t n = dims.at[i];
        if (n < 2 || n > 4096 || n & (n - 1))
            return kv_fail(err, KV_EUSAGE, "perf fht: expected powers of two up to 4096, found %u",
                           n);
        status = measure(perf, n, &generic, err);
    }
    return status;
}
