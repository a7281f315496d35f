/* perf e2e: a comparison of 20 methods from a trace file to rows (reading, exact reference, replay,
 * measures; 256 scored tokens), and the exact attention of all queries on top, beside that attention
 * alone. One thread. With --vs baselines/torch_plain.py the yardstick is plain attention, once.
 * Of the same comparison: what is no stage of the work, what a second run spends on the reference that
 * the first one kept, and how much memory it takes (the program itself, run once more). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/perf/benches.h"
#include "harness/perf/child.h"
#include "harness/perf/full_attention.h"
#include "harness/perf/load.h"
#include "harness/perf/made_trace.h"
#include "harness/run.h"
#include "harness/row.h"

enum { GROUP = 4, SCORED = 256 };

static const char twenty[] =
    "f16,bf16,int:bits=8,int:bits=4,int:bits=2,kivi:bits=4,kivi:bits=2,turboquant:bits=4,"
    "turboquant:bits=3,turboquant:bits=2,q8_0,q4_0,svd:rank=32,int:bits=4:rotate=hadamard,"
    "window:budget=0.2,streaming:budget=0.2,knorm:budget=0.2,keydiff:budget=0.2,snapkv:budget=0.2,"
    "h2o:budget=0.2";

struct comparison {
    struct kv_perf *perf;
    struct kv_full_attention attention;
    struct kv_spec_list specs;
    char path[64];
    uint32_t queries;
    int status;                        /* of the last run */
    struct kv_error error;
    struct kv_profile profile;         /* of the last run, as all below */
    double wall_seconds;
    int64_t state_bytes;               /* of the method that takes most */
};

static void keep_figures(struct comparison *work, const struct kv_results *results)
{
    work->profile = results->profile;
    work->wall_seconds = results->wall_seconds;
    work->state_bytes = 0;
    for (uint32_t c = 0; c < results->n_cells; c++)
        if (results->cells[c].allocated_bytes > work->state_bytes)
            work->state_bytes = results->cells[c].allocated_bytes;
}

static void run_methods(struct comparison *work, bool verified)
{
    char *const traces[] = {work->path};
    const struct kv_run_request request = {
        .specs = &work->specs, .traces = traces, .n_traces = 1, .isa = work->perf->kernels.isa, .threads = 1,
        .seed = 1, .seeds = 1, .queries = work->queries, .no_verify = !verified};
    struct kv_results results = {0};
    const int status = kv_run(&request, &results, &work->error);
    if (status != KV_OK) work->status = status;
    keep_figures(work, &results);
    kv_results_free(&results);
}

static double compare_methods(void *context)
{
    struct comparison *work = context;
    run_methods(work, false);
    return kv_full_attention_run(&work->attention);
}

/* Where the last comparison's time went. */
static void explain(void *context, char reason[KV_PERF_REASON])
{
    const struct comparison *work = context;
    const double *seconds = work->profile.seconds;
    snprintf(reason, KV_PERF_REASON,
             "of %.2f s: reading %.0f %%, reference of scored queries %.0f %%, prompt statistics %.0f %%, "
             "20 replays %.0f %%, measures %.0f %%",
             work->wall_seconds, 100 * (seconds[KV_STAGE_OPEN] + seconds[KV_STAGE_READ]) / work->wall_seconds,
             100 * (seconds[KV_STAGE_REFERENCE] + seconds[KV_STAGE_AUDIT]) / work->wall_seconds,
             100 * seconds[KV_STAGE_PROMPT] / work->wall_seconds,
             100 * seconds[KV_STAGE_REPLAY] / work->wall_seconds,
             100 * seconds[KV_STAGE_MEASURE] / work->wall_seconds);
}

/* -- shares of the run, and its memory ---------------------------------------------------------- */

struct series { double *limits, *ours; uint32_t n; };

static double outside_stages(const struct comparison *work)
{
    double rest = work->wall_seconds;
    for (int s = 0; s < KV_STAGES; s++) rest -= work->profile.seconds[s];
    return rest;
}

