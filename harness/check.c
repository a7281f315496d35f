/* The conformance kit; see check.h. Each invariant is one function and one row of the table below. */
#include "harness/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check_layer.h"
#include "harness/prompt_statistics.h"
#include "harness/question.h"
#include "harness/replay.h"
#include "harness/survey.h"

enum verdict { PASS, FAIL, SKIP };

struct check {                        /* what an invariant may use */
    const struct kv_spec *spec;
    struct kv_kernels kernels, generic;
    struct kv_error why;              /* of FAIL and SKIP */
};

struct played {                       /* one layer replayed */
    uint32_t n_scored, q_heads, value_dim;
    size_t n;                         /* floats of outputs */
    float *outputs;
    struct kv_replay_account account;
};

struct play {                         /* how to replay it */
    const struct kv_kernels *kernels;
    const struct kv_spec *spec;
    uint64_t seed;
    enum kv_road road;
    bool audit, garble, backwards;    /* backwards: units from the last to the first */
};

static const struct kv_check_shape plain = {.tokens = 304, .prefill = 256, .question = 16, .kv_heads = 2, .group = 2,
                                            .key_dim = 64, .value_dim = 64, .dtype = KV_F16};

static struct play usual(const struct check *check)
{
    return (struct play){.kernels = &check->kernels, .spec = check->spec, .seed = 1};
}

static void forget(struct played *played)
{
    free(played->outputs);
    played->outputs = NULL;
}

enum { MOST_NEIGHBOURS = 2 };        /* layers that stand beside the one under test */

struct neighbours { uint32_t n; bool before; struct kv_layer *of[MOST_NEIGHBOURS]; };

/* One unit, together with the layers that the spec's codecs join to it; those are not answered. */
static int play_unit(const struct kv_replay *replay, const struct neighbours *beside,
                     struct kv_replay_account *account, struct kv_error *err)
{
    struct kv_replay replays[1 + MOST_NEIGHBOURS];
    struct kv_replay_account accounts[1 + MOST_NEIGHBOURS];
    const uint32_t own = beside->before ? beside->n : 0;
    for (uint32_t i = 0; i < 1 + beside->n; i++) {
        replays[i] = *replay;
        if (i == own) continue;
        replays[i].owner = replays[i].reader = beside->of[i - (i > own)];
        replays[i].n_scored = 0;
    }
    const int status = kv_replay_group(replays, 1 + beside->n, accounts, err);
    *account = accounts[own];
    return status;
}

static int play_units(const struct play *play, const struct kv_layer *layer,
                      const struct neighbours *beside, struct kv_replay *replay,
                      struct played *played, struct kv_error *err)
{
    const uint32_t heads = layer->info->geometry.kv_heads, step = kv_replay_unit_heads(play->spec, &layer->info->geometry);
    int status = KV_OK;
    for (uint32_t u = 0; status == KV_OK && u < heads / step; u++) {
        struct kv_replay_account account;
        replay->first_head = (play->backwards ? heads / step - 1 - u : u) * step;
        replay->n_heads = step;
        status = play_unit(replay, beside, &account, err);
        if (status != KV_OK) break;
        for (int side = 0; side < 2; side++) {
            played->account.bytes.payload[side] += account.bytes.payload[side];
            played->account.bytes.metadata[side] += account.bytes.metadata[side];
            played->account.bytes.residual[side] += account.bytes.residual[side];
            played->account.bytes.basis[side] += account.bytes.basis[side];
        }
        played->account.policy_bytes += account.policy_bytes;
        played->account.held_rows += account.held_rows;
        played->account.coded_rows += account.coded_rows;
        played->account.read_bytes += account.read_bytes;
    }
    return status;
}

