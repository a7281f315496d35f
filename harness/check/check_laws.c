/* Laws of families in the conformance kit; see check_laws.h. */
#include "harness/check/check_laws.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/check/check_budgets.h"
#include "harness/memory/memory_count.h"

/* -- bytes ------------------------------------------------------------------------------------ */

/* Of the layers that one object serves; parted evenly, whole bytes. */
static int count(struct kv_memory_bytes *bytes, struct kv_check *check, uint32_t group)
{
    static const uint32_t layers[] = {KV_CHECK_LAYER, KV_CHECK_LAYER + 1, KV_CHECK_LAYER + 2};
    struct kv_memory_law *law = NULL;
    const struct kv_check_shape *plain = &kv_check_plain;
    const struct kv_memory_shape shape = {.layers = layers,
                                          .n_layers = group,
                                          .model_layers = KV_CHECK_LAYERS,
                                          .q_heads = plain->kv_heads * plain->group,
                                          .kv_heads = plain->kv_heads,
                                          .key_dim = plain->key_dim,
                                          .value_dim = plain->value_dim,
                                          .tokens = plain->tokens,
                                          .decode = plain->tokens - plain->prefill,
                                          .element_bits = 16};
    int status = kv_memory_law_create(&law, check->spec, &shape, &check->kernels, &check->why);
    if (status != KV_OK) return status;
    status = kv_memory_law_bytes(law, shape.tokens, shape.decode, bytes, &check->why);
    kv_memory_law_free(law);
    return status;
}

static bool is_codec_alone(const struct kv_spec *spec)
{
    return spec->n_caches == 1 && spec->caches[0].n_policies == 0 && spec->caches[0].codec &&
           !spec->caches[0].sided;
}

/* What varies is within half and twice its average, where one is said: the kit's rows are drawn
 * alike, so that a share of some ten thousand values is met within a few percent; retained rows,
 * some sixteen a lane, within half. The end of a share lies between two rows: one more of 4 bytes
 * may be outside it at both ends of each column. */
static bool is_usual(const struct kv_memory_bytes *bytes, int64_t stored, uint32_t group)
{
    const struct kv_check_shape *plain = &kv_check_plain;
    const int64_t ends = 8 * (int64_t)group * plain->kv_heads * (plain->key_dim + plain->value_dim);
    const int64_t varying = stored - (bytes->total - bytes->smaller);
    return bytes->smaller == 0 ||
           (2 * varying >= bytes->smaller && varying <= 2 * bytes->smaller + ends);
}

enum kv_verdict kv_check_bytes(struct kv_check *check)
{
    const uint32_t group = kv_check_group(check->spec);
    struct kv_memory_bytes bytes = {0};
    struct kv_played played;
    if (check->spec->query_agnostic) return kv_check_skip(check, "a formula knows no question");
    if (kv_check_leaves_layers_out(check->spec))
        return kv_check_skip(check, "layers store different things");
    for (uint32_t l = 0; l < group; l++)
        if (kv_spec_is_exact_layer(check->spec, KV_CHECK_LAYER + l, KV_CHECK_LAYERS))
            return kv_check_skip(check,
                                 "the layer that is replayed is one that this spec leaves exact");
    struct kv_play play = kv_play_usual(check);
    const enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &played);
    if (verdict != KV_PASS) return verdict;
    const int64_t stored = kv_played_resident(&played), offloaded = kv_played_offloaded(&played);
    kv_played_forget(&played);
    const int status = count(&bytes, check, group);
    if (status != KV_OK)
        return status == KV_EUNSUPPORTED || status == KV_ESKIPPED ? KV_SKIP : KV_FAIL;
    const int64_t least = bytes.least - bytes.smaller, most = bytes.total + bytes.larger;
    /* What a group shares is parted count by count, of two sides and four classes: each part is
     * less than a byte from the mean. */
    const int64_t slack = group > 1 ? 8 * (int64_t)group : 1;
    if (bytes.varies && is_codec_alone(check->spec) && !is_usual(&bytes, group * stored, group))
        return kv_fail(&check->why, 0, "stores %lld bytes, on the average %lld of which %lld vary",
                       (long long)stored, (long long)(bytes.total / group),
                       (long long)(bytes.smaller / group)),
               KV_FAIL;
    if (group * offloaded <= bytes.offloaded_least - slack ||
        group * offloaded >= bytes.offloaded_most + slack)
        return kv_fail(&check->why, 0, "keeps %lld bytes on the host, by the formula %lld to %lld",
                       (long long)offloaded, (long long)(bytes.offloaded_least / group),
                       (long long)(bytes.offloaded_most / group)),
               KV_FAIL;
    /* Where the data decide which rows stay, a formula says between which bounds; else they are
     * one. */
    if (group * stored > least - slack && group * stored < most + slack) return KV_PASS;
    if (bytes.sampled)
        return kv_check_skip(check, "no rule bounds these bytes: other rows, other shares of them");
    kv_fail(&check->why, 0, "stores %lld bytes, by the formula %lld to %lld", (long long)stored,
            (long long)(least / group), (long long)(most / group));
    return KV_FAIL;
}

