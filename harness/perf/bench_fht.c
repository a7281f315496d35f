/* perf fht: the Hadamard transform, in steps of 64 floating-point operations: cycles of a core with
 * two 512-bit multiply-add units, four times as many where units have 128 bits.
 *
 * n = 2^k floats in vectors of `lanes` take n k / lanes additions, and a shuffle for each step
 * inside a vector but the first, whose values may be loaded twice: at n = 128 and 16 lanes 56 and
 * 24. A core whose two 512-bit units do both (Intel's) takes 40 cycles at least. Eight shuffles less
 * are possible where halves of vectors are stored and loaded twice; there, what the 36 cycles gain,
 * waiting for what was just stored costs (43 and 42 measured). Bits 1 and 2 of a place never reach
 * a load that repeats, so that each costs a shuffle a vector or a like operation.
 *
 * With 256 bits the steps of 8 lanes are 112 additions, 48 of them multiply-adds by signs, and as many shuffles of
 * 16 vectors for spans 1, 2 and 4; AMD's four pipes (two for additions, two for multiply-adds, two of them for
 * shuffles) take 40 cycles for them, 20 steps, where the core's other thread sleeps: 33 steps measured then, 36 to
 * 38 while that thread works.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/perf/benches.h"

enum { VECTORS = 16, GOAL = 34 }; /* vectors that lie in the L1 cache together; steps at n = 128 */

struct transform {
    const struct kv_kernels *kernels;
    float *x;
    uint32_t n;
};

/* Transforms grow vectors by sqrt(n) each: zeros stay what they are and cost the same. */
static double transform(void *context)
{
    const struct transform *work = context;
    work->kernels->hadamard(work->x, NULL, work->x, work->n, VECTORS);
    return VECTORS;
}

struct operations {
    const struct kv_kernels *kernels;
    struct kv_coding coding;
};

/* Of transforms, nothing waits for anything. */
static double operate(void *context)
{
    enum { TRANSFORMS = 1024 };
    const struct operations *work = context;
    return work->kernels->coding_peak(&work->coding, NULL, TRANSFORMS * KV_CODING, NULL) / KV_CODING;
}

/* Operations that no such transform of KV_CODING floats does without, where a set has them by their
 * ports. */
static void explain(void *context, const struct kv_perf_seen *seen, char reason[KV_PERF_REASON])
{
    const struct transform *work = context;
    const uint32_t vectors = work->n / 16, additions = (uint32_t)(vectors * log2(work->n));
    struct operations least = {work->kernels, {.lanes = additions, .shuffles = 2 * vectors}};
    const double steps = kv_perf_best(kv_perf_wide_steps, (void *)work->kernels);
    const double rate = work->n == KV_CODING ? kv_perf_best(operate, &least) : 0;
    if (rate > 0)
        snprintf(reason, KV_PERF_REASON,
                 "%u additions of vectors and the %u shuffles that no load can do instead, out of "
                 "registers and in any order, take %.1f steps, %s the goal%s",
                 additions, 2 * vectors, steps / rate, steps / rate > GOAL ? "above" : "within",
                 steps / rate > GOAL ? ": a limit of this core" : ", which proves no limit");
    else
        snprintf(reason, KV_PERF_REASON,
                 "%.0f steps are those of the best loop known: its additions alone, at the "
                 "multiply-adds' rate, are %.0f",
                 seen->ratio, additions / 2.0);
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
    snprintf(name, sizeof name, "d=%u", n);
    const struct kv_perf_case row = {.name = name,
                                     .unit = "M/s",
                                     .unit_size = 1e6,
                                     .limit = {"64 flop", kv_perf_wide_steps, &perf->kernels},
                                     .ours = {"hadamard", transform, &work},
                                     .yardstick = {"generic C", transform, &plain},
                                     .kind = KV_PERF_AT_MOST,
                                     .goal = n == 128 ? GOAL : 0,
                                     .explain = explain};
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