/* Replays a layer through the spec; all decode tokens are scored, from `prefill` on. */
static int replay_layer(const struct play *play, const struct kv_layer *layer, uint32_t prefill,
                        const struct neighbours *beside, struct played *played, struct kv_error *err)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const uint32_t n_scored = geometry->tokens - prefill;
    const size_t rows = (size_t)geometry->q_heads * n_scored;
    *played = (struct played){.n_scored = n_scored, .q_heads = geometry->q_heads,
                              .value_dim = geometry->value_dim, .n = rows * geometry->value_dim};
    struct kv_pool *pool = kv_pool_create(0);
    uint32_t *scored = calloc(n_scored, sizeof *scored);
    struct kv_prompt *prompts = calloc(geometry->kv_heads, sizeof *prompts);
    played->outputs = calloc(played->n + 4 * rows, sizeof *played->outputs);
    if (!pool || !scored || !prompts || !played->outputs) return kv_fail(err, KV_EMEMORY, "out of memory");
    for (uint32_t s = 0; s < n_scored; s++) scored[s] = prefill + s;
    struct kv_wants wants = {0};
    for (uint32_t c = 0; c < play->spec->n_caches; c++) {
        const struct kv_wants one = kv_cache_wants(&play->spec->caches[c]);
        kv_wants_merge(&wants, &one);
    }
    int status = KV_OK;
    for (uint32_t h = 0; status == KV_OK && h < geometry->kv_heads; h++)
        status = kv_prompt_compute(&prompts[h], layer, h, &wants, play->kernels, pool, err);
    double preference = 0.0;
    const struct kv_survey survey = {.n = 1, .preference = &preference};
    if (status == KV_OK && kv_survey_wanted(play->spec))
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

/* Codecs that let layers go without rows: a later layer shows it. */
static bool leaves_layers_out(const struct kv_spec *spec)
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
    *beside = (struct neighbours){.before = leaves_layers_out(spec)};
    const uint32_t kit = beside->before ? 1 : MOST_NEIGHBOURS;
    const int status = kv_cache_layer_group(&most, &spec->caches[0], geometry, err);
    while (status == KV_OK && beside->n < kit && beside->n + 1 < most) {
        shape.neighbour = beside->n + 1, shape.before = beside->before;
        if (!(beside->of[beside->n] = kv_check_layer(&shape))) return kv_fail(err, KV_EMEMORY, "out of memory");
        beside->n++;
    }
    return status;
}

/* Replays a shape; SKIP when the method does not support it, with its reason. */
static enum verdict play_shape(struct check *check, const struct play *play,
                               const struct kv_check_shape *shape, struct played *played)
{
    struct kv_layer *layer = kv_check_layer(shape);
    *played = (struct played){0};
    if (!layer) return kv_fail(&check->why, 0, "out of memory"), FAIL;
    struct neighbours beside = {0};
    struct kv_trace_layer hidden[1 + MOST_NEIGHBOURS];
    int status = kv_question_check(play->spec, shape->prefill - shape->question, shape->prefill, &check->why);
    if (status == KV_OK)
        status = make_neighbours(&beside, play->spec, &layer->info->geometry, *shape, &check->why);
    if (status == KV_OK) kv_question_hide(play->spec, layer, &hidden[0]);
    for (uint32_t i = 0; status == KV_OK && i < beside.n; i++)
        kv_question_hide(play->spec, beside.of[i], &hidden[1 + i]);
    if (status == KV_OK) status = replay_layer(play, layer, shape->prefill, &beside, played, &check->why);
    for (uint32_t i = 0; i < beside.n; i++) kv_check_layer_free(beside.of[i]);
    kv_check_layer_free(layer);
    if (status == KV_OK) return PASS;
    forget(played);
    return status == KV_EUNSUPPORTED || status == KV_ESKIPPED ? SKIP : FAIL;
}

static bool same_outputs(const struct played *a, const struct played *b)
{
    return a->n == b->n && memcmp(a->outputs, b->outputs, a->n * sizeof *a->outputs) == 0;
}

