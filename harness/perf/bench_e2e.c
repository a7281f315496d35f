/* perf e2e: a comparison of 20 methods from a trace file to rows (reading, exact reference, replay,
 * measures; 256 scored tokens), and the exact attention of all queries on top, beside that
 * attention alone. One thread. With --vs baselines/torch_plain.py the yardstick is plain attention,
 * once. Then all positions scored, but for a prompt of PROMPT tokens. Of the comparison: what is no
 * stage of the work, what a second run spends on the reference that the first one kept, and how
 * much memory it takes (the program itself, run once more). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/perf/benches.h"
#include "harness/perf/cached_tile.h"
#include "harness/perf/child.h"
#include "harness/perf/full_attention.h"
#include "harness/perf/made_trace.h"
#include "harness/run/run.h"
#include "harness/output/row.h"

enum { GROUP = 4, SCORED = 256, PROMPT = 64 };

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
    int status; /* of the last run */
    struct kv_error error;
    struct kv_profile profile; /* of the last run, as all below */
    double wall_seconds;
    double read_tokens;  /* by a query in the middle, of all methods */
    int64_t state_bytes; /* of the method that takes most */
    double idle_bytes;   /* of the program that only opened the trace */
};

static void keep_figures(struct comparison *work, const struct kv_results *results)
{
    work->profile = results->profile;
    work->wall_seconds = results->wall_seconds;
    work->state_bytes = 0, work->read_tokens = 0;
    for (uint32_t c = 0; c < results->n_cells; c++) {
        const struct kv_cell *cell = &results->cells[c];
        if (cell->allocated_bytes > work->state_bytes) work->state_bytes = cell->allocated_bytes;
        const double kept = cell->row.kept_tokens, queries = work->queries;
        if (kept > 0) work->read_tokens += kept > queries ? kept - queries / 2 : kept;
    }
}

static int run_methods(struct comparison *work, bool verified)
{
    char *const traces[] = {work->path};
    const struct kv_run_request request = {.specs = &work->specs,
                                           .traces = traces,
                                           .n_traces = 1,
                                           .isa = work->perf->kernels.isa,
                                           .threads = 1,
                                           .seed = 1,
                                           .seeds = 1,
                                           .queries = work->queries,
                                           .no_verify = !verified};
    struct kv_results results = {0};
    const int status = kv_run(&request, &results, &work->error);
    if (status != KV_OK) work->status = status;
    keep_figures(work, &results);
    kv_results_free(&results);
    return status;
}

/* For those who have to hand an error on. */
static int run_or_fail(struct comparison *work, bool verified, struct kv_error *err)
{
    const int status = run_methods(work, verified);
    if (status != KV_OK) *err = work->error;
    return status;
}

static double compare_methods(void *context)
{
    struct comparison *work = context;
    run_methods(work, false);
    return kv_full_attention_run(&work->attention);
}

/* Queries of all heads and tokens. */
static double work_of(const struct comparison *work)
{
    return (double)work->attention.layer->info->geometry.tokens * GROUP;
}

static double compare_everywhere(void *context)
{
    struct comparison *work = context;
    run_methods(work, false);
    return work_of(work);
}

/* Stages that hold a share of the last run. */
static double share(const struct comparison *work, enum kv_stage_of_run one,
                    enum kv_stage_of_run other)
{
    const double *seconds = work->profile.seconds;
    return 100 * (seconds[one] + (other != one ? seconds[other] : 0)) / work->wall_seconds;
}

/* Products that a comparison cannot do without: 4 dim operations for each (query, key) pair of each
 * method's answers over the rows that it keeps, 2 dim for the exact weights that answers are compared
 * with, once where they are kept and again for each method where not (reading them from memory would
 * take a set that multiplies bfloats as long), and 2 dim for the column sums of the prompt, which one
 * method asks for. Every exact answer is 4 dim, too: those of all queries where `full`. Each logit is
 * followed by an exponential. */
struct products {
    double reference, answers, distances, again, columns; /* GFLOP */
    double all, logits;                                   /* GFLOP; thousands of millions */
};

