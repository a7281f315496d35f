/* Layers for the conformance kit; see check_layer.h. */
#include "harness/check/check_layer.h"

#include <math.h>
#include <stdlib.h>

#include "harness/base/half.h"
#include "harness/base/rng.h"

struct made {                         /* everything of one layer, in one allocation each */
    struct kv_layer layer;
    struct kv_trace_layer info;
    int32_t *positions;
    double *inv_freq;
    float *sinks;
    struct kv_gradient fisher;
    uint32_t window[1][2];             /* of the probes: the decode steps that have a next token */
};

/* One element before it is stored: a little structure (outlier channels, a common mean), so that
 * methods have something to find. */
static double element(const struct kv_check_shape *shape, uint32_t head, uint32_t token, uint32_t c,
                      uint32_t which)
{
    struct kv_rng rng = kv_rng_stream(which + 16 * (uint32_t)shape->neighbour, head, token, c);
    if (shape->changed_from && token >= shape->changed_from) rng.key[1] = 1;
    const double outlier = which == 1 && c % 13 == 3 ? 4.0 : 1.0;
    switch (shape->rows) {
    case KV_ROWS_CONSTANT: return 0.625;
    case KV_ROWS_ZERO: return 0.0;
    case KV_ROWS_HUGE: return which == 0 ? 0.001 * kv_rng_normal(&rng) : c % 2 ? 65504.0 : -65504.0;
    case KV_ROWS_SUBNORMAL: return 3e-7 * kv_rng_normal(&rng);
    default: return outlier * (kv_rng_normal(&rng) + (which == 1 && c % 7 == 2));
    }
}

static uint32_t source_of(const struct kv_check_shape *shape, uint32_t head, uint32_t per_kv_head)
{
    const uint32_t kv_head = head / per_kv_head;
    return shape->swapped ? (shape->kv_heads - 1 - kv_head) * per_kv_head + head % per_kv_head : head;
}

static bool fill(struct kv_tensor *tensor, const struct kv_check_shape *shape, uint32_t heads,
                 uint32_t per_kv_head, uint32_t dim, uint32_t which)
{
    *tensor = (struct kv_tensor){.dtype = shape->dtype, .heads = heads, .tokens = shape->tokens,
                                 .dim = dim, .stride = dim};
    void *data = malloc((size_t)heads * shape->tokens * dim * kv_dtype_bytes(shape->dtype));
    tensor->data = data;
    if (!data) return false;
    size_t at = 0;
    for (uint32_t h = 0; h < heads; h++) {
        const uint32_t source = source_of(shape, h, per_kv_head);
        for (uint32_t t = 0; t < shape->tokens; t++)
            for (uint32_t c = 0; c < dim; c++, at++) {
                const float x = (float)element(shape, source, t, c, which);
                if (shape->dtype == KV_F32) ((float *)data)[at] = x;
                else if (shape->dtype == KV_F16) ((uint16_t *)data)[at] = kv_float_to_half(x);
                else ((uint16_t *)data)[at] = kv_float_to_bfloat(x);
            }
    }
    return true;
}

enum { HIDDEN = 24 };                 /* rows of w_o */

static void fill_projection(struct kv_layer *layer, const struct kv_check_shape *shape)
{
    const uint32_t q_heads = shape->kv_heads * shape->group;
    float *out = layer->w_o;
    for (uint32_t r = 0; r < HIDDEN; r++)
        for (uint32_t h = 0; h < q_heads; h++)
            for (uint32_t c = 0; c < shape->value_dim; c++) {
                struct kv_rng rng = kv_rng_stream(3, source_of(shape, h, shape->group), r, c);
                *out++ = (float)kv_rng_normal(&rng);
            }
}

/* Those of latents are read from the keys. */
static bool fill_values(struct kv_layer *layer, const struct kv_check_shape *shape)
{
    if (!shape->latent) return fill(&layer->v, shape, shape->kv_heads, 1, shape->value_dim, 2);
    layer->v = layer->k;
    layer->v.dim = shape->value_dim;
    return true;
}

