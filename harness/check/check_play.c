/* Replays for the conformance kit; see check_play.h. */
#include "harness/check/check_play.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/run/cell_row.h"
#include "harness/replay/prompt_statistics.h"
#include "harness/replay/layout.h"
#include "harness/replay/question.h"
#include "harness/run/layers/survey.h"
#include "methods/spec/spec_wants.h"

const struct kv_check_shape kv_check_plain = {.tokens = 304, .prefill = 256, .question = 16, .kv_heads = 2, .group = 2,
                                            .key_dim = 64, .value_dim = 64, .dtype = KV_F16};

struct kv_play kv_play_usual(const struct kv_check *check)
{
    return (struct kv_play){.kernels = &check->kernels, .spec = check->spec, .seed = 1};
}

void kv_played_forget(struct kv_played *played)
{
    free(played->outputs);
    free(played->held);
    free(played->keys);
    free(played->values);
    *played = (struct kv_played){0};
}

enum { MOST_NEIGHBOURS = 2 };        /* layers that stand beside the one under test */

struct neighbours { uint32_t n; bool before; struct kv_layer *of[MOST_NEIGHBOURS]; };

/* What the lanes of a finished unit hold. */
static void note_held(const struct kv_replay *replay, struct kv_cache *cache, struct kv_played *played)
{
    const struct kv_geometry *geometry = &replay->owner->info->geometry;
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++)
        played->kept_whole |= cache->choosers[p]->trim.budget.tokens > geometry->tokens &&
                              cache->plan.spec->policies[p]->trim.budget.tokens <= geometry->tokens;
    for (uint32_t i = 0; i < replay->n_heads; i++) {
        const struct kv_held *lane = &cache->lanes[i];
        const size_t first = (size_t)(replay->first_head + i) * geometry->tokens;
        for (uint32_t r = 0; r < lane->n; r++) {
            const uint32_t t = lane->positions[r];
            played->held[first + t] = 1;
            if (played->keys)
                kv_cache_read(cache, i, 1, &t, played->keys + (first + t) * geometry->key_dim,
                              played->values + (first + t) * geometry->value_dim);
        }
    }
}

/* One unit, together with the layers that the spec's codecs join to it; those are not answered. */
static int play_unit(const struct kv_replay *replay, const struct neighbours *beside,
                     struct kv_played *played, struct kv_replay_account *account, struct kv_error *err)
{
    struct kv_replay replays[1 + MOST_NEIGHBOURS];
    struct kv_cache *mains[1 + MOST_NEIGHBOURS], *rests[1 + MOST_NEIGHBOURS];
    struct kv_pool *pool = kv_pool_create(0);
    if (!pool) return kv_fail(err, KV_EMEMORY, "out of memory for a pool");
    struct kv_replay_account accounts[1 + MOST_NEIGHBOURS];
    const uint32_t own = beside->before ? beside->n : 0;
    for (uint32_t i = 0; i < 1 + beside->n; i++) {
        replays[i] = *replay;
        if (i == own) continue;
        replays[i].owner = replays[i].reader = beside->of[i - (i > own)];
        replays[i].n_scored = 0;
    }
    const int status = kv_replay_keep(replays, 1 + beside->n, accounts, pool, mains, rests, err);
    if (status == KV_OK && mains[own]) note_held(replay, mains[own], played);
    *account = accounts[own];
    kv_pool_destroy(pool);
    return status;
}

static int play_units(const struct kv_play *play, const struct kv_layer *layer,
                      const struct neighbours *beside, struct kv_replay *replay,
                      struct kv_played *played, struct kv_error *err)
{
    const uint32_t heads = layer->info->geometry.kv_heads, step = kv_replay_unit_heads(play->spec, &layer->info->geometry);
    int status = KV_OK;
    for (uint32_t u = 0; status == KV_OK && u < heads / step; u++) {
        struct kv_replay_account account = {0};
        replay->first_head = (play->backwards ? heads / step - 1 - u : u) * step;
        replay->n_heads = step;
        status = play_unit(replay, beside, played, &account, err);
        if (status != KV_OK) break;
        kv_account_add(&played->account, &account);
    }
    return status;
}