static struct products products_of(const struct comparison *work, bool full)
{
    const struct kv_geometry *geometry = &work->attention.layer->info->geometry;
    const double tokens = geometry->tokens, dim = geometry->key_dim, late = work->queries / 2.0;
    const double rows = (double)work->queries * GROUP, prompt = tokens - work->queries;
    const double pairs = GROUP * tokens * (tokens + 1) / 2, scored = rows * (tokens - late);
    struct products products = {.reference = 4e-9 * dim * (full ? pairs : scored),
                                .answers = 4e-9 * dim * rows * work->read_tokens,
                                .distances = 2e-9 * dim * scored,
                                .again = 2e-9 * dim * (double)work->profile.logits_again,
                                .columns = 2e-9 * dim * GROUP * prompt * (prompt + 1) / 2};
    const double whole = products.reference + products.answers,
                 half = products.distances + products.again + products.columns;
    products.all = whole + half;
    products.logits = (whole / 2 + half) / (2 * dim);
    return products;
}

enum { WEIGHTS = 1 << 14 };

/* Rows of a tile, in the cache. */
struct weights {
    const struct kv_kernels *kernels;
    float logits[WEIGHTS];
};

static double exponentiate(void *context)
{
    enum { COLUMNS = 256 };
    struct weights *weights = context;
    for (int at = 0; at < WEIGHTS; at += COLUMNS)
        weights->kernels->exp_sum(weights->logits + at, COLUMNS, 1, 1);
    return WEIGHTS;
}

static double exponential_rate(const struct kv_kernels *kernels)
{
    static struct weights weights;
    weights.kernels = kernels;
    return kv_perf_best(exponentiate, &weights) / 1e9;
}

enum { GOAL_TEXT = 160 };

/* Seconds asked for, and what share of them products at the fastest rate known are, where that is more than perf attn
 * asks of plain attention. */
static void tell_goal(const struct comparison *work, double goal_seconds, double products, char text[GOAL_TEXT])
{
    const struct kv_kernels *kernels = &work->perf->kernels;
    const double share = products / goal_seconds,
                 asked = kv_full_attention_goal(kernels, work->attention.layer->info->geometry.key_dim);
    snprintf(text, GOAL_TEXT, "goal unknown without --vs baselines/torch_plain.py");
    if (isnan(goal_seconds)) return;
    const int used = snprintf(text, GOAL_TEXT, "goal %.2f s", goal_seconds);
    if (share > asked && !kernels->ready_cell)
        snprintf(text + used, (size_t)(GOAL_TEXT - used),
                 ", %.2f of it products: more than the %.2f that attention alone is asked for", share, asked);
}

/* By the fastest products that are known here, against the goal. Then where the last comparison's time
 * went. */
static void explain_products(const struct comparison *work, bool full, double goal_seconds,
                             char reason[KV_PERF_REASON])
{
    const struct products products = products_of(work, full);
    const struct kv_product_rate fastest =
        kv_product_rate(&work->perf->kernels, work->attention.layer->info->geometry.key_dim);
    const double seconds = 1e9 * products.all / fastest.flops,
                 weights = products.logits / exponential_rate(&work->perf->kernels);
    char goal[GOAL_TEXT];
    tell_goal(work, goal_seconds, seconds, goal);
    snprintf(reason, KV_PERF_REASON,
             "GFLOP of reference %.1f + answers over kept rows %.1f + exact weights %.1f, again where "
             "they are not kept (they would be read from memory) %.1f, + column sums %.1f take %.2f s at %.0f "
             "GFLOP/s, the rate of %s, their exponentials %.2f more by the fastest loop known: %.2f s; "
             "%s; of %.2f s%s: reading %.0f %%, scored reference %.0f %%, prompt %.0f %%, replays "
             "%.0f %%, measures %.0f %%",
             products.reference, products.answers, products.distances, products.again,
             products.columns, seconds, fastest.flops / 1e9, fastest.by, weights, seconds + weights, goal,
             work->wall_seconds, full ? " beside all queries' reference" : "",
             share(work, KV_STAGE_OPEN, KV_STAGE_READ),
             share(work, KV_STAGE_REFERENCE, KV_STAGE_AUDIT),
             share(work, KV_STAGE_PROMPT, KV_STAGE_PROMPT),
             share(work, KV_STAGE_REPLAY, KV_STAGE_REPLAY),
             share(work, KV_STAGE_MEASURE, KV_STAGE_MEASURE));
}

static void explain(void *context, const struct kv_perf_seen *seen, char reason[KV_PERF_REASON])
{
    const struct comparison *work = context;
    explain_products(work, true, 0.4 * work_of(work) / seen->yardstick, reason);
}