/* -- on the host ------------------------------------------------------------------------------ */

enum { MOST_CHAINS = KV_MAX_CACHES * 2 };

struct hosted { /* the outermost stages, and what they said */
    struct kv_stage *stage[MOST_CHAINS];
    bool was[MOST_CHAINS][2];
    uint32_t n;
    bool any;
};

static struct hosted find_hosted(const struct kv_spec *spec)
{
    struct hosted hosted = {0};
    for (uint32_t c = 0; c < spec->n_caches; c++)
        for (int side = 0; side < kv_n_chains(&spec->caches[c]); side++) {
            struct kv_stage *stage = kv_chain(&spec->caches[c], side);
            if (!stage) continue;
            hosted.stage[hosted.n] = stage;
            for (int s = 0; s < 2; s++)
                hosted.any |= hosted.was[hosted.n][s] = stage->modifiers[s].host;
            hosted.n++;
        }
    return hosted;
}

static void move_all(const struct hosted *hosted, bool back)
{
    for (uint32_t i = 0; i < hosted->n; i++)
        for (int s = 0; s < 2; s++) hosted->stage[i]->modifiers[s].host = back && hosted->was[i][s];
}

enum kv_verdict kv_check_host(struct kv_check *check)
{
    const struct hosted hosted = find_hosted(check->spec);
    if (!hosted.any) return kv_check_skip(check, "nothing lies on the host");
    struct kv_play play = kv_play_usual(check);
    struct kv_played away, here;
    enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &away);
    if (verdict != KV_PASS) return verdict;
    move_all(&hosted, false);
    verdict = kv_play_shape(check, &play, &kv_check_plain, &here);
    move_all(&hosted, true);
    const int64_t sum = kv_played_resident(&away) + kv_played_offloaded(&away);
    const int64_t all = verdict == KV_PASS ? kv_played_resident(&here) : 0;
    const double reads = kv_played_reads(&away);
    if (verdict == KV_PASS && !kv_played_same(&away, &here))
        verdict = KV_FAIL,
        kv_fail(&check->why, 0, "answers differ by %.3g from those on the device",
                kv_played_difference(&here, &away));
    else if (verdict == KV_PASS && (sum != all || kv_played_offloaded(&here) != 0))
        verdict = KV_FAIL,
        kv_fail(&check->why, 0, "stores %lld bytes, and %lld with all on the device",
                (long long)sum, (long long)all);
    else if (verdict == KV_PASS && fabs(reads - here.account.read_bytes) > 1e-9 * reads)
        verdict = KV_FAIL,
        kv_fail(&check->why, 0, "reads %.0f bytes, and %.0f with all on the device", reads,
                here.account.read_bytes);
    kv_played_forget(&away);
    kv_played_forget(&here);
    return verdict;
}

