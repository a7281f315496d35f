/* perf scale: how cost grows with tokens, layers, heads, methods and threads, beside what the cost
 * model says: for each way of growing, processor seconds (wall seconds for threads) at each size,
 * and the exponent beside the part that does not grow (growth.h): opening and reading, and for
 * methods the reference, which all of them share. Runs read synthetic trace files, as a user's
 * would, with 256 scored tokens (16 for --tiny). Then what a second thread brings (gain.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/clock.h"
#include "harness/perf/benches.h"
#include "harness/output/files/json.h"
#include "harness/perf/full_attention.h"
#include "harness/perf/gain.h"
#include "harness/perf/growth.h"
#include "harness/perf/made_trace.h"
#include "harness/perf/sweep_case.h"
#include "harness/output/row.h"
#include "harness/run/run.h"

enum { MOST = 8, TAKES = 3 };

struct point { /* one size of one way of growing */
    struct kv_made_trace trace;
    uint32_t methods, threads;
};

struct way {
    const char *name;
    double model; /* exponent that the cost model says */
    uint32_t n, at[MOST];
    void (*set)(struct point *point, uint32_t size);
    bool reference_only; /* all queries, exact attention: no run */
};

static void set_tokens(struct point *p, uint32_t n)
{
    p->trace.tokens = n;
}
static void set_layers(struct point *p, uint32_t n)
{
    p->trace.layers = n;
}
static void set_methods(struct point *p, uint32_t n)
{
    p->methods = n;
}
static void set_heads(struct point *p, uint32_t n)
{
    p->trace.kv_heads = n;
    p->trace.q_heads = 2 * n;
}
static void set_threads(struct point *p, uint32_t n)
{
    set_heads(p, 4);
    p->threads = n;
}

/* Rows of threads have heads enough for both. */
static const struct way ways[] = {
    {"tokens, 256 scored", 1, 5, {1024, 4096, 16384, 65536, 131072}, set_tokens, false},
    {"tokens, all queries exact", 2, 4, {1024, 2048, 4096, 8192}, set_tokens, true},
    {"layers", 1, 4, {1, 2, 4, 8}, set_layers, false},
    {"KV heads", 1, 4, {1, 2, 4, 8}, set_heads, false},
    {"methods", 1, 5, {1, 2, 4, 8, 16}, set_methods, false},
    {"threads", -1, 2, {1, 2}, set_threads, false},
};

/* `n` specs that cost about the same: one method under n seeds would share nothing either. */
static int parse_methods(struct kv_spec_list *specs, uint32_t n, struct kv_error *err)
{
    enum { MOST_METHODS = 16, LENGTH = 40 };
    char text[MOST_METHODS * LENGTH] = "";
    for (uint32_t i = 0; i < n && i < MOST_METHODS; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%sint:bits=%u:group_size=%u",
                 i ? "," : "", 1 + i % 8, i < 8 ? 64 : 32);
    return kv_spec_parse(specs, text, err);
}