static void explain_everywhere(void *context, const struct kv_perf_seen *seen,
                               char reason[KV_PERF_REASON])
{
    const struct comparison *work = context;
    explain_products(work, false, 3 * work_of(work) / seen->yardstick, reason);
}

/* -- what is no stage of the work ------------------------------------------------------------- */

static double outside_stages(const struct comparison *work)
{
    double rest = work->wall_seconds;
    for (int s = 0; s < KV_STAGES; s++) rest -= work->profile.seconds[s];
    return rest;
}

static int sample_overhead(void *context, double *limit, double *ours, struct kv_error *err)
{
    struct comparison *work = context;
    const int status = run_or_fail(work, false, err);
    *limit = work->wall_seconds, *ours = outside_stages(work);
    return status;
}

static void explain_overhead(void *context, const struct kv_perf_seen *seen,
                             char reason[KV_PERF_REASON])
{
    struct comparison *work = context;
    const uint32_t n_specs = work->specs.n;
    work->specs.n = 1;
    run_methods(work, false);
    work->specs.n = n_specs;
    const double one = outside_stages(work);
    snprintf(reason, KV_PERF_REASON,
             "outside stages (kernels' choice, specs, rows): %.2f ms of a run of one method, %.3f "
             "ms for each "
             "more",
             1e3 * one, n_specs > 1 ? 1e3 * (seen->ours - one) / (n_specs - 1) : 0);
}

/* -- the reference that an earlier run kept --------------------------------------------------- */

enum { AGAIN = 9 };

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Computes and keeps the reference in a folder of its own, then runs again: what is over in less
 * than a millisecond has to be seen more than once. */
static int run_again(struct comparison *work, double *first, double *again, struct kv_error *err)
{
    char folder[KV_CHILD_PATH];
    double seconds[AGAIN];
    int status = kv_child_folder(folder, err);
    if (status != KV_OK) return status;
    setenv("KVBENCH_CACHE", folder, 1);
    status = run_or_fail(work, true, err);
    *first = work->profile.seconds[KV_STAGE_REFERENCE];
    for (int i = 0; status == KV_OK && i < AGAIN; i++) {
        status = run_or_fail(work, true, err);
        seconds[i] = work->profile.seconds[KV_STAGE_REFERENCE];
    }
    kv_child_remove(folder);
    if (status != KV_OK) return status;
    qsort(seconds, AGAIN, sizeof *seconds, by_size);
    *again = seconds[AGAIN / 2];
    return KV_OK;
}

/* Of a method that is soon done. */
static int sample_kept(void *context, double *limit, double *ours, struct kv_error *err)
{
    struct comparison *work = context;
    const char *user = getenv("KVBENCH_CACHE");
    char *own = user ? strdup(user) : NULL;
    const struct kv_spec_list all = work->specs;
    int status = kv_spec_parse(&work->specs, "window:budget=0.02", err);
    if (status == KV_OK) status = run_again(work, limit, ours, err);
    kv_spec_free(&work->specs);
    work->specs = all;
    if (own)
        setenv("KVBENCH_CACHE", own, 1);
    else
        unsetenv("KVBENCH_CACHE");
    free(own);
    return status;
}

static void explain_kept(void *context, const struct kv_perf_seen *seen,
                         char reason[KV_PERF_REASON])
{
    const struct comparison *work = context;
    const struct kv_geometry *geometry = &work->attention.layer->info->geometry;
    const size_t floats = (size_t)work->queries * geometry->q_heads * (geometry->value_dim + 1);
    float *answers = kv_perf_normals(floats, 1);
    struct kv_perf_buffer buffer = kv_perf_buffer_of(answers, answers ? floats * sizeof *answers : 0);
    const double read = (double)buffer.bytes / kv_perf_best(kv_perf_read, &buffer);
    snprintf(reason, KV_PERF_REASON,
             "%.2f MB of answers are mapped and their checksum is taken in %.3f ms; reading as much "
             "memory takes %.3f ms, and the goal is %.3f ms",
             1e-6 * (double)buffer.bytes, 1e3 * seen->ours, 1e3 * read, 1e1 * seen->limit);
    free(answers);
}

/* -- memory ----------------------------------------------------------------------------------- */

