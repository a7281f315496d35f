/* perf evict: what it costs to watch attention, beside the exact reference of the same layer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/large.h"
#include "harness/check/check_layer.h"
#include "harness/perf/benches.h"
#include "harness/perf/cached_tile.h"
#include "harness/perf/full_attention.h"
#include "harness/replay/prompt_statistics.h"
#include "harness/replay/replay.h"
#include "methods/spec/spec_wants.h"

enum { GROUP = 4 };

/* The weights of all queries again, their sums by key, when the log-sum-exps are known (perf.md
 * 3d). */
struct columns {
    struct kv_full_attention *attention;
    double *sums; /* [tokens], where a pool's begin: vectors do not straddle lines */
};

static double sum_columns(void *context)
{
    struct columns *columns = context;
    struct kv_full_attention *attention = columns->attention;
    memset(columns->sums, 0, attention->sweep.lines.n * sizeof *columns->sums);
    kv_sweep_weights(&attention->sweep, columns->sums, NULL, attention->scratch);
    return attention->sweep.rows.n;
}

/* A policy that observes, from a short prompt on: every later token is a step over the rows it
 * holds. */
struct online {
    const struct kv_layer *layer;
    const struct kv_kernels *kernels;
    struct kv_spec_list specs;
    uint32_t *scored;
    struct kv_answer_arrays answers;
    float *memory;
    struct kv_pool *states; /* of one replay after the other, as a thread of a run has it */
    int status;             /* of the last replay */
    struct kv_error error;
};

static int replay_prompt(struct online *online, struct kv_pool *pool, struct kv_replay *replay)
{
    struct kv_prompt *prompt = kv_pool_take(pool, sizeof *prompt);
    const struct kv_wants wants = kv_cache_wants(&online->specs.specs[0].caches[0]);
    if (!prompt) return kv_fail(&online->error, KV_EMEMORY, "out of memory for a replay");
    replay->prompts = prompt;
    int status =
        kv_prompt_compute(prompt, online->layer, 0, &wants, online->kernels, pool, &online->error);
    struct kv_replay_account account;
    if (status == KV_OK) status = kv_replay_group(replay, 1, &account, online->states, &online->error);
    kv_pool_empty(online->states);
    return status;
}

static double replay_online(void *context)
{
    struct online *online = context;
    const struct kv_geometry *geometry = &online->layer->info->geometry;
    struct kv_pool *pool = kv_pool_create(0);
    struct kv_replay replay = {.owner = online->layer,
                               .reader = online->layer,
                               .spec = &online->specs.specs[0],
                               .kernels = online->kernels,
                               .n_heads = 1,
                               .n_scored = geometry->tokens - geometry->prefill,
                               .scored = online->scored,
                               .seed = 1,
                               .answers = online->answers};
    online->status = pool ? replay_prompt(online, pool, &replay)
                          : kv_fail(&online->error, KV_EMEMORY, "out of memory for a replay");
    kv_pool_destroy(pool);
    return geometry->tokens * geometry->group;
}

static bool reserve_answers(struct online *online)
{
    const struct kv_geometry *geometry = &online->layer->info->geometry;
    const uint32_t steps = geometry->tokens - geometry->prefill;
    const size_t rows = (size_t)steps * geometry->group;
    online->scored = calloc(steps, sizeof *online->scored);
    const size_t bytes = rows * (geometry->value_dim + 4) * sizeof *online->memory;
    online->memory = kv_large_alloc(bytes);
    if (!online->scored || !online->memory) return false;
    memset(online->memory, 0, bytes);
    for (uint32_t i = 0; i < steps; i++) online->scored[i] = geometry->prefill + i;
    float *next = online->memory + rows * geometry->value_dim;
    online->answers = (struct kv_answer_arrays){.outputs = online->memory,
                                                .log_sum_exp = next,
                                                .divergence = next + rows,
                                                .held_mass = next + 2 * rows,
                                                .drift = next + 3 * rows};
    return true;
}

static const double columns_goal = 0.55, h2o_goal = 0.6;

/* Shares of the reference's time; whether they say why it is missed. */
static const char *verdict(double parts, double goal)
{
    return parts > goal ? "above the goal: out of reach for these kernels, whatever is around them"
                        : "within the goal, which shows no limit";
}

static void explain_columns(void *context, const struct kv_perf_seen *seen,
                            char reason[KV_PERF_REASON])
{
    const struct columns *columns = context;
    const struct kv_full_attention *attention = columns->attention;
    const double visible = (attention->sweep.lines.n + 1.0) / 2;
    struct kv_cached_tile tile;
    if (kv_cached_tile_create(&tile, attention->sweep.kernels, attention->layer->info->geometry.key_dim, true)) {
        const double parts = seen->limit * visible / kv_perf_best(kv_cached_tile_weights, &tile);
        snprintf(reason, KV_PERF_REASON,
                 "logits (%s) and exponentials of what a query sees, on a tile in the cache, take %.2f of the "
                 "reference, %s",
                 kv_product_way(attention->sweep.kernels), parts, verdict(parts, columns_goal));
    } else {
        snprintf(reason, KV_PERF_REASON, "no memory to look for a reason");
    }
    kv_cached_tile_free(&tile);
}

