/* Two threads beside one; see gain.h. */
#include "harness/perf/gain.h"

#include <math.h>
#include <stdio.h>

#include "harness/base/clock.h"

struct gaining {
    struct kv_perf *perf;
    const struct kv_gain *gain;
    uint32_t calls, peak_calls; /* of a thread in one stretch */
    double busy, wall;          /* processor and wall seconds of two threads' stretches of ours */
};

/* Work a second of that many threads together. */
static double rate(kv_perf_work *run, void *const contexts[2], uint32_t calls, int threads)
{
    const double begin = kv_clock_seconds();
    double work = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : work)
    for (int i = 0; i < threads; i++)
        for (uint32_t c = 0; c < calls; c++) work += run(contexts[i]);
    return work / (kv_clock_seconds() - begin);
}

/* Calls of a stretch of 10 ms; one where numbers mean nothing. */
static uint32_t calls_of(const struct kv_perf *perf, kv_perf_work *run, void *context)
{
    const double begin = kv_clock_seconds();
    run(context);
    const double wanted = perf->options.tiny ? 1 : ceil(0.01 / (kv_clock_seconds() - begin));
    return wanted > 1 ? (uint32_t)wanted : 1;
}

/* One thread, two, two, one: a clock that drifts meets both alike. */
static int sample(void *context, double *limit, double *ours, struct kv_error *err)
{
    struct gaining *gaining = context;
    struct kv_kernels *kernels = &gaining->perf->kernels;
    void *const same[2] = {kernels, kernels}, *const *own = gaining->gain->contexts;
    double peak[2] = {0}, work[2] = {0};
    (void)err;
    for (int i = 0; i < 4; i++) {
        const int two = i == 1 || i == 2;
        peak[two] += rate(kv_perf_peak, same, gaining->peak_calls, 1 + two);
        const double wall = kv_clock_seconds(), busy = kv_processor_seconds();
        work[two] += rate(gaining->gain->run, own, gaining->calls, 1 + two);
        if (!two) continue;
        gaining->wall += kv_clock_seconds() - wall;
        gaining->busy += kv_processor_seconds() - busy;
    }
    *limit = peak[1] / peak[0], *ours = work[1] / work[0];
    return KV_OK;
}

static void explain(void *context, const struct kv_perf_seen *seen, char reason[KV_PERF_REASON])
{
    const struct gaining *gaining = context;
    snprintf(reason, KV_PERF_REASON,
             "two threads gain %.2f times on multiply-adds in registers and %.2f here, where they "
             "share the "
             "last cache; they had %.2f CPUs while they ran",
             seen->limit, seen->ours, gaining->busy / gaining->wall);
}

int kv_gain_measure(struct kv_perf *perf, const char *name, const struct kv_gain *gain,
                    struct kv_error *err)
{
    struct gaining gaining = {.perf = perf,
                              .gain = gain,
                              .calls = calls_of(perf, gain->run, gain->contexts[0]),
                              .peak_calls = calls_of(perf, kv_perf_peak, &perf->kernels)};
    const struct kv_perf_case row = {.name = name,
                                     .unit = "x",
                                     .unit_size = 1,
                                     .limit = {"fma peak, 2 threads / 1", NULL, NULL},
                                     .ours = {"2 threads / 1", NULL, &gaining},
                                     .sample = sample,
                                     .clock = KV_PERF_WALL,
                                     .kind = KV_PERF_AT_LEAST,
                                     .goal = 0.95,
                                     .explain = explain};
    return kv_perf_measure(perf, &row, err);
}