static double difference(const struct played *a, const struct played *b)
{
    double delta = 0.0, norm = 0.0;
    for (size_t i = 0; i < a->n; i++) {
        const double d = (double)a->outputs[i] - b->outputs[i];
        delta += d * d, norm += (double)a->outputs[i] * a->outputs[i];
    }
    return norm > 0.0 ? sqrt(delta / norm) : sqrt(delta);
}

/* The answers of exact attention: the same replay with everything held as recorded. */
static enum verdict play_exact(struct check *check, const struct kv_check_shape *shape, struct played *played)
{
    static const struct kv_stage identity_stage = {.modifiers = {{-1, -1}, {-1, -1}}};
    struct kv_stage stage = identity_stage;
    stage.codec = kv_codec_find("f32");
    struct kv_spec exact = {.n_caches = 1};
    memset(exact.layers, 0xff, sizeof exact.layers);
    exact.caches[0].codec = &stage;
    struct play play = usual(check);
    play.spec = &exact;
    return play_shape(check, &play, shape, played);
}

/* fmax would do, but the aarch64 gcc 12 crashes on its reductions. NaN counts as largest. */
static double larger(double a, double b) { return a != a || b <= a ? a : b; }

static int64_t resident(const struct played *played)
{
    int64_t sum = played->account.policy_bytes;
    for (int side = 0; side < 2; side++)
        sum += played->account.bytes.payload[side] + played->account.bytes.metadata[side] +
               played->account.bytes.residual[side] + played->account.bytes.basis[side];
    return sum;
}

static bool has_policy(const struct check *check, bool (*is)(const struct kv_stage *))
{
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
        for (uint32_t p = 0; p < check->spec->caches[c].n_policies; p++)
            if (is(check->spec->caches[c].policies[p])) return true;
    return false;
}

static bool drops(const struct kv_stage *stage) { return stage->policy->score != NULL; }
static bool selects(const struct kv_stage *stage) { return stage->policy->select != NULL; }
static bool any(const struct kv_stage *stage) { return stage->policy->score || stage->policy->select; }

static bool feeds_back(const struct check *check)
{
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
        if (kv_cache_feeds_back(&check->spec->caches[c])) return true;
    return false;
}

static bool fits_prompt(const struct check *check)
{
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
        for (int side = 0; side < kv_n_chains(&check->spec->caches[c]); side++)
            for (const struct kv_stage *s = kv_chain(&check->spec->caches[c], side); s; s = s->rest)
                if (s->codec->fit || s->modifiers[0].center || s->modifiers[1].center) return true;
    return false;
}

static bool is_oracle(const struct check *check)
{
    for (uint32_t c = 0; c < check->spec->n_caches; c++)
    {
        const struct kv_wants wants = kv_cache_wants(&check->spec->caches[c]);
        if (wants.future || wants.fisher || wants.label) return true;
    }
    return check->spec->oracle;
}

static enum verdict skip(struct check *check, const char *why)
{
    kv_fail(&check->why, 0, "%s", why);
    return SKIP;
}

/* -- the invariants ----------------------------------------------------------------------------- */

static enum verdict canonical_spec_parses_to_itself(struct check *check)
{
    struct kv_spec_list list;
    if (kv_spec_parse(&list, check->spec->text, &check->why) != KV_OK) return FAIL;
    const bool same = list.n == 1 && strcmp(list.specs[0].text, check->spec->text) == 0;
    if (!same) kv_fail(&check->why, 0, "%s came back as %s", check->spec->text, list.specs[0].text);
    kv_spec_free(&list);
    return same ? PASS : FAIL;
}