static int measure_overhead(struct comparison *work, struct series *series, const char *name, struct kv_error *err)
{
    const struct kv_load before = kv_load_read(0);
    for (uint32_t i = 0; i < series->n; i++) {
        run_methods(work, false);
        series->limits[i] = work->wall_seconds, series->ours[i] = outside_stages(work);
    }
    const struct kv_perf_case row = {.name = name, .unit = "s", .unit_size = 1, .limit = {"run", NULL, NULL},
                                     .ours = {"outside stages", NULL, NULL}, .kind = KV_PERF_AT_MOST, .goal = 0.05};
    return kv_perf_compare(work->perf, &row, series->limits, series->ours, series->n, &before, err);
}

/* Each take computes and keeps the reference in a folder of its own, then runs again. */
static int measure_kept(struct comparison *work, struct series *series, const char *name, struct kv_error *err)
{
    const struct kv_load before = kv_load_read(0);
    const char *user = getenv("KVBENCH_CACHE");
    char *own = user ? strdup(user) : NULL, folder[KV_CHILD_PATH];
    const uint32_t n_specs = work->specs.n;
    int status = KV_OK;
    work->specs.n = 1;
    for (uint32_t i = 0; status == KV_OK && i < series->n; i++) {
        status = kv_child_folder(folder, err);
        if (status != KV_OK) break;
        setenv("KVBENCH_CACHE", folder, 1);
        run_methods(work, true);
        series->limits[i] = work->profile.seconds[KV_STAGE_REFERENCE];
        run_methods(work, true);
        series->ours[i] = work->profile.seconds[KV_STAGE_REFERENCE];
        kv_child_remove(folder);
    }
    if (own) setenv("KVBENCH_CACHE", own, 1);
    else unsetenv("KVBENCH_CACHE");
    free(own);
    work->specs.n = n_specs;
    if (status != KV_OK) return status;
    const struct kv_perf_case row = {.name = name, .unit = "s", .unit_size = 1, .limit = {"first run", NULL, NULL},
                                     .ours = {"kept reference", NULL, NULL}, .kind = KV_PERF_AT_MOST, .goal = 0.01};
    return kv_perf_compare(work->perf, &row, series->limits, series->ours, series->n, &before, err);
}

/* The allowance: Q, K and V of two layers as recorded, 4 MiB and one method state a thread. */
static int measure_memory(struct comparison *work, struct series *series, const char *name, struct kv_error *err)
{
    const struct kv_load before = kv_load_read(0);
    const struct kv_geometry *geometry = &work->attention.layer->info->geometry;
    const double layer = 2.0 * geometry->tokens * geometry->key_dim * (geometry->q_heads + 2.0 * geometry->kv_heads);
    char queries[16], folder[KV_CHILD_PATH];
    snprintf(queries, sizeof queries, "%u", work->queries);
    int status = kv_child_folder(folder, err);
    if (status != KV_OK) return status;
    const char *const idle[] = {"info", work->path, NULL};   /* opens it, and reads through it once */
    const char *const run[] = {"run",         "--trace", work->path, "--methods", twenty,       "--queries",
                               queries,       "--out",   folder,     "--threads", "1",          "--no-plots",
                               "--no-verify", "--quiet", "--isa",    work->perf->kernels.isa, NULL};
    for (uint32_t i = 0; i < series->n; i++) {
        const double base = kv_child_memory(idle), all = kv_child_memory(run);
        series->limits[i] = 2 * layer + 4 * 1048576.0 + (double)work->state_bytes;
        series->ours[i] = all - base;
    }
    kv_child_remove(folder);
    if (isnan(series->ours[0])) return kv_perf_skip(work->perf, name, "the program could not be run once more", err);
    const struct kv_perf_case row = {.name = name, .unit = "MiB", .unit_size = 1048576.0,
                                     .limit = {"allowance", NULL, NULL}, .ours = {"peak, less the idle program", NULL, NULL},
                                     .kind = KV_PERF_AT_MOST, .goal = 1};
    return kv_perf_compare(work->perf, &row, series->limits, series->ours, series->n, &before, err);
}