/* -- what is spent ---------------------------------------------------------------------------- */

struct knob { /* a parameter, and its values from the coarsest to the finest */
    const char *name, *values[9];
};

static const struct kv_param *param_of(const struct kv_stage *stage, const char *name)
{
    for (const struct kv_param *param = stage->codec->params; param && param->name; param++)
        if (strcmp(param->name, name) == 0) return param;
    return NULL;
}

/* Sets it on both sides; false where the codec has no such value. */
static bool turn(struct kv_stage *stage, const char *name, const char *value)
{
    struct kv_error err;
    for (int side = 0; side < 2; side++)
        if (kv_params_set(stage->codec->params, stage->config[side], stage->codec->name, name,
                          value, &err) != KV_OK)
            return false;
    return true;
}

static enum kv_verdict error_of(struct kv_check *check, const struct kv_played *exact,
                                double *error)
{
    struct kv_play play = kv_play_usual(check);
    struct kv_played played;
    const enum kv_verdict verdict = kv_play_shape(check, &play, &kv_check_plain, &played);
    if (verdict == KV_PASS) *error = kv_played_difference(exact, &played);
    kv_played_forget(&played);
    return verdict;
}

/* Errors that only rounding tells apart may come in any order: a fiftieth, or some steps of a half;
 * and those of answers that are about as far from the exact ones as none would be: that have less
 * than a tenth of their square. Beside what is not kept stands the noise of codes, whose square is
 * added, and which fewer directions may have been spared. */
static bool is_larger(double now, double before, double noise)
{
    const double allowed = sqrt(before * before + noise * noise);
    return now > 1.02 * allowed && now > 2e-3 && before * before < 0.9;
}

/* What the codec behind a projection errs by: the error with all directions kept, or as many as
 * run. */
static enum kv_verdict noise_behind(struct kv_check *check, const struct kv_played *exact,
                                    struct kv_stage *stage, const struct knob *knob, double *noise)
{
    *noise = 0.0;
    if (!stage->rest) return KV_PASS;
    for (int i = 8; i >= 0; i--) {
        if (!knob->values[i] || !turn(stage, knob->name, knob->values[i])) continue;
        const enum kv_verdict verdict = error_of(check, exact, noise);
        if (verdict != KV_SKIP) return verdict;
    }
    return KV_PASS;
}

static enum kv_verdict turn_up(struct kv_check *check, struct kv_stage *stage,
                               const struct knob *knob)
{
    struct kv_played exact;
    enum kv_verdict verdict = kv_play_exact(check, &kv_check_plain, &exact);
    double before = INFINITY, now = 0.0, noise = 0.0;
    uint32_t n = 0;
    if (verdict == KV_PASS) verdict = noise_behind(check, &exact, stage, knob, &noise);
    for (int i = 0; verdict == KV_PASS && i < 9 && knob->values[i]; i++) {
        if (!turn(stage, knob->name, knob->values[i])) continue;
        const enum kv_verdict one = error_of(check, &exact, &now);
        if (one == KV_FAIL) verdict = KV_FAIL;
        if (one != KV_PASS) continue;
        if (is_larger(now, before, noise))
            verdict = KV_FAIL, kv_fail(&check->why, 0, "%s=%s: error %.4g, before it %.4g",
                                       knob->name, knob->values[i], now, before);
        before = now, n++;
    }
    kv_played_forget(&exact);
    return verdict == KV_PASS && n < 2 ? kv_check_skip(check, "fewer than two values run")
                                       : verdict;
}

/* Turns a knob of the outermost codec, and back. */
static enum kv_verdict try_knob(struct kv_check *check, const struct knob *knob)
{
    struct kv_stage *stage = check->spec->caches[0].codec;
    void *old[2] = {malloc(stage->codec->config_size), malloc(stage->codec->config_size)};
    enum kv_verdict verdict = KV_FAIL;
    for (int side = 0; side < 2 && old[side]; side++)
        memcpy(old[side], stage->config[side], stage->codec->config_size);
    if (old[0] && old[1]) verdict = turn_up(check, stage, knob);
    for (int side = 0; side < 2; side++) {
        if (old[side]) memcpy(stage->config[side], old[side], stage->codec->config_size);
        free(old[side]);
    }
    return verdict;
}