static enum verdict finite_on(struct check *check, const struct kv_check_shape *shape)
{
    struct play play = usual(check);
    struct played played;
    play.audit = true;
    const enum verdict verdict = play_shape(check, &play, shape, &played);
    if (verdict != PASS) return verdict;
    size_t bad = played.n;
    for (size_t i = 0; i < played.n && bad == played.n; i++)
        if (!isfinite(played.outputs[i])) bad = i;
    if (bad < played.n) kv_fail(&check->why, 0, "answer %zu is %g", bad, played.outputs[bad]);
    const bool finite = bad == played.n;
    forget(&played);
    return finite ? PASS : FAIL;
}

static enum verdict accounts_balance_at_every_step(struct check *check) { return finite_on(check, &plain); }

#define SHAPE(name, ...)                                           \
    static enum verdict name(struct check *check)                  \
    {                                                              \
        struct kv_check_shape shape = plain;                       \
        const struct kv_check_shape change = {__VA_ARGS__};        \
        kv_change_shape(&shape, &change);                          \
        return finite_on(check, &shape);                           \
    }

/* Takes over the fields of change that are not zero. */
static void kv_change_shape(struct kv_check_shape *shape, const struct kv_check_shape *change)
{
    if (change->tokens) shape->tokens = change->tokens;
    if (change->prefill) shape->prefill = change->prefill;
    if (shape->question >= shape->prefill) shape->question = 0;
    if (change->kv_heads) shape->kv_heads = change->kv_heads;
    if (change->group) shape->group = change->group;
    if (change->key_dim) shape->key_dim = change->key_dim;
    if (change->value_dim) shape->value_dim = change->value_dim;
    if (change->window) shape->window = change->window;
    if (change->softcap > 0.0) shape->softcap = change->softcap;
    shape->sinks = change->sinks, shape->interleaved = change->interleaved;
    if (change->dtype) shape->dtype = change->dtype;
    if (change->rows) shape->rows = change->rows;
}

SHAPE(answers_constant_rows, .rows = KV_ROWS_CONSTANT)
SHAPE(answers_zero_rows, .rows = KV_ROWS_ZERO)
SHAPE(answers_huge_rows, .rows = KV_ROWS_HUGE)
SHAPE(answers_subnormal_rows, .rows = KV_ROWS_SUBNORMAL)
SHAPE(runs_on_head_dim_80, .key_dim = 80, .value_dim = 80)
SHAPE(runs_on_unequal_dims, .key_dim = 96, .value_dim = 64)
SHAPE(runs_on_one_kv_head, .kv_heads = 1, .group = 4)
SHAPE(runs_without_groups, .kv_heads = 3, .group = 1)
SHAPE(runs_on_a_sliding_layer, .window = 40, .softcap = 20.0, .sinks = true, .interleaved = true)
SHAPE(runs_on_bfloat, .dtype = KV_BF16)
SHAPE(runs_on_f32, .dtype = KV_F32)
SHAPE(runs_on_one_prompt_token, .tokens = 40, .prefill = 1)
SHAPE(runs_on_one_decode_token, .tokens = 257)

static enum verdict twice(struct check *check, struct play *second, bool exactly, double tolerance)
{
    struct play first = usual(check);
    struct played a, b;
    enum verdict verdict = play_shape(check, &first, &plain, &a);
    if (verdict != PASS) return verdict;
    verdict = play_shape(check, second, &plain, &b);
    if (verdict == PASS && exactly && !same_outputs(&a, &b))
        verdict = FAIL, kv_fail(&check->why, 0, "answers differ by %.3g", difference(&a, &b));
    if (verdict == PASS && !exactly && !(difference(&a, &b) <= tolerance))
        verdict = FAIL, kv_fail(&check->why, 0, "answers differ by %.3g, expected at most %.3g",
                                difference(&a, &b), tolerance);
    if (verdict == PASS && resident(&a) != resident(&b))
        verdict = FAIL, kv_fail(&check->why, 0, "bytes differ: %lld and %lld", (long long)resident(&a),
                                (long long)resident(&b));
    forget(&a);
    forget(&b);
    return verdict;
}

static enum verdict same_bytes_twice(struct check *check)
{
    struct play again = usual(check);
    return twice(check, &again, true, 0.0);
}