/* Replays a layer through the spec; all decode tokens are scored, from `prefill` on. */
static int replay_layer(const struct kv_play *play, const struct kv_layer *layer, uint32_t prefill,
                        const struct neighbours *beside, struct kv_played *played, struct kv_error *err)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const uint32_t n_scored = geometry->tokens - prefill;
    const size_t rows = (size_t)geometry->q_heads * n_scored;
    *played = (struct kv_played){.n_scored = n_scored, .q_heads = geometry->q_heads,
                              .value_dim = geometry->value_dim, .n = rows * geometry->value_dim,
                              .tokens = geometry->tokens, .lanes = geometry->kv_heads, .group = geometry->group};
    const size_t lanes = (size_t)geometry->kv_heads * geometry->tokens;
    struct kv_pool *pool = kv_pool_create(0);
    uint32_t *scored = calloc(n_scored, sizeof *scored);
    struct kv_prompt *prompts = calloc(geometry->kv_heads, sizeof *prompts);
    played->outputs = calloc(played->n + 4 * rows, sizeof *played->outputs);
    played->held = calloc(lanes, 1);
    if (play->rows) played->keys = calloc(lanes * geometry->key_dim, sizeof(float));
    if (play->rows) played->values = calloc(lanes * geometry->value_dim, sizeof(float));
    if (!pool || !scored || !prompts || !played->outputs || !played->held ||
        (play->rows && (!played->keys || !played->values)))
        return kv_fail(err, KV_EMEMORY, "out of memory");
    for (uint32_t s = 0; s < n_scored; s++) scored[s] = prefill + s;
    const struct kv_wants wants = kv_spec_wants(play->spec);
    int status = KV_OK;
    for (uint32_t h = 0; status == KV_OK && h < geometry->kv_heads; h++)
        status = kv_prompt_compute(&prompts[h], layer, h, &wants, play->kernels, pool, err);
    double preference = 0.0;
    const struct kv_survey alone = {.n = 1, .preference = &preference};
    const struct kv_survey survey = play->survey.n ? play->survey : alone;
    if (status == KV_OK && kv_survey_wanted(play->spec) && !play->survey.n)
        status = kv_survey_layer(&preference, play->spec, layer, play->kernels, err);
    float *extra = played->outputs + played->n;
    struct kv_replay replay = {
        .owner = layer, .reader = layer, .spec = play->spec, .kernels = play->kernels,
        .prompts = prompts, .survey = survey, .n_scored = n_scored, .scored = scored, .seed = play->seed,
        .road = play->road, .audit = play->audit, .garble = play->garble,
        .answers = {.outputs = played->outputs, .log_sum_exp = extra, .divergence = extra + rows,
                    .held_mass = extra + 2 * rows, .drift = extra + 3 * rows, .span_mass = extra}};
    if (status == KV_OK) status = play_units(play, layer, beside, &replay, played, err);
    kv_pool_destroy(pool);
    free(scored);
    free(prompts);
    return status;
}

bool kv_check_leaves_layers_out(const struct kv_spec *spec)
{
    for (int side = 0; side < 2; side++) {
        const struct kv_stage *stage = kv_chain(&spec->caches[0], side);
        if (stage && stage->codec->layer_stores) return true;
    }
    return false;
}

/* Layers behind this one, as many as the spec joins and the kit has; or one before it. */
static int make_neighbours(struct neighbours *beside, const struct kv_spec *spec,
                           const struct kv_geometry *geometry, struct kv_check_shape shape,
                           struct kv_error *err)
{
    uint32_t most;
    *beside = (struct neighbours){.before = kv_check_leaves_layers_out(spec)};
    const uint32_t kit = beside->before ? 1 : MOST_NEIGHBOURS;
    const int status = kv_cache_layer_group(&most, &spec->caches[0], geometry, err);
    while (status == KV_OK && beside->n < kit && beside->n + 1 < most) {
        shape.neighbour = beside->before ? -(int32_t)(beside->n + 1) : (int32_t)beside->n + 1;
        if (!(beside->of[beside->n] = kv_check_layer(&shape))) return kv_fail(err, KV_EMEMORY, "out of memory");
        beside->n++;
    }
    return status;
}

uint32_t kv_check_group(const struct kv_spec *spec)
{
    struct kv_error err;
    uint32_t most = 1;
    struct kv_layer *layer = kv_check_layer(&kv_check_plain);
    if (layer) kv_cache_layer_group(&most, &spec->caches[0], &layer->info->geometry, &err);
    kv_check_layer_free(layer);
    const uint32_t kit = 1 + (kv_check_leaves_layers_out(spec) ? 1 : MOST_NEIGHBOURS);
    return most < kit ? most : kit;
}

/* Makes the rows that were read before the recorded ones. */
static void take_rows(struct kv_layer *layer, const struct kv_played *from)
{
    const size_t lanes = (size_t)layer->info->geometry.kv_heads * layer->info->geometry.tokens;
    memcpy((void *)layer->k.data, from->keys, lanes * layer->k.dim * sizeof(float));
    memcpy((void *)layer->v.data, from->values, lanes * layer->v.dim * sizeof(float));
}

