/* perf scale: how cost grows with tokens, layers, heads, methods and threads, beside what the cost model
 * says: for each way of growing, processor seconds (wall seconds for threads) at each size, and the
 * exponent of the least-squares line through their logarithms. Runs read synthetic trace files, as a
 * user's would, with 256 scored tokens (16 for --tiny). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness/base/clock.h"
#include "harness/perf/benches.h"
#include "harness/perf/full_attention.h"
#include "harness/perf/made_trace.h"
#include "harness/perf/sweep_case.h"
#include "harness/row.h"
#include "harness/run.h"

enum { MOST = 8, TAKES = 3 };

struct point {                         /* one size of one way of growing */
    struct kv_made_trace trace;
    uint32_t methods, threads;
};

struct way {
    const char *name;
    double model;                      /* exponent that the cost model says */
    uint32_t n, at[MOST];
    void (*set)(struct point *point, uint32_t size);
    bool reference_only;               /* all queries, exact attention: no run */
};

static void set_tokens(struct point *p, uint32_t n) { p->trace.tokens = n; }
static void set_layers(struct point *p, uint32_t n) { p->trace.layers = n; }
static void set_methods(struct point *p, uint32_t n) { p->methods = n; }
static void set_threads(struct point *p, uint32_t n) { p->threads = n; }
static void set_heads(struct point *p, uint32_t n)
{
    p->trace.kv_heads = n;
    p->trace.q_heads = 2 * n;
}

static const struct way ways[] = {
    {"tokens, 256 scored", 1, 5, {4096, 8192, 16384, 32768, 131072}, set_tokens, false},
    {"tokens, all queries exact", 2, 4, {1024, 2048, 4096, 8192}, set_tokens, true},
    {"layers", 1, 3, {1, 2, 4}, set_layers, false},
    {"KV heads", 1, 3, {1, 2, 4}, set_heads, false},
    {"methods", 1, 4, {1, 2, 4, 8}, set_methods, false},
    {"threads", -1, 2, {1, 2}, set_threads, false},
};