/* A step reads what the budget holds; the prompt's weights are summed once before. */
static void explain_online(void *context, const struct kv_perf_seen *seen,
                           char reason[KV_PERF_REASON])
{
    const struct online *online = context;
    const struct kv_geometry *geometry = &online->layer->info->geometry;
    const double all = (double)geometry->tokens * geometry->group, prompt = geometry->prefill;
    const double steps = (geometry->tokens - prompt) * geometry->group;
    struct kv_cached_tile tile;
    if (kv_cached_tile_create(&tile, online->kernels, geometry->key_dim, true)) {
        const double reference = all / seen->limit;
        const double pairs = prompt * (prompt + 1) / 2 * geometry->group;
        const double sums = pairs / kv_perf_best(kv_cached_tile_weights, &tile) / reference;
        const double held = steps * prompt / kv_perf_best(kv_cached_tile_answers, &tile) / reference;
        snprintf(reason, KV_PERF_REASON,
                 "on tiles in the cache (products %s), of the reference's time: weights of the prompt %.2f, "
                 "answers over the %.0f rows held %.2f, together %.2f, %s; the rest of %.2f is scores and "
                 "evictions, token by token",
                 kv_product_way(online->kernels), sums, prompt, held, sums + held,
                 verdict(sums + held, h2o_goal), seen->ratio);
    } else {
        snprintf(reason, KV_PERF_REASON, "no memory to look for a reason");
    }
    kv_cached_tile_free(&tile);
}

static int measure_columns(struct kv_perf *perf, struct kv_full_attention *attention,
                           const char *name, struct kv_error *err)
{
    struct columns columns = {attention, kv_large_alloc(attention->sweep.lines.n * sizeof(double))};
    if (!columns.sums) return kv_fail(err, KV_EMEMORY, "out of memory for column sums");
    kv_full_attention_run(attention); /* the log-sum-exps */
    char text[96];
    snprintf(text, sizeof text, "column sums %s", name);
    const struct kv_perf_case row = {.name = text,
                                     .unit = "Mquery/s",
                                     .unit_size = 1e6,
                                     .limit = {"reference", kv_full_attention_run, attention},
                                     .ours = {"column sums", sum_columns, &columns},
                                     .kind = KV_PERF_AT_MOST,
                                     .goal = columns_goal,
                                     .explain = explain_columns};
    const int status = kv_perf_measure(perf, &row, err);
    free(columns.sums);
    return status;
}

static int measure_online(struct kv_perf *perf, struct kv_full_attention *attention,
                          const char *policy, double goal, const char *name, struct kv_error *err)
{
    char text[96];
    struct online online = {.layer = attention->layer, .kernels = &perf->kernels, .states = kv_pool_create(0)};
    int status = kv_spec_parse(&online.specs, policy, err);
    if (status == KV_OK && (!online.states || !reserve_answers(&online)))
        status = kv_fail(err, KV_EMEMORY, "out of memory for answers");
    if (status == KV_OK) {
        snprintf(text, sizeof text, "%s %s", policy, name);
        const struct kv_perf_case row = {.name = text,
                                         .unit = "Mquery/s",
                                         .unit_size = 1e6,
                                         .limit = {"reference", kv_full_attention_run, attention},
                                         .ours = {"replay", replay_online, &online},
                                         .kind = KV_PERF_AT_MOST,
                                         .goal = goal,
                                         .explain = explain_online};
        status = kv_perf_measure(perf, &row, err);
    }
    if (status == KV_OK && online.status != KV_OK) status = online.status, *err = online.error;
    free(online.scored);
    free(online.memory);
    kv_pool_destroy(online.states);
    kv_spec_free(&online.specs);
    return status;
}

static int measure_shape(struct kv_perf *perf, uint32_t tokens, uint32_t dim, struct kv_error *err)
{
    const struct kv_check_shape shape = {.tokens = tokens,
                                         .prefill = tokens / 5,
                                         .kv_heads = 1,
                                         .group = GROUP,
                                         .key_dim = dim,
                                         .value_dim = dim,
                                         .dtype = KV_F16,
                                         .rows = KV_ROWS_NORMAL};
    struct kv_full_attention attention;
    int status = kv_full_attention_create(&attention, &shape, &perf->kernels, err);
    if (status != KV_OK) return status;
    char name[48], h2o[48], tova[48];
    snprintf(name, sizeof name, "T=%u d=%u", tokens, dim);
    snprintf(h2o, sizeof h2o, "h2o:budget=%u", tokens / 5);
    snprintf(tova, sizeof tova, "tova:budget=%u", tokens / 5);
    status = measure_columns(perf, &attention, name, err);
    if (status == KV_OK) status = measure_online(perf, &attention, h2o, h2o_goal, name, err);
    if (status == KV_OK) status = measure_online(perf, &attention, tova, 0, name, err);
    kv_full_attention_free(&attention);
    return status;
}

int kv_perf_evict(struct kv_perf *perf, struct kv_error *err)
{
    static const uint32_t own_tokens[] = {4096}, own_dims[] = {128};
    const struct kv_perf_sizes tokens =
        kv_perf_sizes(perf, &perf->options.tokens, own_tokens, 1, 320);
    const struct kv_perf_sizes dims = kv_perf_sizes(perf, &perf->options.dims, own_dims, 1, 32);
    int status = KV_OK;
    for (uint32_t t = 0; t < tokens.n; t++)
        for (uint32_t d = 0; status == KV_OK && d < dims.n; d++)
            status = measure_shape(perf, tokens.at[t], dims.at[d], err);
    return status;
}
