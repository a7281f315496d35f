/* perf e2e: a comparison of 20 methods from a trace file to rows (reading, exact reference, replay,
 * measures; 256 scored tokens), and the exact attention of all queries on top, beside that attention
 * alone. One thread. With --vs baselines/torch_plain.py the yardstick is plain attention, once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/perf/benches.h"
#include "harness/perf/full_attention.h"
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
};

static double compare_methods(void *context)
{
    struct comparison *work = context;
    char *const traces[] = {work->path};
    const struct kv_run_request request = {
        .specs = &work->specs, .traces = traces, .n_traces = 1, .isa = work->perf->kernels.isa, .threads = 1,
        .seed = 1, .seeds = 1, .queries = work->queries, .no_verify = true};
    struct kv_results results = {0};
    const int status = kv_run(&request, &results, &work->error);
    if (status != KV_OK) work->status = status;
    kv_results_free(&results);
    return kv_full_attention_run(&work->attention);
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
        .kind = KV_PERF_NO_GOAL, .yardstick_goal = 2.5, .shape = shape, .shape_work = (double)tokens * GROUP};
    if (status == KV_OK) status = kv_perf_measure(perf, &row, err);
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
