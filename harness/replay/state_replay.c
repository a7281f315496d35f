/* Answers without rows; see state_replay.h. */
#include "harness/replay/state_replay.h"

#include <math.h>

#include "harness/replay/query_rows.h"

struct walk { /* of one KV head */
    const struct kv_replay *replay;
    struct kv_pool *pool;
    struct kv_state *state;
    uint32_t head;
    float *key, *value; /* of a token */
    float *queries;     /* [group][key_dim] of a token */
};

/* The rows that the fit sees: of the prompt, or of a calibration. */
static struct kv_fit_rows fit_rows(const struct kv_replay *replay)
{
    if (replay->calibration) return *replay->calibration;
    const struct kv_layer *owner = replay->owner;
    return (struct kv_fit_rows){.source = {.geometry = &owner->info->geometry,
                                           .keys = &owner->k,
                                           .values = &owner->v,
                                           .queries = &owner->q},
                                .n = owner->info->geometry.prefill};
}

static int fit(struct walk *walk, struct kv_error *err)
{
    const struct kv_geometry *geometry = &walk->replay->owner->info->geometry;
    const struct kv_fit_rows from = fit_rows(walk->replay);
    if (kv_pool_used(walk->pool, KV_BASIS_ONLINE) == 0) return KV_OK; /* nothing is to be found */
    const int status = kv_fit_rows_check(&from, geometry, walk->state->type->name, err);
    if (status != KV_OK || !walk->state->type->fit) return status;
    const uint32_t dim = geometry->key_dim, width = dim + geometry->value_dim,
                   group = geometry->group;
    float *rows = kv_pool_take(walk->pool, (size_t)from.n * width * sizeof *rows);
    float *queries = kv_pool_take(walk->pool, (size_t)from.n * group * dim * sizeof *queries);
    uint32_t *positions = kv_pool_take(walk->pool, from.n * sizeof *positions);
    if (!rows || !queries || !positions)
        return kv_fail(err, KV_EMEMORY, "out of memory for the rows of a fit");
    for (uint32_t i = 0; i < from.n; i++) {
        float *row = rows + (size_t)i * width;
        positions[i] = from.first + i;
        kv_tensor_widen(from.source.keys, walk->head, positions[i], 1, row);
        kv_tensor_widen(from.source.values, walk->head, positions[i], 1, row + dim);
    }
    for (uint32_t g = 0; g < group; g++)
        kv_tensor_widen(from.source.queries, walk->head * group + g, from.first, from.n,
                        queries + (size_t)g * from.n * dim);
    const struct kv_sample sample = {.n = from.n,
                                     .rows = rows,
                                     .positions = positions,
                                     .queries = queries,
                                     .n_queries = group * from.n};
    return walk->state->type->fit(walk->state, &sample, err);
}

static void append(struct walk *walk, uint32_t t)
{
    const struct kv_layer *owner = walk->replay->owner;
    kv_widen_rows(&owner->k, walk->head, t, 1, walk->replay->kernels, walk->key);
    kv_widen_rows(&owner->v, walk->head, t, 1, walk->replay->kernels, walk->value);
    walk->state->type->append(walk->state, walk->key, walk->value);
}

/* No rows, no weights: what is said of them is not known. */
static void answer(struct walk *walk, uint32_t t, uint32_t scored)
{
    const struct kv_replay *replay = walk->replay;
    const struct kv_geometry *geometry = &replay->reader->info->geometry;
    const struct kv_answer_arrays *out = &replay->answers;
    const size_t first = ((size_t)walk->head * replay->n_scored + scored) * geometry->group;
    kv_widen_queries(replay->reader, walk->head, &t, 1, replay->kernels, walk->queries);
    for (uint32_t g = 0; g < geometry->group; g++) {
        const size_t row = first + g;
        walk->state->type->answer(walk->state, walk->queries + (size_t)g * geometry->key_dim,
                                  out->outputs + row * geometry->value_dim);
        out->log_sum_exp[row] = out->divergence[row] = out->held_mass[row] = out->drift[row] = NAN;
        for (uint32_t s = 0; s < replay->spans.n; s++)
            out->span_mass[row * replay->spans.n + s] = NAN;
    }
}

static int create(struct walk *walk, const struct kv_stage *stage, struct kv_error *err)
{
    const struct kv_replay *replay = walk->replay;
    const struct kv_geometry *owner = &replay->owner->info->geometry;
    const uint32_t group = replay->reader->info->geometry.group;
    const struct kv_setup setup = {.geometry = owner,
                                   .config = stage->config[0],
                                   .kernels = replay->kernels,
                                   .pool = walk->pool,
                                   .seed = replay->seed,
                                   .head = walk->head,
                                   .n_heads = 1};
    walk->key = kv_pool_take(walk->pool, owner->key_dim * sizeof(float));
    walk->value = kv_pool_take(walk->pool, owner->value_dim * sizeof(float));
    walk->queries = kv_pool_take(walk->pool, (size_t)group * owner->key_dim * sizeof(float));
    if (!walk->key || !walk->value || !walk->queries)
        return kv_fail(err, KV_EMEMORY, "out of memory for a row");
    const int status = stage->answer->create(&walk->state, &setup, err);
    if (status != KV_OK) return status;
    walk->state->type = stage->answer;
    return fit(walk, err);
}

static int run_head(struct walk *walk, const struct kv_stage *stage, struct kv_error *err)
{
    const struct kv_geometry *geometry = &walk->replay->owner->info->geometry;
    const struct kv_replay *replay = walk->replay;
    int status = create(walk, stage, err);
    for (uint32_t t = 0, scored = 0; status == KV_OK && t < geometry->tokens; t++) {
        append(walk, t);
        if (scored < replay->n_scored && replay->scored[scored] == t) answer(walk, t, scored++);
        if (t % 64 == 0) status = kv_replay_stops(replay, err);
    }
    return status;
}

int kv_state_replay(const struct kv_replay *replay, struct kv_replay_account *account,
                    struct kv_pool *pool, struct kv_error *err)
{
    const struct kv_stage *stage = replay->spec->caches[0].answer;
    const struct kv_geometry *geometry = &replay->owner->info->geometry;
    int status = KV_OK;
    for (uint32_t h = 0; status == KV_OK && h < replay->n_heads; h++) {
        struct walk walk = {.replay = replay, .pool = pool, .head = replay->first_head + h};
        status = run_head(&walk, stage, err);
    }
    struct kv_cache_bytes *bytes = &account->bytes;
    bytes->joint = true; /* a product of both sides belongs to neither */
    bytes->payload[0] = kv_pool_used(pool, KV_PAYLOAD);
    bytes->metadata[0] = kv_pool_used(pool, KV_METADATA);
    const int64_t fitted = kv_pool_used(pool, KV_BASIS_ONLINE);
    bytes->calibrated = replay->calibration && fitted > 0;
    if (bytes->calibrated)
        account->shared_basis = bytes->shared = fitted;
    else
        bytes->basis[0] = fitted;
    account->read_bytes = (double)(geometry->tokens - geometry->prefill) *
                          (double)(bytes->payload[0] + bytes->metadata[0]);
    account->workspace_bytes = kv_pool_peak(pool, KV_WORKSPACE);
    account->allocated_bytes = (int64_t)kv_pool_reserved(pool);
    return status;
}