static int measure_shares(struct comparison *work, const char shape[64], struct kv_error *err)
{
    const uint32_t n = work->perf->options.repeats < 3 ? work->perf->options.repeats : 3;
    double *memory = calloc(2 * (size_t)n, sizeof *memory);
    if (!memory) return kv_fail(err, KV_EMEMORY, "perf e2e: out of memory");
    struct series series = {memory, memory + n, n};
    char name[128];
    snprintf(name, sizeof name, "outside stages %s", shape);
    int status = measure_overhead(work, &series, name, err);
    snprintf(name, sizeof name, "kept reference %s", shape);
    if (status == KV_OK) status = measure_kept(work, &series, name, err);
    snprintf(name, sizeof name, "memory %s", shape);
    if (status == KV_OK) status = measure_memory(work, &series, name, err);
    free(memory);
    return status;
}

static int create(struct comparison *work, uint32_t tokens, uint32_t dim, struct kv_error *err)
{
    const struct kv_check_shape shape = {
        .tokens = tokens, .prefill = tokens - work->queries, .kv_heads = 1, .group = GROUP, .key_dim = dim,
        .value_dim = dim, .dtype = KV_F16, .rows = KV_ROWS_NORMAL};
    const struct kv_made_trace made = {.tokens = tokens, .prefill = tokens - work->queries, .layers = 1,
                                       .q_heads = GROUP, .kv_heads = 1, .dim = dim};
    int status = kv_spec_parse(&work->specs, twenty, err);
    if (status == KV_OK) status = kv_made_trace_write(&made, work->path, sizeof work->path, err);
    if (status == KV_OK)
        status = kv_full_attention_create(&work->attention, &shape, &work->perf->kernels, err);
    return status;
}

static int measure(struct kv_perf *perf, uint32_t tokens, uint32_t dim, struct kv_error *err)
{
    struct comparison work = {.perf = perf, .queries = perf->options.tiny ? 16 : SCORED};
    char name[96], shape[96];
    int status = create(&work, tokens, dim, err);
    snprintf(name, sizeof name, "%u methods + reference T=%u d=%u", work.specs.n, tokens, dim);
    snprintf(shape, sizeof shape, "tokens=%u dim=%u heads=%d kv_heads=1", tokens, dim, GROUP);
    const struct kv_perf_case row = {
        .name = name, .unit = "query/ms", .unit_size = 1e3,
        .limit = {"reference", kv_full_attention_run, &work.attention},
        .ours = {"comparison", compare_methods, &work},
        .kind = KV_PERF_NO_GOAL, .yardstick_goal = 2.5, .shape = shape, .shape_work = (double)tokens * GROUP,
        .explain = explain};
    if (status == KV_OK) status = kv_perf_measure(perf, &row, err);
    char short_shape[64];
    snprintf(short_shape, sizeof short_shape, "T=%u d=%u", tokens, dim);
    if (status == KV_OK) status = measure_shares(&work, short_shape, err);
    if (status == KV_OK && work.status != KV_OK) status = work.status, *err = work.error;
    kv_full_attention_free(&work.attention);
    kv_made_trace_remove(work.path);
    kv_spec_free(&work.specs);
    return status;
}

int kv_perf_e2e(struct kv_perf *perf, struct kv_error *err)
{
    static const uint32_t own_tokens[] = {4096}, own_dims[] = {128};
    const struct kv_perf_sizes tokens = kv_perf_sizes(perf, &perf->options.tokens, own_tokens, 1, 320);
    const struct kv_perf_sizes dims = kv_perf_sizes(perf, &perf->options.dims, own_dims, 1, 64);
    int status = KV_OK;
    for (uint32_t t = 0; t < tokens.n; t++)
        for (uint32_t d = 0; status == KV_OK && d < dims.n; d++) {
            if (tokens.at[t] <= SCORED)
                return kv_fail(err, KV_EUSAGE, "perf e2e: expected more than %d tokens", SCORED);
            status = measure(perf, tokens.at[t], dims.at[d], err);
        }
    return status;
}
