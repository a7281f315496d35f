/* Synthetic traces: parameters, the roles of tokens, and the file; see synth.h. */
#include "traces/synth.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/geometry.h"
#include "traces/portable.h"
#include "traces/synth_private.h"
#include "traces/writer.h"

#define U32(field, initial, low, high, meaning) \
    {#field, KV_PARAM_U32, offsetof(struct kv_synth, field), initial, low, high, NULL, meaning}
#define REAL(field, initial, low, high, meaning) \
    {#field, KV_PARAM_REAL, offsetof(struct kv_synth, field), initial, low, high, NULL, meaning}
#define CHOICE(field, initial, choices, meaning) \
    {#field, KV_PARAM_CHOICE, offsetof(struct kv_synth, field), initial, 0, 0, choices, meaning}

const struct kv_param kv_synth_params[] = {
    U32(tokens, 1024, 2, 1 << 20, "length of the text"),
    U32(prefill, 768, 1, 1 << 20, "length of the prompt; of a shorter text three quarters"),
    U32(layers, 4, 1, 999, "recorded layers, all the model has"),
    U32(q_heads, 8, 1, 1024, "query heads"),
    U32(kv_heads, 2, 1, 1024, "heads of keys and values"),
    U32(head_dim, 64, 8, 1024, "d_k"),
    U32(value_dim, 0, 0, 1024, "d_v; 0 = d_k"),
    CHOICE(dtype, 0, "f16|bf16|f32", "of the tensors"),
    CHOICE(rope, KV_ROPE_HALF, "none|half|interleaved", "layout of the rotation"),
    U32(rope_dims, 0, 0, 1024, "leading dimensions that rotate; 0 = d_k"),
    REAL(rope_base, 10000, 2, 1e9, "base of the inverse frequencies"),
    U32(seed, 1, 0, UINT32_MAX, "of everything random"),
    U32(outliers, 4, 0, 256, "outlier channels of a key head"),
    REAL(outlier_factor, 8, 1, 1000, "their root mean square against the others'"),
    U32(sinks, 4, 0, 1024, "first tokens that draw attention"),
    REAL(sink_mass, 0.3, 0, 0.98, "their share of it"),
    U32(heavy, 16, 0, 4096, "tokens over the prompt that draw attention"),
    REAL(heavy_mass, 0.2, 0, 0.98, "their share of it"),
    U32(needles, 0, 0, 64, "spans of 8 tokens that the end of the text looks for"),
    REAL(needle_mass, 0.3, 0, 0.98, "their share of its attention"),
    U32(rank, 0, 0, 1024, "of keys before the rotation and of values; 0 = full"),
    REAL(rank_noise, 0.05, 0, 1, "share of noise in a row's length"),
    REAL(drift, 0, 0, 100, "way of the mean key over the text, in sqrt(d_k)"),
    REAL(spread, 1.5, 0, 20, "standard deviation of plain logits"),
    U32(window, 0, 0, 1 << 20, "of sliding layers; 0 = all full"),
    U32(full_every, 2, 0, 999, "every n-th layer is full; 0 = all slide"),
    REAL(softcap, 0, 0, 1000, "0 = none"),
    CHOICE(sink_logits, 0, "off|on", "one extra logit a head in the denominator"),
    REAL(sink_logit, 2, -50, 50, "its mean"),
    CHOICE(probes, 1, "off|on", "gradient probes"),
    U32(fisher, 2, 0, 16, "Fisher probes beside the label probe"),
    CHOICE(w_o, 0, "off|on", "output projections"),
    CHOICE(x2, 0, "off|on", "squared length of the residual stream"),
    CHOICE(mla, 0, "off|on", "values are the first d_v channels of the keys"),
    CHOICE(deflate, 0, "off|on", "chunked, shuffled and deflated tensors"),
    {NULL}};

struct making {                   /* a file in the making */
    struct kv_trace_writer *writer;
    const struct kv_synth *synth;
    uint32_t value_dim, rope_dims, question_start, n_windows, window_tokens;
    int32_t windows[2][2];
    uint8_t *role;
    struct kv_error *err;
};

static int refuse(struct kv_error *err, const char *name, double value, const char *expected)
{
    return kv_fail(err, KV_EUSAGE, "trace synth: %s=%g: expected %s", name, value, expected);
}

static int check_shape(const struct kv_synth *s, uint32_t rope_dims, struct kv_error *err)
{
    if (s->prefill >= s->tokens) return refuse(err, "prefill", s->prefill, "less than tokens");
    if (s->q_heads % s->kv_heads)
        return refuse(err, "kv_heads", s->kv_heads, "a divisor of q_heads");
    if (rope_dims == s->head_dim && rope_dims % 2)
        return refuse(err, "head_dim", s->head_dim, "an even number, or rope=none, or fewer rope_dims");
    if (rope_dims % 2 || rope_dims > s->head_dim)
        return refuse(err, "rope_dims", rope_dims, "an even number up to head_dim");
    if (s->mla && s->value_dim > s->head_dim)
        return refuse(err, "value_dim", s->value_dim, "at most head_dim with mla=on");
    return KV_OK;
}

static int check_statistics(const struct kv_synth *s, struct kv_error *err)
{
    const double masses = (s->sinks ? s->sink_mass : 0) + (s->heavy ? s->heavy_mass : 0)
                        + (s->needles ? s->needle_mass : 0);
    if (masses > 0.98)
        return refuse(err, "sink_mass + heavy_mass + needle_mass", masses, "at most 0.98");
    /* The directions of groups live in the other channels, of which they need a few. */
    if (s->outliers > s->head_dim / 4)
        return refuse(err, "outliers", s->outliers, "at most a quarter of head_dim");
    if (s->rank >= s->head_dim) return refuse(err, "rank", s->rank, "less than head_dim");
    const uint64_t special = (uint64_t)s->sinks + s->heavy +
                             (uint64_t)KV_NEEDLE_TOKENS * s->needles * 2 +
                             (s->needles ? KV_QUESTION_TOKENS : 0);
    if (special * 2 > s->prefill)
        return refuse(err, "prefill", s->prefill,
                      "at least twice the tokens of sinks, heavy hitters,"
                      " needles (16 each) and question (16)");
    return KV_OK;
}

static bool free_span(const uint8_t *role, uint32_t first, uint32_t n)
{
    for (uint32_t t = first; t < first + n; t++)
        if (role[t] != KV_REST) return false;
    return true;
}

/* Places n spans of `length` tokens of one role at random free places of the prompt. */
static void place(const struct making *making, struct kv_rng *rng, enum kv_synth_group group,
                  uint32_t n, uint32_t length)
{
    const uint32_t places = making->question_start - length + 1;
    for (uint32_t placed = 0; placed < n;) {
        const uint32_t first = kv_rng_below(rng, places);
        if (!free_span(making->role, first, length)) continue;
        memset(making->role + first, group, length);
        placed++;
    }
}

static void place_roles(struct making *making)
{
    const struct kv_synth *synth = making->synth;
    struct kv_rng rng = kv_rng_stream(synth->seed, 0, 0, KV_DRAW_ROLES);
    memset(making->role, KV_SINKS, synth->sinks);
    if (synth->needles) place(making, &rng, KV_NEEDLES, synth->needles, KV_NEEDLE_TOKENS);
    if (synth->heavy) place(making, &rng, KV_HEAVY, synth->heavy, 1);
}

/* Two windows of at most 64 tokens, one behind the prompt, one before the last token. */
static void place_windows(struct making *making)
{
    const struct kv_synth *synth = making->synth;
    const uint32_t room = synth->tokens - 1 - synth->prefill;
    if (!synth->probes || room == 0) return;
    const uint32_t length = room < 2 ? 1 : room / 2 < 64 ? room / 2 : 64;
    making->n_windows = room < 2 ? 1 : 2;
    making->window_tokens = making->n_windows * length;
    making->windows[0][0] = (int32_t)synth->prefill;
    making->windows[0][1] = (int32_t)(synth->prefill + length);
    making->windows[1][0] = (int32_t)(synth->tokens - 1 - length);
    making->windows[1][1] = (int32_t)(synth->tokens - 1);
}

static void write_texts(const struct making *making)
{
    const struct kv_synth *s = making->synth;
    struct kv_trace_writer *w = making->writer;
    char text[2048], digest[64];
    kv_trace_writer_text(w, "", "model", "synthetic");
    snprintf(digest, sizeof digest, "synthetic:kvbench-synth-1:%u", s->seed);
    kv_trace_writer_text(w, "", "model_digest", digest);
    snprintf(text, sizeof text, "{\"num_hidden_layers\": %u, \"num_attention_heads\": %u,"
             " \"num_key_value_heads\": %u, \"head_dim\": %u, \"hidden_size\": %u}", s->layers,
             s->q_heads, s->kv_heads, s->head_dim, s->q_heads * s->head_dim);
    kv_trace_writer_text(w, "", "model_config", text);
    const size_t used = (size_t)snprintf(text, sizeof text, "random numbers, CC0; trace synth");
    kv_params_print(kv_synth_params, s, text + used, sizeof text - used);
    kv_trace_writer_text(w, "", "text", text);
    kv_trace_writer_text(w, "", "recorder", "kvbench trace synth");
}

static void write_root(const struct making *making, int32_t *numbers, float *nll)
{
    const struct kv_synth *s = making->synth;
    struct kv_trace_writer *w = making->writer;
    const uint64_t dims[1] = {s->tokens};
    struct kv_rng ids = kv_rng_stream(s->seed, 0, 0, KV_DRAW_TOKENS);
    struct kv_rng losses = kv_rng_stream(s->seed, 0, 0, KV_DRAW_NLL);
    write_texts(making);
    kv_trace_writer_i64(w, "", "tokens", s->tokens);
    kv_trace_writer_i64(w, "", "prefill_length", s->prefill);
    if (s->needles) kv_trace_writer_i64(w, "", "question_start", making->question_start);
    for (uint32_t t = 0; t < s->tokens; t++) numbers[t] = (int32_t)kv_rng_below(&ids, 32000);
    kv_trace_writer_data(w, "token_ids", KV_H5_I32, 1, dims, numbers);
    for (uint32_t t = 0; t < s->tokens; t++) numbers[t] = (int32_t)t;
    kv_trace_writer_data(w, "positions", KV_H5_I32, 1, dims, numbers);
    for (uint32_t t = 0; t < s->tokens; t++)
        nll[t] = (float)(-2.5 * kv_portable_log(1 - kv_rng_uniform(&losses)));
    nll[0] = NAN;
    kv_trace_writer_data(w, "nll", KV_H5_F32, 1, dims, nll);
}

static void write_needles(const struct making *making)
{
    int32_t ranges[64][2];
    uint64_t n = 0;
    for (uint32_t t = 0; t < making->synth->tokens; t++) {
        if (making->role[t] != KV_NEEDLES) continue;
        /* Two needles may touch: each is exactly KV_NEEDLE_TOKENS long. */
        ranges[n][0] = (int32_t)t;
        ranges[n++][1] = (int32_t)(t + KV_NEEDLE_TOKENS);
        t += KV_NEEDLE_TOKENS - 1;
    }
    const uint64_t dims[2] = {n, 2};
    if (n) kv_trace_writer_data(making->writer, "spans/needle", KV_H5_I32, 2, dims, ranges);
}

static enum kv_h5_type stored_type(uint32_t dtype)
{
    return dtype == KV_F32 ? KV_H5_F32 : dtype == KV_BF16 ? KV_H5_BF16 : KV_H5_F16;
}

static void write_tensor(const struct making *making, const char *group, const char *name,
                         enum kv_h5_type type, uint32_t rank, const uint64_t *dims,
                         const void *data)
{
    char object[64];
    snprintf(object, sizeof object, "%s/%s", group, name);
    if (making->synth->deflate)
        kv_trace_writer_deflated(making->writer, object, type, rank, dims, data);
    else kv_trace_writer_data(making->writer, object, type, rank, dims, data);
}

static void write_layer_attributes(const struct making *making, const struct kv_synth_layer *layer,
                                   const char *group)
{
    static const char *const layouts[] = {"none", "half", "interleaved"};
    const struct kv_synth *s = making->synth;
    struct kv_trace_writer *w = making->writer;
    kv_trace_writer_real(w, group, "scale", 1 / sqrt((double)s->head_dim));
    kv_trace_writer_real(w, group, "softcap", s->softcap);
    kv_trace_writer_text(w, group, "kind", layer->window ? "sliding" : "full");
    kv_trace_writer_i64(w, group, "window", layer->window);
    kv_trace_writer_i64(w, group, "kv_source", layer->index);
    kv_trace_writer_text(w, group, "rope_layout", layouts[s->rope]);
    kv_trace_writer_i64(w, group, "rope_dims", layer->rope_dims);
    kv_trace_writer_real(w, group, "rope_scale", 1);
    kv_trace_writer_i32(w, group, "qk_norm", 0);
    if (s->mla) kv_trace_writer_i64(w, group, "v_is_k_prefix", layer->value_dim);
}

static void write_attention(const struct making *making, const struct kv_synth_layer *layer,
                            const char *group)
{
    const struct kv_synth *s = making->synth;
    const enum kv_h5_type type = stored_type(s->dtype);
    const uint64_t q[3] = {s->q_heads, s->tokens, s->head_dim},
                   k[3] = {s->kv_heads, s->tokens, s->head_dim};
    const uint64_t v[3] = {s->kv_heads, s->tokens, layer->value_dim};
    const uint64_t pairs[1] = {layer->rope_dims / 2}, heads[1] = {s->q_heads};
    write_tensor(making, group, "q", type, 3, q, layer->q);
    write_tensor(making, group, "k", type, 3, k, layer->k);
    if (layer->v) write_tensor(making, group, "v", type, 3, v, layer->v);
    char object[64];
    snprintf(object, sizeof object, "%s/rope_inv_freq", group);
    if (pairs[0])
        kv_trace_writer_data(making->writer, object, KV_H5_F64, 1, pairs, layer->inv_freq);
    snprintf(object, sizeof object, "%s/sink_logits", group);
    if (layer->sink_logits)
        kv_trace_writer_data(making->writer, object, KV_H5_F32, 1, heads, layer->sink_logits);
}

/* Projection rows of length about 1, and a residual stream that grows with depth. */
static int write_projection(const struct making *making, const struct kv_synth_layer *layer,
                            const char *group)
{
    const struct kv_synth *s = making->synth;
    const uint64_t hidden = (uint64_t)s->q_heads * s->head_dim,
                   inner = (uint64_t)s->q_heads * layer->value_dim;
    const uint64_t w_o[2] = {hidden, inner}, x2[1] = {s->tokens};
    struct kv_rng weights = kv_rng_stream(s->seed, layer->index, 0, KV_DRAW_W_O);
    struct kv_rng lengths = kv_rng_stream(s->seed, layer->index, 0, KV_DRAW_X2);
    void *words = calloc(hidden * inner + s->tokens, sizeof(float));
    if (!words) return kv_fail(making->err, KV_EMEMORY, "trace synth: out of memory");
    if (s->w_o) {
        for (uint64_t i = 0; i < hidden * inner; i++)
            kv_synth_store(words, i, kv_rng_normal(&weights) / sqrt((double)inner),
                           (enum kv_dtype)s->dtype);
        write_tensor(making, group, "w_o", stored_type(s->dtype), 2, w_o, words);
    }
    if (s->x2) {
        for (uint32_t t = 0; t < s->tokens; t++)
            ((float *)words)[t] =
                (float)((double)hidden * (1 + layer->index) * (0.5 + kv_rng_uniform(&lengths)));
        char object[64];
        snprintf(object, sizeof object, "%s/x2", group);
        kv_trace_writer_data(making->writer, object, KV_H5_F32, 1, x2, words);
    }
    free(words);
    return KV_OK;
}

static void free_layer(struct kv_synth_layer *layer)
{
    free(layer->inv_freq);
    free(layer->sink_logits);
    free(layer->q);
    free(layer->k);
    free(layer->v);
}

static int allocate_layer(struct kv_synth_layer *layer, struct kv_error *err)
{
    const struct kv_synth *s = layer->synth;
    const size_t keys = (size_t)s->kv_heads * s->tokens * s->head_dim;
    const size_t values = (size_t)s->kv_heads * s->tokens * layer->value_dim;
    layer->inv_freq = calloc(layer->rope_dims / 2 + 1, sizeof *layer->inv_freq);
    layer->q = calloc((size_t)s->q_heads * s->tokens * s->head_dim, sizeof(float));
    layer->k = calloc(keys, sizeof(float));
    if (!s->mla) layer->v = calloc(values, sizeof(float));
    if (s->sink_logits) layer->sink_logits = calloc(s->q_heads, sizeof *layer->sink_logits);
    if (layer->inv_freq && layer->q && layer->k && (layer->v || s->mla)
        && (layer->sink_logits || !s->sink_logits)) return KV_OK;
    return kv_fail(err, KV_EMEMORY, "trace synth: out of memory");
}

static void fill_layer(struct kv_synth_layer *layer)
{
    const struct kv_synth *s = layer->synth;
    const double step =
        kv_portable_log(s->rope_base) * -2 / (layer->rope_dims ? layer->rope_dims : 1);
    for (uint32_t i = 0; i < layer->rope_dims / 2; i++)
        layer->inv_freq[i] = kv_portable_exp(step * i);
    struct kv_rng rng = kv_rng_stream(s->seed, layer->index, 0, KV_DRAW_SINK_LOGITS);
    for (uint32_t h = 0; layer->sink_logits && h < s->q_heads; h++)
        layer->sink_logits[h] = (float)(s->sink_logit + 0.25 * kv_rng_normal(&rng));
}

static int write_layer(const struct making *making, uint32_t index)
{
    const struct kv_synth *s = making->synth;
    const bool full = s->window == 0 || (s->full_every && (index + 1) % s->full_every == 0);
    struct kv_synth_layer layer = {.synth = s,
                                   .index = index,
                                   .value_dim = making->value_dim,
                                   .rope_dims = making->rope_dims,
                                   .window = full ? 0 : s->window,
                                   .question_start = making->question_start,
                                   .role = making->role};
    char group[16];
    snprintf(group, sizeof group, "layers/%03u", index % 1000);
    int status = allocate_layer(&layer, making->err);
    if (status == KV_OK) {
        fill_layer(&layer);
        status = kv_synth_attention(&layer, making->err);
    }
    if (status == KV_OK) {
        write_layer_attributes(making, &layer, group);
        write_attention(making, &layer, group);
        if (s->w_o || s->x2) status = write_projection(making, &layer, group);
    }
    free_layer(&layer);
    return status;
}

/* Gaussian gradients whose size varies from token to token as -log of a uniform number does. */
static int write_probe(const struct making *making, const char *probe, uint32_t layer,
                       uint32_t purpose)
{
    const struct kv_synth *s = making->synth;
    const uint64_t dims[3] = {s->q_heads, making->window_tokens, making->value_dim};
    struct kv_rng rng = kv_rng_stream(s->seed, layer, 0, purpose);
    uint16_t *words = calloc(dims[0] * dims[1] * dims[2] + 1, sizeof *words);
    char group[32], name[8];
    if (!words) return kv_fail(making->err, KV_EMEMORY, "trace synth: out of memory");
    for (uint64_t row = 0; row < dims[0] * dims[1]; row++) {
        const double size = -kv_portable_log(1 - kv_rng_uniform(&rng));
        for (uint64_t i = 0; i < dims[2]; i++)
            kv_synth_store(words, row * dims[2] + i, size * kv_rng_normal(&rng), KV_F16);
    }
    snprintf(group, sizeof group, "grad/%s", probe);
    snprintf(name, sizeof name, "%03u", layer % 1000);
    write_tensor(making, group, name, KV_H5_F16, 3, dims, words);
    free(words);
    char object[48];
    snprintf(object, sizeof object, "%s/%s", group, name);
    kv_trace_writer_real(making->writer, object, "unit", 0x1p-4);
    return KV_OK;
}

static int write_probes(const struct making *making)
{
    const struct kv_synth *s = making->synth;
    const uint64_t dims[2] = {making->n_windows, 2};
    int status = KV_OK;
    if (making->n_windows == 0) return KV_OK;
    kv_trace_writer_data(making->writer, "grad/windows", KV_H5_I32, 2, dims, making->windows);
    for (uint32_t layer = 0; layer < s->layers && status == KV_OK; layer++)
        status = write_probe(making, "label", layer, KV_DRAW_LABEL);
    for (uint32_t n = 0; n < s->fisher && status == KV_OK; n++) {
        char probe[32], group[40];
        int64_t seeds[2] = {s->seed, s->seed};
        snprintf(probe, sizeof probe, "fisher/%u", n);
        snprintf(group, sizeof group, "grad/%s", probe);
        for (uint32_t layer = 0; layer < s->layers && status == KV_OK; layer++)
            status = write_probe(making, probe, layer, KV_DRAW_FISHER + n);
        const struct kv_h5_value value = {.type = KV_H5_I64, .rank = 1, .dims = {making->n_windows},
                                          .n = making->n_windows, .data = seeds};
        kv_trace_writer_value(making->writer, group, "seeds", &value);
    }
    return status;
}

static int write_all(struct making *making)
{
    const struct kv_synth *s = making->synth;
    int32_t *numbers = calloc(s->tokens, sizeof *numbers);
    float *nll = calloc(s->tokens, sizeof *nll);
    making->role = calloc(s->tokens, 1);
    int status = numbers && nll && making->role ? KV_OK
               : kv_fail(making->err, KV_EMEMORY, "trace synth: out of memory");
    if (status == KV_OK) {
        place_roles(making);
        place_windows(making);
        write_root(making, numbers, nll);
        write_needles(making);
    }
    for (uint32_t i = 0; i < s->layers && status == KV_OK; i++) {
        status = write_layer(making, i);
        if (kv_trace_writer_status(making->writer) != KV_OK) break;
    }
    if (status == KV_OK) status = write_probes(making);
    free(numbers);
    free(nll);
    free(making->role);
    return status;
}

int kv_trace_synth(const char *path, const struct kv_synth *synth, struct kv_error *err)
{
    struct making making = {.synth = synth, .err = err};
    making.value_dim = synth->value_dim ? synth->value_dim : synth->head_dim;
    making.rope_dims = synth->rope == KV_ROPE_NONE ? 0
                       : synth->rope_dims          ? synth->rope_dims
                                                   : synth->head_dim;
    making.question_start = synth->needles ? synth->prefill - KV_QUESTION_TOKENS : synth->prefill;
    int status = check_shape(synth, making.rope_dims, err);
    if (status == KV_OK) status = check_statistics(synth, err);
    if (status == KV_OK) status = kv_trace_writer_create(&making.writer, path, err);
    if (status != KV_OK) return status;
    status = write_all(&making);
    if (status == KV_OK) return kv_trace_writer_finish(making.writer, err);
    kv_trace_writer_abandon(making.writer);
    return status;
}