static double allowance(const struct comparison *work)
{
    const struct kv_geometry *geometry = &work->attention.layer->info->geometry;
    const double layer =
        2.0 * geometry->tokens * geometry->key_dim * (geometry->q_heads + 2.0 * geometry->kv_heads);
    return 2 * layer + 4 * 1048576.0 + (double)work->state_bytes;
}

/* The allowance: Q, K and V of two layers as recorded, 4 MiB and one method state a thread. */
static int sample_memory(void *context, double *limit, double *ours, struct kv_error *err)
{
    struct comparison *work = context;
    char queries[16], folder[KV_CHILD_PATH];
    snprintf(queries, sizeof queries, "%u", work->queries);
    const int status = kv_child_folder(folder, err);
    if (status != KV_OK) return status;
    const char *const idle[] = {"info", work->path, NULL}; /* opens it, and reads through it once */
    const char *const run[] = {"run",         "--trace",   work->path, "--methods",
                               twenty,        "--queries", queries,    "--out",
                               folder,        "--threads", "1",        "--no-plots",
                               "--no-verify", "--quiet",   "--isa",    work->perf->kernels.isa,
                               NULL};
    work->idle_bytes = kv_child_memory(idle);
    *limit = allowance(work), *ours = kv_child_memory(run) - work->idle_bytes;
    kv_child_remove(folder);
    return isnan(*ours) ? kv_fail(err, KV_EUNSUPPORTED, "the program could not be run once more")
                        : KV_OK;
}

static void explain_memory(void *context, const struct kv_perf_seen *seen,
                           char reason[KV_PERF_REASON])
{
    const struct comparison *work = context;
    double mib[KV_MEMORY_CLASSES], all = (double)work->state_bytes / 1048576;
    for (int m = 0; m < KV_MEMORY_CLASSES; m++) {
        mib[m] = (double)work->profile.bytes[m] / 1048576;
        all += mib[m];
    }
    snprintf(reason, KV_PERF_REASON,
             "MiB of each kind at most, not all at once: layers as recorded %.1f, prompt "
             "statistics %.1f, "
             "reference %.1f, exact logits that methods share %.1f, answers of the methods under "
             "way %.1f, "
             "largest method state %.1f, together %.1f; found %.1f above the idle program's %.1f",
             mib[KV_MEMORY_LAYERS], mib[KV_MEMORY_PROMPT], mib[KV_MEMORY_REFERENCE],
             mib[KV_MEMORY_LOGITS], mib[KV_MEMORY_ANSWERS], (double)work->state_bytes / 1048576,
             all, seen->ours / 1048576, work->idle_bytes / 1048576);
}

static int measure_shares(struct comparison *work, const char shape[64], struct kv_error *err)
{
    const struct {
        const char *name, *unit, *limit, *ours;
        double unit_size, goal;
        uint32_t turns;
        kv_perf_sample *sample;
        kv_perf_explain *explain;
    } shares[] = {
        {"memory", "MiB", "allowance", "peak, less the idle program", 1048576.0, 1, 3,
         sample_memory, explain_memory},
        {"outside stages", "s", "run", "outside stages", 1, 0.05, 3, sample_overhead,
         explain_overhead},
        {"kept reference", "s", "first run", "kept reference", 1, 0.01, 0, sample_kept,
         explain_kept},
    };
    int status = KV_OK; /* memory first: it looks at the last run of all methods */
    for (size_t i = 0; status == KV_OK && i < sizeof shares / sizeof *shares; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s %s", shares[i].name, shape);
        const struct kv_perf_case row = {.name = name,
                                         .unit = shares[i].unit,
                                         .unit_size = shares[i].unit_size,
                                         .limit = {shares[i].limit, NULL, NULL},
                                         .ours = {shares[i].ours, NULL, work},
                                         .sample = shares[i].sample,
                                         .kind = KV_PERF_AT_MOST,
                                         .goal = shares[i].goal,
                                         .most_turns = shares[i].turns,
                                         .explain = shares[i].explain};
        status = kv_perf_measure(work->perf, &row, err);
        if (status == KV_EUNSUPPORTED) status = kv_perf_skip(work->perf, name, err->text, err);
    }
    return status;
}