static enum verdict order_of_units_does_not_matter(struct check *check)
{
    struct play backwards = usual(check);
    backwards.backwards = true;
    return twice(check, &backwards, true, 0.0);
}

/* Relative rounding of fp32 attention over some 300 rows: far above n * eps, far below any method. */
static const double ROUNDING = 2e-5;

static enum verdict both_roads_agree(struct check *check)
{
    if (feeds_back(check)) return skip(check, "answers feed back: only the slow road applies");
    struct play slow = usual(check);
    slow.road = KV_ROAD_SLOW;
    return twice(check, &slow, false, ROUNDING);
}

static enum verdict generic_kernels_agree(struct check *check)
{
    if (strcmp(check->kernels.isa, "generic") == 0) return skip(check, "no other kernel set runs here");
    struct play generic = usual(check);
    generic.kernels = &check->generic;
    return twice(check, &generic, false, ROUNDING);
}

static enum verdict seed_matters_only_where_it_is_said(struct check *check)
{
    struct play other = usual(check);
    other.seed = 2;
    if (!check->spec->random) return twice(check, &other, true, 0.0);
    const enum verdict verdict = twice(check, &other, true, 0.0);
    if (verdict == PASS) return kv_fail(&check->why, 0, "said to be random, but another seed changed nothing"), FAIL;
    return verdict == FAIL ? PASS : verdict;
}

static enum verdict future_tokens_do_not_matter(struct check *check)
{
    if (is_oracle(check)) return skip(check, "an oracle");
    struct kv_check_shape changed = plain;
    changed.changed_from = 280;
    struct play play = usual(check);
    struct played a, b;
    enum verdict verdict = play_shape(check, &play, &plain, &a);
    if (verdict != PASS) return verdict;
    verdict = play_shape(check, &play, &changed, &b);
    const uint32_t group = plain.group, before = changed.changed_from - plain.prefill;
    for (uint32_t h = 0; verdict == PASS && h < plain.kv_heads; h++) {
        const size_t first = (size_t)h * a.n_scored * group * a.value_dim;
        if (memcmp(a.outputs + first, b.outputs + first, (size_t)before * group * a.value_dim * sizeof(float)))
            verdict = FAIL, kv_fail(&check->why, 0, "an answer before token %u changed with the tokens after it", changed.changed_from);
    }
    if (verdict == PASS && same_outputs(&a, &b))
        verdict = FAIL, kv_fail(&check->why, 0, "the changed tokens changed nothing at all");
    forget(&a);
    forget(&b);
    return verdict;
}

static enum verdict swapping_heads_swaps_answers(struct check *check)
{
    for (int side = 0; side < 2; side++)
        for (const struct kv_stage *s = kv_chain(&check->spec->caches[0], side); s; s = s->rest)
            if (s->codec->traits & KV_ORDERED_HEADS) return skip(check, "heads have different parts to play");
    if (check->spec->random) return skip(check, "depends on the head by its seed");
    struct kv_check_shape swapped = plain;
    swapped.swapped = true;
    struct play play = usual(check);
    struct played a, b;
    enum verdict verdict = play_shape(check, &play, &plain, &a);
    if (verdict != PASS) return verdict;
    verdict = play_shape(check, &play, &swapped, &b);
    const size_t half = a.n / 2;
    double delta = 0.0;
    for (size_t i = 0; verdict == PASS && i < a.n; i++)
        delta = larger(delta, fabs((double)a.outputs[i] - b.outputs[(i + half) % a.n]));
    if (verdict == PASS && delta > 1e-4)
        verdict = FAIL, kv_fail(&check->why, 0, "answers of swapped heads differ by %.3g", delta);
    forget(&a);
    forget(&b);
    return verdict;
}