enum kv_verdict kv_play_shape(struct kv_check *check, const struct kv_play *play,
                               const struct kv_check_shape *shape, struct kv_played *played)
{
    struct kv_layer *layer = kv_check_layer(shape);
    *played = (struct kv_played){0};
    if (!layer) return kv_fail(&check->why, 0, "out of memory"), KV_FAIL;
    if (play->from) take_rows(layer, play->from);
    struct neighbours beside = {0};
    struct kv_trace_layer shown[1 + MOST_NEIGHBOURS];
    int status = kv_question_check(play->spec, shape->prefill - shape->question, shape->prefill, &check->why);
    if (status == KV_OK) status = kv_layout_check(play->spec, layer->info, layer->info, &check->why);
    if (status == KV_OK)
        status = make_neighbours(&beside, play->spec, &layer->info->geometry, *shape, &check->why);
    if (status == KV_OK) kv_layer_show(play->spec, layer, &shown[0]);
    for (uint32_t i = 0; status == KV_OK && i < beside.n; i++)
        kv_layer_show(play->spec, beside.of[i], &shown[1 + i]);
    if (status == KV_OK) status = replay_layer(play, layer, shape->prefill, &beside, played, &check->why);
    for (uint32_t i = 0; i < beside.n; i++) kv_check_layer_free(beside.of[i]);
    kv_check_layer_free(layer);
    if (status == KV_OK) return KV_PASS;
    kv_played_forget(played);
    return status == KV_EUNSUPPORTED || status == KV_ESKIPPED ? KV_SKIP : KV_FAIL;
}

bool kv_played_same(const struct kv_played *a, const struct kv_played *b)
{
    return a->n == b->n && memcmp(a->outputs, b->outputs, a->n * sizeof *a->outputs) == 0;
}

double kv_check_distance(const float *a, const float *b, size_t n)
{
    double delta = 0.0, norm = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - b[i];
        delta += d * d, norm += (double)a[i] * a[i];
    }
    return norm > 0.0 ? sqrt(delta / norm) : sqrt(delta);
}

double kv_played_difference(const struct kv_played *a, const struct kv_played *b)
{
    return kv_check_distance(a->outputs, b->outputs, a->n);
}

/* The answers of exact attention: the same replay with everything held as recorded. */
enum kv_verdict kv_play_exact(struct kv_check *check, const struct kv_check_shape *shape, struct kv_played *played)
{
    static const struct kv_stage identity_stage = {.modifiers = {{-1, -1}, {-1, -1}}};
    struct kv_stage stage = identity_stage;
    stage.codec = kv_codec_find("f32");
    struct kv_spec exact = {.n_caches = 1, .query_heads = check->spec->query_heads,
                            .exact_first = check->spec->exact_first, .exact_last = check->spec->exact_last};
    memcpy(exact.layers, check->spec->layers, sizeof exact.layers);
    exact.caches[0].codec = &stage;
    struct kv_play play = kv_play_usual(check);
    play.spec = &exact;
    return kv_play_shape(check, &play, shape, played);
}

bool kv_played_finite(const struct kv_played *played, struct kv_error *why)
{
    for (size_t i = 0; i < played->n; i++)
        if (!isfinite(played->outputs[i])) {
            kv_fail(why, 0, "answer %zu is %g", i, played->outputs[i]);
            return false;
        }
    return true;
}

int64_t kv_played_resident(const struct kv_played *played)
{
    const struct kv_cache_bytes *bytes = &played->account.bytes;
    return played->account.policy_bytes + kv_side_bytes(bytes, 0) + kv_side_bytes(bytes, 1);
}

int64_t kv_played_offloaded(const struct kv_played *played)
{
    return played->account.bytes.offloaded[0] + played->account.bytes.offloaded[1];
}

double kv_played_reads(const struct kv_played *played)
{
    return played->account.read_bytes + played->account.offloaded_read_bytes;
}

bool kv_played_no_values(const struct kv_played *played)
{
    const struct kv_cache_bytes *bytes = &played->account.bytes;
    return !bytes->joint && played->account.held_rows > 0 && kv_side_bytes(bytes, 1) + bytes->offloaded[1] == 0;
}

enum kv_verdict kv_check_skip(struct kv_check *check, const char *why)
{
    kv_fail(&check->why, 0, "%s", why);
    return KV_SKIP;
}