static int time_run(struct kv_perf *perf, const struct point *point, uint32_t queries,
                    double *seconds, struct kv_error *err)
{
    struct kv_spec_list specs = {0};
    char path[64] = "";
    int status = parse_methods(&specs, point->methods, err);
    if (status == KV_OK) status = kv_made_trace_write(&point->trace, path, sizeof path, err);
    char *const traces[] = {path};
    const struct kv_run_request request = {.specs = &specs,
                                           .traces = traces,
                                           .n_traces = 1,
                                           .isa = perf->kernels.isa,
                                           .threads = (int)point->threads,
                                           .seed = 1,
                                           .seeds = 1,
                                           .queries = queries,
                                           .no_verify = true};
    *seconds = INFINITY;
    for (int take = 0; status == KV_OK && take < (perf->options.tiny ? 1 : TAKES); take++) {
        struct kv_results results = {0};
        const double wall = kv_clock_seconds(), cpu = kv_processor_seconds();
        status = kv_run(&request, &results, err);
        const double took =
            point->threads > 1 ? kv_clock_seconds() - wall : kv_processor_seconds() - cpu;
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
    const struct kv_check_shape shape = {.tokens = point->trace.tokens,
                                         .prefill = point->trace.tokens - 1,
                                         .kv_heads = 1,
                                         .group = 2,
                                         .key_dim = point->trace.dim,
                                         .value_dim = point->trace.dim,
                                         .dtype = KV_F16,
                                         .rows = KV_ROWS_NORMAL};
    struct kv_full_attention attention;
    const int status = kv_full_attention_create(&attention, &shape, &perf->kernels, err);
    *seconds = INFINITY;
    for (int take = 0; status == KV_OK && take < (perf->options.tiny ? 1 : TAKES); take++) {
        const double cpu = kv_processor_seconds();
        kv_full_attention_run(&attention);
        const double took = kv_processor_seconds() - cpu;
        if (took < *seconds) *seconds = took;
    }
    if (status == KV_OK) kv_full_attention_free(&attention);
    return status;
}

static void print_line(const struct way *way, const double *seconds, const struct kv_growth *growth)
{
    printf("%-26s", way->name);
    for (uint32_t i = 0; i < way->n; i++) printf("  %u: %.3f s", way->at[i], seconds[i]);
    if (isnan(growth->exponent))
        printf("; exponent %.2f, model %.0f\n", growth->line, way->model);
    else
        printf("; exponent %.2f beside a fixed part of %.3f s (%.2f without), model %.0f\n",
               growth->exponent, growth->fixed, growth->line, way->model);
    fflush(stdout);
}

static bool add_number(cJSON *object, const char *name, double value)
{
    return kv_json_add(object, name, kv_real_to_json(value, 4));
}

static cJSON *sizes_json(const struct way *way, const double *seconds)
{
    cJSON *sizes = cJSON_CreateArray();
    bool done = sizes;
    for (uint32_t i = 0; done && i < way->n; i++) {
        cJSON *pair = cJSON_CreateObject();
        done = pair && cJSON_AddNumberToObject(pair, "size", way->at[i]) &&
               add_number(pair, "seconds", seconds[i]);
        if (pair && !(cJSON_AddItemToArray(sizes, pair) && done)) done = false;
    }
    if (done) return sizes;
    cJSON_Delete(sizes);
    return NULL;
}

/* `ours` is the exponent that stands beside the model's: with a fixed part where sizes tell one. */
static cJSON *way_json(const struct way *way, const double *seconds, const struct kv_growth *growth)
{
    cJSON *row = cJSON_CreateObject(), *ours = cJSON_CreateObject();
    const double exponent = isnan(growth->exponent) ? growth->line : growth->exponent;
    bool done = row && ours && add_number(ours, "median", exponent);
    done = kv_json_add(row, "ours", ours) && done;
    done = done && kv_json_add(row, "bench", cJSON_CreateString("scale")) &&
           kv_json_add(row, "case", cJSON_CreateString(way->name)) &&
           kv_json_add(row, "unit", cJSON_CreateString("exponent")) &&
           kv_json_add(row, "verdict", cJSON_CreateString("-")) &&
           add_number(row, "model", way->model) &&
           add_number(row, "fixed_seconds", growth->fixed) &&
           add_number(row, "exponent_without_fixed", growth->line) &&
           kv_json_add(row, "seconds", sizes_json(way, seconds));
    if (done) return row;
    cJSON_Delete(row);
    return NULL;
}

static int print_way(struct kv_perf *perf, const struct way *way, const double *seconds,
                     struct kv_error *err)
{
    const struct kv_growth growth = kv_growth_fit(way->at, seconds, way->n);
    perf->without_goal++;
    if (!perf->options.json) return print_line(way, seconds, &growth), KV_OK;
    cJSON *row = way_json(way, seconds, &growth);
    if (row && cJSON_AddItemToArray(perf->rows, row)) return KV_OK;
    cJSON_Delete(row);
    return kv_fail(err, KV_EMEMORY, "perf scale: out of memory");
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
    return print_way(perf, &way, seconds, err);
}

/* -- two threads beside one: each with a head of its own -------------------------------------- */

static int measure_threads(struct kv_perf *perf, struct kv_error *err)
{
    const uint32_t tokens = perf->options.tiny ? 96 : 4096;
    struct kv_sweep_case heads[2];
    char name[64];
    for (int i = 0; i < 2; i++) kv_sweep_case_create(&heads[i], &perf->kernels, tokens, 128, 1, 0);
    const struct kv_gain gain = {kv_sweep_case_run, {&heads[0], &heads[1]}};
    snprintf(name, sizeof name, "attention T=%u d=128, 2 threads", tokens);
    const int status =
        heads[0].bad || heads[1].bad
            ? kv_fail(err, KV_EMEMORY, "perf scale: out of memory for %u tokens", tokens)
            : kv_gain_measure(perf, name, &gain, err);
    for (int i = 0; i < 2; i++) kv_sweep_case_free(&heads[i]);
    return status;
}

int kv_perf_scale(struct kv_perf *perf, struct kv_error *err)
{
    int status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < sizeof ways / sizeof *ways; i++)
        status = measure(perf, &ways[i], err);
    return status == KV_OK ? measure_threads(perf, err) : status;
}