static enum verdict split_between_prompt_and_steps_does_not_matter(struct check *check)
{
    if (has_policy(check, any) || fits_prompt(check))
        return skip(check, "the end of the prompt is an event for this method");
    if (check->spec->n_caches > 1) return skip(check, "two caches");
    struct kv_check_shape later = plain;
    later.prefill = 272;
    struct play play = usual(check);
    struct played a, b;
    enum verdict verdict = play_shape(check, &play, &plain, &a);
    if (verdict != PASS) return verdict;
    verdict = play_shape(check, &play, &later, &b);
    const size_t row = (size_t)plain.group * a.value_dim;
    double delta = 0.0;
    for (uint32_t h = 0; verdict == PASS && h < plain.kv_heads; h++)
        for (size_t i = 0; i < b.n_scored * row; i++) {
            const float *x = a.outputs + ((size_t)h * a.n_scored + 16) * row, *y = b.outputs + (size_t)h * b.n_scored * row;
            delta = larger(delta, fabs((double)x[i] - y[i]));
        }
    if (verdict == PASS && delta > 1e-4)
        verdict = FAIL, kv_fail(&check->why, 0, "answers differ by %.3g", delta);
    forget(&a);
    forget(&b);
    return verdict;
}

static enum verdict stores_less_than_recorded(struct check *check)
{
    struct play play = usual(check);
    struct played played;
    const enum verdict verdict = play_shape(check, &play, &plain, &played);
    if (verdict != PASS) return verdict;
    const int64_t recorded = (int64_t)plain.tokens * plain.kv_heads * (plain.key_dim + plain.value_dim) * 2;
    const int64_t stored = resident(&played);
    const double reads = played.account.read_bytes / (plain.tokens - plain.prefill);
    const bool exact = strcmp(check->spec->family, "exact") == 0;
    forget(&played);
    if (exact) return skip(check, "keeps everything as it is");
    if (has_policy(check, selects)) {
        if (reads < recorded) return PASS;
        return kv_fail(&check->why, 0, "reads %.0f bytes a step of %lld", reads, (long long)recorded), FAIL;
    }
    if (stored < recorded) return PASS;
    kv_fail(&check->why, 0, "stores %lld bytes, recorded are %lld", (long long)stored, (long long)recorded);
    return FAIL;
}

static enum verdict garbled_codes_change_the_answers(struct check *check)
{
    struct play garbled = usual(check);
    garbled.garble = true;
    struct play play = usual(check);
    struct played a, b;
    enum verdict verdict = play_shape(check, &play, &plain, &a);
    if (verdict != PASS) return verdict;
    const bool coded = a.account.coded_rows > 0;
    verdict = play_shape(check, &garbled, &plain, &b);
    if (verdict == PASS && coded && same_outputs(&a, &b))
        verdict = FAIL, kv_fail(&check->why, 0, "%llu coded rows, but garbled codes change no answer",
                                (unsigned long long)a.account.coded_rows);
    forget(&a);
    forget(&b);
    return verdict == PASS && !coded ? skip(check, "no row is encoded in this short text") : verdict;
}

static enum verdict nothing_lost_answers_exactly(struct check *check)
{
    if (check->spec->n_caches > 1 || has_policy(check, any)) return skip(check, "chooses rows");
    for (int side = 0; side < 2; side++) {
        const struct kv_stage *stage = kv_chain(&check->spec->caches[0], side);
        const bool plain_row = !stage || (!stage->rest && !stage->modifiers[0].unrotated);
        const bool lossless = !stage || (stage->codec->traits & KV_EXACT_F16);
        if (!plain_row || !lossless) return skip(check, "changes rows of this type");
    }
    struct play play = usual(check);
    struct played a, b;
    enum verdict verdict = play_shape(check, &play, &plain, &a);
    if (verdict != PASS) return verdict;
    verdict = play_exact(check, &plain, &b);
    if (verdict == PASS && !same_outputs(&a, &b))
        verdict = FAIL, kv_fail(&check->why, 0, "answers differ by %.3g, expected exactly 0", difference(&a, &b));
    forget(&a);
    forget(&b);
    return verdict;
}

