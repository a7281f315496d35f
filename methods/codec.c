/* Makes the codec of a stage, with the modifiers that need only its rows: center=, outliers=,
 * rotate= (wrapped around it, in this order), sinks=, recent=. */
#include "methods/codec.h"
#include "methods/spec/spec.h"

extern const struct kv_codec kv_codec_f16, kv_codec_hadamard, kv_codec_center, kv_codec_outliers;

const uint8_t kv_smallest_atom[1];

/* The config that is missing (a stage made by hand): all parameters at their initial values. */
static int default_config(const void **config, const struct kv_codec *codec,
                          const struct kv_setup *setup, struct kv_error *err)
{
    void *made = kv_pool_reserve(setup->pool, KV_WORKSPACE, codec->config_size);
    if (!made) return kv_fail(err, KV_EMEMORY, "%s: no memory for its parameters", codec->name);
    kv_params_defaults(codec->params, made);
    *config = made;
    return KV_OK;
}

/* A codec around others would store all rows as they store those of the prompt. Whether an inner
 * one stores the later ones in another way hangs on its parameters: asked once it is made. */
static int refuse_later(const struct kv_code *inner, struct kv_error *err)
{
    if (!kv_later_code(inner)) return KV_OK;
    return kv_fail(err, KV_EUNSUPPORTED,
                   "%s: stores the rows after the prompt in another way, as codecs around it do not",
                   inner->type->name);
}

/* Rows that are turned by definition are met by queries: nothing stands between. */
static int refuse_turned(const struct kv_codec *codec, const struct kv_stage *rest,
                         struct kv_error *err)
{
    for (; rest; rest = rest->rest)
        if (rest->codec->turn && rest->codec->turn->row)
            return kv_fail(err, KV_EUNSUPPORTED,
                           "%s: %s is the outermost codec or none: modifiers of rows go on"
                           " the one inside it",
                           codec->name, rest->codec->name);
    return KV_OK;
}

static int create(struct kv_code **out, const struct kv_codec *codec, const void *config,
                  const struct kv_stage *rest, const struct kv_setup *setup, uint32_t dim,
                  struct kv_error *err)
{
    struct kv_setup own = *setup;
    own.config = config, own.dim = dim, own.rest = rest;
    if (!dim) return kv_fail(err, KV_EUNSUPPORTED, "%s: rows without columns", codec->name);
    if (!config && codec->config_size) {
        const int status = default_config(&own.config, codec, setup, err);
        if (status) return status;
    }
    int status = refuse_turned(codec, rest, err);
    if (status != KV_OK) return status;
    own.is_inner = true;
    status = codec->create(out, &own, err);
    if (status != KV_OK) return status;
    /* A codec may make one of another type: what is fitted only in some settings. */
    if (!(*out)->type) (*out)->type = codec;
    return setup->is_inner ? refuse_later(*out, err) : KV_OK;
}

/* Wrapping is a chain of stages in front of this one, which itself comes last without its wrapping.
 * Codecs make their inner ones in create, so the chain need not outlive the call. */
static int create_wrapped(struct kv_code **out, const struct kv_stage *stage,
                          const struct kv_setup *setup, uint32_t dim, struct kv_error *err)
{
    const struct kv_modifiers *wanted = &stage->modifiers[setup->side == KV_VALUES];
    const struct kv_modifiers plain = {.sinks = -1, .recent = -1};
    struct kv_stage bare = *stage;
    for (int s = 0; s < 2; s++)
        bare.modifiers[s].rotate = bare.modifiers[s].center = false, bare.modifiers[s].outliers = 0;
    struct kv_stage turn = {
        .codec = &kv_codec_hadamard, .modifiers = {plain, plain}, .rest = &bare};
    struct kv_stage *inner = wanted->rotate ? &turn : &bare;
    double share = wanted->outliers; /* all of that codec's parameters */
    struct kv_stage apart = {.codec = &kv_codec_outliers,
                             .config = {&share, &share},
                             .modifiers = {plain, plain},
                             .rest = inner};
    if (wanted->outliers > 0) inner = &apart;
    struct kv_stage mean = {.codec = &kv_codec_center, .modifiers = {plain, plain}, .rest = inner};
    return kv_create_code(out, wanted->center ? &mean : inner, setup, dim, err);
}

uint32_t kv_lanes_in_row(const struct kv_setup *setup)
{
    const struct kv_geometry *geometry = setup->geometry;
    const uint32_t keys = setup->side == KV_VALUES ? 0 : geometry->key_dim;
    const uint32_t values = setup->side == KV_KEYS ? 0 : geometry->value_dim;
    const uint32_t lanes = setup->n_heads * (setup->n_layers ? setup->n_layers : 1);
    return lanes > 1 && setup->dim == lanes * (keys + values) ? lanes : 1;
}

int kv_create_code(struct kv_code **out, const struct kv_stage *stage, const struct kv_setup *setup,
                   uint32_t dim, struct kv_error *err)
{
    *out = NULL;
    if (!stage) return create(out, &kv_codec_f16, NULL, NULL, setup, dim, err);
    const uint32_t side = setup->side == KV_VALUES;
    const struct kv_modifiers *modifiers = &stage->modifiers[side];
    if (modifiers->rotate || modifiers->center || modifiers->outliers > 0)
        return create_wrapped(out, stage, setup, dim, err);
    const int status = create(out, stage->codec, stage->config[side], stage->rest, setup, dim, err);
    if (status) return status;
    for (struct kv_code *code = *out; code; code = kv_later_code(code)) {
        if (modifiers->sinks >= 0) code->tiers.sinks = (uint32_t)modifiers->sinks;
        if (modifiers->recent >= 0) code->tiers.recent = (uint32_t)modifiers->recent;
    }
    return KV_OK;
}