static double processor_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* `n` specs that cost the same: one method under n seeds would share nothing either. */
static int parse_methods(struct kv_spec_list *specs, uint32_t n, struct kv_error *err)
{
    char text[16 * 32] = "";
    for (uint32_t i = 0; i < n && i < 16; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%sint:bits=%u", i ? "," : "", 1 + i % 8);
    return kv_spec_parse(specs, text, err);
}

static int time_run(struct kv_perf *perf, const struct point *point, uint32_t queries, double *seconds,
                    struct kv_error *err)
{
    struct kv_spec_list specs = {0};
    char path[64] = "";
    int status = parse_methods(&specs, point->methods, err);
    if (status == KV_OK) status = kv_made_trace_write(&point->trace, path, sizeof path, err);
    char *const traces[] = {path};
    const struct kv_run_request request = {
        .specs = &specs, .traces = traces, .n_traces = 1, .isa = perf->kernels.isa,
        .threads = (int)point->threads, .seed = 1, .seeds = 1, .queries = queries, .no_verify = true};
    *seconds = INFINITY;
    for (int take = 0; status == KV_OK && take < (perf->options.tiny ? 1 : TAKES); take++) {
        struct kv_results results = {0};
        const double wall = kv_clock_seconds(), cpu = processor_seconds();
        status = kv_run(&request, &results, err);
        const double took = point->threads > 1 ? kv_clock_seconds() - wall : processor_seconds() - cpu;
        if (took < *seconds) *seconds = took;
        kv_results_free(&results);
    }
    kv_made_trace_remove(path);
    kv_spec_free(&specs);
    return status;
}

static int time_reference(struct kv_perf *perf, const struct point *point, double *seconds,
                          struct kv_error *err)
{
    const struct kv_check_shape shape = {
        .tokens = point->trace.tokens, .prefill = point->trace.tokens - 1, .kv_heads = 1, .group = 2,
        .key_dim = point->trace.dim, .value_dim = point->trace.dim, .dtype = KV_F16, .rows = KV_ROWS_NORMAL};
    struct kv_full_attention attention;
    const int status = kv_full_attention_create(&attention, &shape, &perf->kernels, err);
    *seconds = INFINITY;
    for (int take = 0; status == KV_OK && take < (perf->options.tiny ? 1 : TAKES); take++) {
        const double cpu = processor_seconds();
        kv_full_attention_run(&attention);
        const double took = processor_seconds() - cpu;
        if (took < *seconds) *seconds = took;
    }
    if (status == KV_OK) kv_full_attention_free(&attention);
    return status;
}

/* Slope of the least-squares line of log(seconds) over log(size). */
static double fit_exponent(const uint32_t *sizes, const double *seconds, uint32_t n)
{
    double x = 0, y = 0, xx = 0, xy = 0;
    for (uint32_t i = 0; i < n; i++) {
        const double size = log(sizes[i]), time = log(seconds[i]);
        x += size, y += time, xx += size * size, xy += size * time;
    }
    return (n * xy - x * y) / (n * xx - x * x);
}

static int print_way(struct kv_perf *perf, const struct way *way, const double *seconds, double exponent,
                     struct kv_error *err)
{
    if (!perf->options.json) {
        printf("%-26s", way->name);
        for (uint32_t i = 0; i < way->n; i++) printf("  %u: %.3f s", way->at[i], seconds[i]);
        printf("; exponent %.2f, model %.0f\n", exponent, way->model);
        fflush(stdout);
        return KV_OK;
    }
    cJSON *row = cJSON_CreateObject(), *ours = cJSON_CreateObject(), *sizes = cJSON_CreateArray();
    bool done = row && ours && sizes && cJSON_AddStringToObject(row, "bench", "scale") &&
                cJSON_AddStringToObject(row, "case", way->name) && cJSON_AddStringToObject(row, "unit", "exponent") &&
                cJSON_AddStringToObject(row, "verdict", "no goal") && cJSON_AddNumberToObject(ours, "median", exponent) &&
                cJSON_AddNumberToObject(row, "model", way->model);
    for (uint32_t i = 0; done && i < way->n; i++) {
        cJSON *pair = cJSON_CreateObject();
        done = pair && cJSON_AddNumberToObject(pair, "size", way->at[i]) &&
               cJSON_AddNumberToObject(pair, "seconds", seconds[i]) && cJSON_AddItemToArray(sizes, pair);
    }
    done = done && cJSON_AddItemToObject(row, "ours", ours) && cJSON_AddItemToObject(row, "seconds", sizes) &&
           cJSON_AddItemToArray(perf->rows, row);
    return done ? KV_OK : kv_fail(err, KV_EMEMORY, "perf scale: out of memory");
}

static int measure(struct kv_perf *perf, const struct way *wanted, struct kv_error *err)
{
    const bool tiny = perf->options.tiny;
    struct way way = *wanted;
    double seconds[MOST];
    int status = KV_OK;
    if (tiny && way.n > 2) way.n = 2;
    for (uint32_t i = 0; status == KV_OK && i < way.n; i++) {
        struct point point = {{tiny ? 256 : 4096, 0, 1, 2, 1, 64}, 2, 1};
        if (tiny && way.set == set_tokens) way.at[i] = 256 << i;
        way.set(&point, way.at[i]);
        const uint32_t queries = tiny ? 16 : 256;
        point.trace.prefill = point.trace.tokens - queries;
        status = way.reference_only ? time_reference(perf, &point, &seconds[i], err)
                                    : time_run(perf, &point, queries, &seconds[i], err);
    }
    if (status != KV_OK) return status;
    return print_way(perf, &way, seconds, fit_exponent(way.at, seconds, way.n), err);
}

/* -- two threads beside one: each with a head of its own ---------------------------------------- */

struct crew {
    const struct kv_kernels *kernels;
    struct kv_sweep_case heads[2];
    int threads;
};

static double crew_peak(void *context)
{
    const struct crew *crew = context;
    double work = 0;
#pragma omp parallel for num_threads(crew->threads) reduction(+ : work)
    for (int i = 0; i < crew->threads; i++) work += kv_perf_peak((void *)crew->kernels);
    return work;
}

static double crew_attention(void *context)
{
    struct crew *crew = context;
    double work = 0;
#pragma omp parallel for num_threads(crew->threads) reduction(+ : work)
    for (int i = 0; i < crew->threads; i++) work += kv_sweep_case_run(&crew->heads[i]);
    return work;
}

static int measure_crew(struct kv_perf *perf, struct crew *crew, double goal, double *share,
                        struct kv_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "attention T=%u d=%u, %d thread%s", crew->heads[0].geometry.tokens,
             crew->heads[0].geometry.key_dim, crew->threads, crew->threads > 1 ? "s" : "");
    const struct kv_perf_case row = {
        .name = name, .unit = "GFLOP/s", .unit_size = 1e9, .limit = {"fma peak", crew_peak, crew},
        .ours = {"sweep", crew_attention, crew}, .clock = KV_PERF_WALL,
        .kind = goal > 0 ? KV_PERF_AT_LEAST : KV_PERF_NO_GOAL, .goal = goal, .median_ratio = share};
    return kv_perf_measure(perf, &row, err);
}

/* A second thread is to bring 0.95 of what it brings to the peak: the share of the peak, of which the
 * peak's own gain is taken out, stays. */
static int measure_threads(struct kv_perf *perf, struct kv_error *err)
{
    const uint32_t tokens = perf->options.tiny ? 96 : 4096;
    struct crew crew = {.kernels = &perf->kernels, .threads = 1};
    double share = 0, both = 0;
    int status = KV_OK;
    for (int i = 0; i < 2; i++) kv_sweep_case_create(&crew.heads[i], &perf->kernels, tokens, 128, 1, 0);
    if (crew.heads[0].bad || crew.heads[1].bad)
        status = kv_fail(err, KV_EMEMORY, "perf scale: out of memory for %u tokens", tokens);
    if (status == KV_OK) status = measure_crew(perf, &crew, 0, &share, err);
    crew.threads = 2;
    if (status == KV_OK) status = measure_crew(perf, &crew, 0.95 * share, &both, err);
    for (int i = 0; i < 2; i++) kv_sweep_case_free(&crew.heads[i]);
    return status;
}

int kv_perf_scale(struct kv_perf *perf, struct kv_error *err)
{
    int status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < sizeof ways / sizeof *ways; i++)
        status = measure(perf, &ways[i], err);
    return status == KV_OK ? measure_threads(perf, err) : status;
}
