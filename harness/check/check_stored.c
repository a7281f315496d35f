/* Stored budgets in the conformance kit; see check_stored.h. */
#include "harness/check/check_stored.h"

#include "harness/check/check_altered.h"
#include "harness/run/layers/survey.h"
#include "methods/spec/spec_wants.h"

/* True where atoms may outlive some of their rows, so that bytes hang on which rows were dropped:
 * under eviction step by step, from heads of unequal length, or from heads that choose apart and
 * whose rows stand in one atom. */
static bool leaves_holes(const struct kv_spec *spec)
{
    const struct kv_cache_spec *cache = &spec->caches[0];
    for (uint32_t p = 0; p < cache->n_policies; p++) {
        const struct kv_trim *trim = &cache->policies[p]->trim;
        if (!trim->prompt_only || trim->pooled_heads) return cache->codec || cache->values;
        if (!trim->shared_heads && kv_cache_codec_over_heads(cache)) return true;
    }
    return false;
}

/* Why the law does not hold of a spec, or NULL. */
static const char *exempt(const struct kv_check *check)
{
    const struct kv_cache_spec *cache = &check->spec->caches[0];
    if (check->spec->n_caches > 1 || !kv_check_has_budget(check)) return "no budget";
    if (cache->n_policies > 1) return "several budgets";
    if (leaves_holes(check->spec)) return "stored units may outlive their rows";
    const uint32_t kind = cache->policies[0]->trim.layer_budget;
    if (kind == KV_LAYERS_UNIFORM) return NULL;
    if (kind == KV_LAYERS_PYRAMID_INTEGER || kind == KV_LAYERS_PYRAMID_KVPRESS)
        return "its layers are rounded each by itself: all may hold some rows more";
    if (kv_check_group(check->spec) > 1) return "a codec of several layers";
    for (uint32_t l = 0; l < KV_CHECK_LAYERS; l++)
        if (kv_spec_is_exact_layer(check->spec, l, KV_CHECK_LAYERS))
            return "shares are of all layers, some of which this spec leaves exact";
    return NULL;
}

struct stored { /* by so many layers */
    int64_t bytes, waiting; /* waiting: exact rows beside a codec's */
    bool whole;
};

static struct kv_check_shape layer_shape(uint32_t layer)
{
    struct kv_check_shape shape = kv_check_plain;
    shape.neighbour = (int32_t)layer - KV_CHECK_LAYER;
    return shape;
}

/* What all layers say of themselves before any is cut. */
static enum kv_verdict ask_layers(struct kv_check *check, double preference[KV_CHECK_LAYERS])
{
    int status = KV_OK;
    for (uint32_t l = 0; status == KV_OK && l < KV_CHECK_LAYERS; l++) {
        const struct kv_check_shape shape = layer_shape(l);
        struct kv_layer *layer = kv_check_layer(&shape);
        if (!layer) return kv_fail(&check->why, 0, "out of memory"), KV_FAIL;
        status = kv_survey_layer(&preference[l], check->spec, layer, &check->kernels, &check->why);
        kv_check_layer_free(layer);
    }
    return status == KV_OK ? KV_PASS : status == KV_EUNSUPPORTED ? KV_SKIP : KV_FAIL;
}

static enum kv_verdict store(struct kv_check *check, const struct kv_play *play,
                             const struct kv_check_shape *shape, struct stored *stored)
{
    struct kv_played played;
    const enum kv_verdict verdict = kv_play_audited(check, *play, shape, &played);
    stored->bytes += kv_played_resident(&played);
    stored->waiting += played.account.bytes.residual[0] + played.account.bytes.residual[1];
    stored->whole |= played.kept_whole;
    kv_played_forget(&played);
    return verdict;
}

static enum kv_verdict store_layers(struct kv_check *check, struct stored *stored)
{
    double preference[KV_CHECK_LAYERS];
    struct kv_play play = kv_play_usual(check);
    enum kv_verdict verdict = KV_PASS;
    if (kv_survey_wanted(check->spec)) verdict = ask_layers(check, preference);
    for (uint32_t l = 0; verdict == KV_PASS && l < KV_CHECK_LAYERS; l++) {
        const struct kv_check_shape shape = layer_shape(l);
        play.survey = (struct kv_survey){KV_CHECK_LAYERS, l, preference};
        verdict = store(check, &play, &shape, stored);
    }
    return verdict;
}

static bool shares_layers(const struct kv_check *check)
{
    return check->spec->caches[0].policies[0]->trim.layer_budget != KV_LAYERS_UNIFORM;
}

static enum kv_verdict judge(struct kv_check *check, const struct stored *stored, double bits)
{
    const uint32_t layers = shares_layers(check) ? KV_CHECK_LAYERS : 1;
    const double elements = (double)layers * kv_check_plain.tokens * kv_check_plain.kv_heads *
                            (kv_check_plain.key_dim + kv_check_plain.value_dim);
    const double found = 8.0 * (double)stored->bytes / elements;
    if (stored->whole) return kv_check_skip(check, "the policy keeps this layer whole");
    if (found <= bits) return KV_PASS;
    /* Rows that fill no block are exact: as many in a short layer as in a long one, or more. */
    if (layers > 1 && stored->waiting > 0)
        return kv_check_skip(check, "layers of unlike length leave unlike rows waiting");
    kv_fail(&check->why, 0, "%s %.6g bits per element, asked were %g",
            layers > 1 ? "all layers together store" : "stores", found, bits);
    return KV_FAIL;
}

enum kv_verdict kv_check_stored_budget(struct kv_check *check)
{
    static const double bits = 8.0;
    const char *why = exempt(check);
    if (why) return kv_check_skip(check, why);
    struct kv_play play = kv_play_usual(check);
    struct stored stored = {0};
    const struct kv_altered altered = kv_alter(check->spec);
    kv_alter_budgets(&altered, (struct kv_budget){.bits = bits});
    const enum kv_verdict verdict = shares_layers(check)
                                        ? store_layers(check, &stored)
                                        : store(check, &play, &kv_check_plain, &stored);
    kv_alter_back(&altered);
    return verdict == KV_PASS ? judge(check, &stored, bits) : verdict;
}