static enum kv_verdict try_knobs(struct kv_check *check, const struct knob *knobs, size_t n)
{
    if (!is_codec_alone(check->spec)) return kv_check_skip(check, "not a codec alone");
    for (size_t i = 0; i < n; i++)
        if (param_of(check->spec->caches[0].codec, knobs[i].name))
            return try_knob(check, &knobs[i]);
    return kv_check_skip(check, "nothing to turn");
}

enum kv_verdict kv_check_bits(struct kv_check *check)
{
    static const struct knob bits = {"bits", {"1", "2", "3", "4", "5", "6", "7", "8"}};
    return try_knobs(check, &bits, 1);
}

static bool is_projection(const struct kv_spec *spec)
{
    return is_codec_alone(spec) && kv_codec_leaves_all(spec->caches[0].codec->codec);
}

enum kv_verdict kv_check_rank(struct kv_check *check)
{
    static const struct knob knobs[] = {{"rank", {"4", "8", "16", "32", "48", "64"}},
                                        {"ratio", {"0.8", "0.6", "0.4", "0.2", "0"}},
                                        {"heads", {"1", "2"}}};
    if (!is_projection(check->spec)) return kv_check_skip(check, "keeps no directions");
    return try_knobs(check, knobs, sizeof knobs / sizeof *knobs);
}

/* -- projections ------------------------------------------------------------------------------ */

/* P P = P: rows as they are read, recorded anew, are read the same, to the halves that hold what is
 * stored of them (2^-11 a number; bases are rounded so, too). */
enum kv_verdict kv_check_projection(struct kv_check *check)
{
    static const double HALVES = 4e-3;
    if (!is_projection(check->spec) || !param_of(check->spec->caches[0].codec, "rank"))
        return kv_check_skip(check, "no projection");
    if (check->spec->query_heads) return kv_check_skip(check, "copies of a row are no recording");
    if (check->spec->caches[0].codec->rest)
        return kv_check_skip(check, "the codec behind it changes rows");
    const struct kv_turn *turn = check->spec->caches[0].codec->codec->turn;
    if (turn && turn->row) return kv_check_skip(check, "rows are read in another space");
    if (kv_check_group(check->spec) > 1) return kv_check_skip(check, "a basis of several layers");
    const struct kv_modifiers *modifiers = check->spec->caches[0].codec->modifiers;
    if (modifiers[0].sinks > 0 || modifiers[1].sinks > 0)
        return kv_check_skip(check, "prompt rows that stay exact are in the fit, too");
    if (modifiers[0].outliers > 0 || modifiers[1].outliers > 0)
        return kv_check_skip(check, "values beside the projection");
    struct kv_check_shape shape = kv_check_plain;
    shape.dtype = KV_F32;
    struct kv_play play = kv_play_usual(check);
    struct kv_played once, twice;
    play.rows = true;
    enum kv_verdict verdict = kv_play_shape(check, &play, &shape, &once);
    if (verdict != KV_PASS) return verdict;
    play.from = &once;
    verdict = kv_play_shape(check, &play, &shape, &twice);
    const size_t rows = (size_t)shape.kv_heads * shape.tokens;
    for (int side = 0; verdict == KV_PASS && side < 2; side++) {
        const double moved =
            side ? kv_check_distance(once.values, twice.values, rows * shape.value_dim)
                 : kv_check_distance(once.keys, twice.keys, rows * shape.key_dim);
        if (moved > HALVES)
            verdict = KV_FAIL,
            kv_fail(&check->why, 0, "%s move by %.3g when they are projected again",
                    side ? "values" : "keys", moved);
    }
    kv_played_forget(&once);
    kv_played_forget(&twice);
    return verdict;
}