static int create(struct comparison *work, uint32_t tokens, uint32_t dim, struct kv_error *err)
{
    const struct kv_check_shape shape = {.tokens = tokens,
                                         .prefill = tokens - work->queries,
                                         .kv_heads = 1,
                                         .group = GROUP,
                                         .key_dim = dim,
                                         .value_dim = dim,
                                         .dtype = KV_F16,
                                         .rows = KV_ROWS_NORMAL};
    const struct kv_made_trace made = {.tokens = tokens,
                                       .prefill = tokens - work->queries,
                                       .layers = 1,
                                       .q_heads = GROUP,
                                       .kv_heads = 1,
                                       .dim = dim};
    int status = kv_spec_parse(&work->specs, twenty, err);
    if (status == KV_OK) status = kv_made_trace_write(&made, work->path, sizeof work->path, err);
    if (status == KV_OK)
        status = kv_full_attention_create(&work->attention, &shape, &work->perf->kernels, err);
    return status;
}

static void destroy(struct comparison *work)
{
    kv_full_attention_free(&work->attention);
    kv_made_trace_remove(work->path);
    kv_spec_free(&work->specs);
}

/* One of the two rows of a comparison as a whole. */
static int measure_whole(struct comparison *work, const struct kv_perf_case *wanted,
                         const char *what, struct kv_error *err)
{
    const struct kv_geometry *geometry = &work->attention.layer->info->geometry;
    char name[96], shape[96];
    snprintf(name, sizeof name, "%u methods%s T=%u d=%u", work->specs.n, what, geometry->tokens,
             geometry->key_dim);
    snprintf(shape, sizeof shape, "tokens=%u dim=%u heads=%d kv_heads=1", geometry->tokens,
             geometry->key_dim, GROUP);
    struct kv_perf_case row = *wanted;
    row.name = name, row.shape = shape, row.shape_work = work_of(work);
    row.unit = "query/ms", row.unit_size = 1e3, row.kind = KV_PERF_NO_GOAL;
    row.limit = (struct kv_perf_side){"reference", kv_full_attention_run, &work->attention};
    const int status = kv_perf_measure(work->perf, &row, err);
    if (status == KV_OK && work->status != KV_OK) *err = work->error;
    return status == KV_OK ? work->status : status;
}

static int measure(struct kv_perf *perf, uint32_t tokens, uint32_t dim, struct kv_error *err)
{
    struct comparison work = {.perf = perf, .queries = perf->options.tiny ? 16 : SCORED};
    const struct kv_perf_case row = {
        .ours = {"comparison", compare_methods, &work}, .yardstick_goal = 2.5, .explain = explain};
    char short_shape[64];
    snprintf(short_shape, sizeof short_shape, "T=%u d=%u", tokens, dim);
    int status = create(&work, tokens, dim, err);
    if (status == KV_OK) status = measure_whole(&work, &row, " + reference", err);
    if (status == KV_OK) status = measure_shares(&work, short_shape, err);
    destroy(&work);
    return status;
}

/* Every answer takes as long as a method's of the other comparison takes for all: few turns. */
static int measure_everywhere(struct kv_perf *perf, uint32_t tokens, uint32_t dim,
                              struct kv_error *err)
{
    struct comparison work = {.perf = perf, .queries = tokens - PROMPT};
    const struct kv_perf_case row = {.ours = {"comparison", compare_everywhere, &work},
                                     .yardstick_goal = 1.0 / 3,
                                     .most_turns = 2,
                                     .explain = explain_everywhere};
    int status = create(&work, tokens, dim, err);
    if (status == KV_OK) status = measure_whole(&work, &row, ", all positions", err);
    destroy(&work);
    return status;
}

int kv_perf_e2e(struct kv_perf *perf, struct kv_error *err)
{
    static const uint32_t own_tokens[] = {4096}, own_dims[] = {128};
    const struct kv_perf_sizes tokens =
        kv_perf_sizes(perf, &perf->options.tokens, own_tokens, 1, 320);
    const struct kv_perf_sizes dims = kv_perf_sizes(perf, &perf->options.dims, own_dims, 1, 64);
    int status = KV_OK;
    for (uint32_t t = 0; t < tokens.n; t++)
        for (uint32_t d = 0; status == KV_OK && d < dims.n; d++) {
            if (tokens.at[t] <= SCORED)
                return kv_fail(err, KV_EUSAGE, "perf e2e: expected more than %d tokens", SCORED);
            status = measure(perf, tokens.at[t], dims.at[d], err);
            if (status == KV_OK) status = measure_everywhere(perf, tokens.at[t], dims.at[d], err);
        }
    return status;
}