static enum verdict full_budget_answers_exactly(struct check *check)
{
    if (check->spec->n_caches > 1 || !has_policy(check, drops) ||
        check->spec->caches[0].codec || check->spec->caches[0].values)
        return skip(check, "no budget, or a codec of its own");
    for (uint32_t p = 0; p < check->spec->caches[0].n_policies; p++)
        if (check->spec->caches[0].policies[p]->policy->select) return skip(check, "selects reads");
    struct kv_budget old[KV_MAX_POLICIES];
    const struct kv_cache_spec *cache = &check->spec->caches[0];
    for (uint32_t p = 0; p < cache->n_policies; p++) {
        old[p] = cache->policies[p]->trim.budget;
        cache->policies[p]->trim.budget = (struct kv_budget){.tokens = plain.tokens};
    }
    struct play play = usual(check);
    struct played a, b;
    enum verdict verdict = play_shape(check, &play, &plain, &a);
    for (uint32_t p = 0; p < cache->n_policies; p++) cache->policies[p]->trim.budget = old[p];
    if (verdict != PASS) return verdict;
    verdict = play_exact(check, &plain, &b);
    if (verdict == PASS && difference(&b, &a) > ROUNDING)
        verdict = FAIL, kv_fail(&check->why, 0, "answers differ by %.3g", difference(&b, &a));
    forget(&a);
    forget(&b);
    return verdict;
}

static enum verdict holds_no_more_than_its_budget(struct check *check)
{
    if (check->spec->n_caches > 1 || !has_policy(check, drops)) return skip(check, "no budget");
    struct play play = usual(check);
    struct played played;
    const enum verdict verdict = play_shape(check, &play, &plain, &played);
    if (verdict != PASS) return verdict;
    uint64_t allowed = UINT64_MAX;
    for (uint32_t p = 0; p < check->spec->caches[0].n_policies; p++) {
        const struct kv_stage *stage = check->spec->caches[0].policies[p];
        if (!stage->policy->score) continue;
        const uint32_t prefill =
            kv_question_prefill(check->spec, plain.prefill - plain.question, plain.prefill);
        uint64_t rows = kv_budget_tokens(stage->trim.budget, prefill);
        if (stage->trim.prompt_only) rows += plain.tokens - prefill;
        if (rows < allowed) allowed = rows;
    }
    const uint64_t held = played.account.held_rows;
    forget(&played);
    if (held <= allowed * plain.kv_heads) return PASS;
    kv_fail(&check->why, 0, "holds %llu rows, expected at most %llu", (unsigned long long)held,
            (unsigned long long)(allowed * plain.kv_heads));
    return FAIL;
}

static enum verdict differs_from_exact_attention(struct check *check)
{
    if (strcmp(check->spec->family, "exact") == 0) return skip(check, "keeps everything as it is");
    struct play play = usual(check);
    struct played a, b;
    enum verdict verdict = play_shape(check, &play, &plain, &a);
    if (verdict != PASS) return verdict;
    verdict = play_exact(check, &plain, &b);
    if (verdict == PASS && same_outputs(&a, &b))
        verdict = FAIL, kv_fail(&check->why, 0, "answers are exact to the bit: the method did not engage");
    if (verdict == PASS && !(difference(&b, &a) < 3.0))
        verdict = FAIL, kv_fail(&check->why, 0, "answers are %.3g from exact ones: no answer at all", difference(&b, &a));
    forget(&a);
    forget(&b);
    return verdict;
}

#define INVARIANT(name, meaning) {{#name, meaning}, name}