static void describe(struct made *made, const struct kv_check_shape *shape)
{
    const uint32_t layer = (uint32_t)(KV_CHECK_LAYER + shape->neighbour);
    made->info.index = made->info.kv_source = layer, made->info.dtype = shape->dtype;
    made->info.geometry = (struct kv_geometry){
        .layer = layer, .model_layers = KV_CHECK_LAYERS, .q_heads = shape->kv_heads * shape->group,
        .values_in_keys = shape->latent, .kv_heads = shape->kv_heads, .group = shape->group, .key_dim = shape->key_dim,
        .value_dim = shape->value_dim, .tokens = shape->tokens, .prefill = shape->prefill,
        .window = shape->window, .question_start = shape->prefill - shape->question,
        .element_bits = shape->dtype == KV_F32 ? 32 : 16, .scale = 1.0 / sqrt(shape->key_dim),
        .softcap = shape->softcap, .sink_logits = made->sinks,
        .rope = {.layout = shape->interleaved ? KV_ROPE_INTERLEAVED : KV_ROPE_HALF,
                 .dims = shape->key_dim / 2 * 2, .scale = 1.0, .inv_freq = made->inv_freq},
        .positions = made->positions};
    made->layer.info = &made->info;
}

/* A label probe and a Fisher probe over all decode steps but the last. */
static bool add_probes(struct made *made, const struct kv_check_shape *shape)
{
    struct kv_check_shape probe = *shape;
    probe.dtype = KV_F32, probe.rows = KV_ROWS_NORMAL, probe.changed_from = 0;
    made->window[0][0] = shape->prefill, made->window[0][1] = shape->tokens - 1;
    probe.tokens = shape->tokens - 1 - shape->prefill;
    if (!probe.tokens) return true;
    made->layer.label.unit = made->fisher.unit = 1e-6;
    made->layer.fisher = &made->fisher, made->layer.n_fisher = 1;
    made->layer.windows = (const uint32_t(*)[2])made->window, made->layer.n_windows = 1;
    const uint32_t q_heads = shape->kv_heads * shape->group;
    return fill(&made->layer.label.tensor, &probe, q_heads, shape->group, shape->value_dim, 3) &&
           fill(&made->fisher.tensor, &probe, q_heads, shape->group, shape->value_dim, 4);
}

struct kv_layer *kv_check_layer(const struct kv_check_shape *shape)
{
    struct made *made = calloc(1, sizeof *made);
    if (!made) return NULL;
    const uint32_t q_heads = shape->kv_heads * shape->group;
    made->positions = calloc(shape->tokens, sizeof *made->positions);
    made->inv_freq = calloc(shape->key_dim, sizeof *made->inv_freq);
    made->sinks = shape->sinks ? calloc(q_heads, sizeof *made->sinks) : NULL;
    const bool done = made->positions && made->inv_freq && (made->sinks || !shape->sinks) &&
                      fill(&made->layer.q, shape, q_heads, shape->group, shape->key_dim, 0) &&
                      fill(&made->layer.k, shape, shape->kv_heads, 1, shape->key_dim, 1) &&
                      fill_values(&made->layer, shape);
    made->layer.hidden = HIDDEN;
    made->layer.w_o = calloc((size_t)HIDDEN * q_heads * shape->value_dim, sizeof *made->layer.w_o);
    if (!done || !made->layer.w_o) {
        kv_check_layer_free(&made->layer);
        return NULL;
    }
    if (!add_probes(made, shape)) {
        kv_check_layer_free(&made->layer);
        return NULL;
    }
    for (uint32_t t = 0; t < shape->tokens; t++) made->positions[t] = (int32_t)t;
    fill_projection(&made->layer, shape);
    for (uint32_t i = shape->latent ? shape->value_dim / 2 : 0; i < shape->key_dim / 2; i++)
        made->inv_freq[i] = pow(10000.0, -2.0 * i / shape->key_dim);
    for (uint32_t h = 0; made->sinks && h < q_heads; h++) made->sinks[h] = 0.5f;
    describe(made, shape);
    return &made->layer;
}

void kv_check_layer_free(struct kv_layer *layer)
{
    if (!layer) return;
    struct made *made = (struct made *)layer;
    free((void *)layer->q.data);
    if (layer->v.data != layer->k.data) free((void *)layer->v.data);
    free((void *)layer->k.data);
    free((void *)layer->label.tensor.data);
    free((void *)made->fisher.tensor.data);
    free(layer->w_o);
    free(made->positions);
    free(made->inv_freq);
    free(made->sinks);
    free(made);
}