static const struct { struct kv_invariant_text text; enum verdict (*run)(struct check *); } invariants[] = {
    INVARIANT(canonical_spec_parses_to_itself, "the printed spec is accepted back, unchanged"),
    INVARIANT(accounts_balance_at_every_step, "every byte count is recounted from the lists, every step"),
    INVARIANT(same_bytes_twice, "two runs give the same bits"),
    INVARIANT(order_of_units_does_not_matter, "heads may be replayed in any order"),
    INVARIANT(both_roads_agree, "sweeping lines and going token by token give the same answers"),
    INVARIANT(generic_kernels_agree, "the SIMD kernels answer like the generic ones"),
    INVARIANT(seed_matters_only_where_it_is_said, "the seed changes random methods and no others"),
    INVARIANT(future_tokens_do_not_matter, "later tokens change no earlier answer"),
    INVARIANT(swapping_heads_swaps_answers, "no head is special"),
    INVARIANT(split_between_prompt_and_steps_does_not_matter, "rows stored at once or one by one are the same"),
    INVARIANT(stores_less_than_recorded, "stored (or read) bytes are below the recorded ones"),
    INVARIANT(garbled_codes_change_the_answers, "answers come from the codes"),
    INVARIANT(nothing_lost_answers_exactly, "a lossless store gives an error of exactly 0"),
    INVARIANT(full_budget_answers_exactly, "with room for everything nothing is lost"),
    INVARIANT(holds_no_more_than_its_budget, "held rows stay within the budget"),
    INVARIANT(differs_from_exact_attention, "the method did something, and still answers"),
    INVARIANT(answers_constant_rows, "all rows alike: finite answers"),
    INVARIANT(answers_zero_rows, "all zero: finite answers"),
    INVARIANT(answers_huge_rows, "rows of 65504: finite answers"),
    INVARIANT(answers_subnormal_rows, "rows below the smallest half: finite answers"),
    INVARIANT(runs_on_head_dim_80, "head_dim 80, or a reason why not"),
    INVARIANT(runs_on_unequal_dims, "keys of 96, values of 64"),
    INVARIANT(runs_on_one_kv_head, "multi-query attention"),
    INVARIANT(runs_without_groups, "multi-head attention"),
    INVARIANT(runs_on_a_sliding_layer, "window, softcap, sink logits, interleaved rotation"),
    INVARIANT(runs_on_bfloat, "a bfloat16 trace"),
    INVARIANT(runs_on_f32, "an f32 trace"),
    INVARIANT(runs_on_one_prompt_token, "a prompt of one token"),
    INVARIANT(runs_on_one_decode_token, "a single decode step")};

enum { N_INVARIANTS = sizeof invariants / sizeof *invariants };

const struct kv_invariant_text *kv_check_list(void)
{
    static struct kv_invariant_text list[N_INVARIANTS + 1];
    for (int i = 0; i < N_INVARIANTS; i++) list[i] = invariants[i].text;
    return list;
}

void kv_check_spec(const struct kv_spec *spec, const char *isa, bool quiet, FILE *out,
                   struct kv_check_counts *counts)
{
    static const char *const words[] = {"ok", "FAILED", "skipped"};
    struct check check = {.spec = spec};
    struct kv_error err;
    if (kv_kernels_fill(&check.kernels, isa, &err) != KV_OK ||
        kv_kernels_fill(&check.generic, "generic", &err) != KV_OK) {
        fprintf(out, "FAILED   %s: %s\n", spec->text, err.text);
        counts->failed++;
        return;
    }
    for (int i = 0; i < N_INVARIANTS; i++) {
        check.why.text[0] = 0;
        const enum verdict verdict = invariants[i].run(&check);
        counts->passed += verdict == PASS, counts->failed += verdict == FAIL;
        counts->skipped += verdict == SKIP;
        if (quiet && verdict != FAIL) continue;
        fprintf(out, "%-8s %s: %s%s%s\n", words[verdict], spec->text, invariants[i].text.name,
                verdict == PASS ? "" : ": ", verdict == PASS ? "" : check.why.text);
    }
}
