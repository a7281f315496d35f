/* The layer groups of a trace: attributes, shapes, and who reads whose keys and values. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traces/trace_private.h"

struct parse {                    /* one layer group */
    struct kv_trace *trace;
    struct kv_trace_layer *layer;
    const struct kv_h5 *file;
    char object[16];              /* "layers/007" */
    struct kv_error *err;
};

/* "layers/007/k" */
static const char *dataset(const struct parse *parse, const char *name, char text[48])
{
    snprintf(text, 48, "%s/%s", parse->object, name);
    return text;
}

static bool has(const struct parse *parse, const char *name)
{
    char object[48];
    return kv_h5_exists(parse->file, dataset(parse, name, object));
}

static int choose(int *out, const struct parse *parse, const char *name, const char *const *choices,
                  const char *expected)
{
    char *text;
    const int status = kv_h5_text(&text, parse->file, parse->object, name, parse->err);
    if (status != KV_OK) return status;
    for (*out = 0; choices[*out] && strcmp(choices[*out], text) != 0;) ++*out;
    const int found = choices[*out] != NULL;
    if (!found)
        kv_fail(parse->err, KV_EINPUT, "%s: /%s@%s: expected %s, found %.64s", parse->trace->path,
                parse->object, name, expected, text);
    free(text);
    return found ? KV_OK : KV_EINPUT;
}

static int parse_flag(bool *out, const struct parse *parse, const char *name, bool optional)
{
    int64_t value = 0;
    if (optional && !kv_h5_has_attribute(parse->file, parse->object, name)) return KV_OK;
    const int status = kv_expect_int(&value, parse->file, parse->object, name, 0, 1, parse->err);
    *out = value == 1;
    return status;
}

static int parse_mask(const struct parse *parse)
{
    static const char *const kinds[] = {"full", "sliding", NULL};
    struct kv_geometry *geometry = &parse->layer->geometry;
    int kind = 0;
    int64_t window = 0;
    int status =
        kv_expect_real(&geometry->scale, parse->file, parse->object, "scale", true, parse->err);
    if (status == KV_OK)
        status = kv_expect_real(&geometry->softcap, parse->file, parse->object, "softcap", false,
                                parse->err);
    if (status == KV_OK) status = choose(&kind, parse, "kind", kinds, "full or sliding");
    if (status == KV_OK)
        status =
            kv_expect_int(&window, parse->file, parse->object, "window", 0, INT32_MAX, parse->err);
    parse->layer->sliding = kind == 1;
    geometry->window = (uint32_t)window;
    return status;
}

static int parse_inv_freq(const struct parse *parse, struct kv_rope *rope)
{
    char object[48];
    struct kv_h5_data data;
    const struct kv_expected expected = {1 << KV_H5_F64, 1, {rope->dims / 2}, {NULL}};
    int status = kv_expect(&data, parse->file, dataset(parse, "rope_inv_freq", object), &expected,
                           parse->err);
    if (status != KV_OK) return status;
    double *inv_freq = calloc(rope->dims / 2, sizeof *inv_freq);
    rope->inv_freq = inv_freq;
    if (!inv_freq) return kv_fail(parse->err, KV_EMEMORY, "%s: out of memory", parse->trace->path);
    status = kv_h5_read(inv_freq, parse->file, object, &data, 0, rope->dims / 2, parse->err);
    for (uint32_t i = 0; i < rope->dims / 2 && status == KV_OK; i++)
        if (!isfinite(inv_freq[i]))
            status =
                kv_fail(parse->err, KV_EINPUT, "%s: /%s: expected finite numbers, found %g at [%u]",
                        parse->trace->path, object, inv_freq[i], i);
    return status;
}

static int parse_rope(const struct parse *parse)
{
    static const char *const layouts[] = {"none", "half", "interleaved", NULL};
    struct kv_rope *rope = &parse->layer->geometry.rope;
    const int64_t key_dim = parse->layer->geometry.key_dim;
    int layout = 0;
    int64_t dims = 0;
    int status = choose(&layout, parse, "rope_layout", layouts, "half, interleaved or none");
    if (status == KV_OK)
        status =
            kv_expect_int(&dims, parse->file, parse->object, "rope_dims", 0, key_dim, parse->err);
    if (status == KV_OK)
        status = kv_expect_real(&rope->scale, parse->file, parse->object, "rope_scale", true,
                                parse->err);
    if (status != KV_OK) return status;
    rope->layout = (enum kv_rope_layout)layout;
    rope->dims = layout == KV_ROPE_NONE ? 0 : (uint32_t)dims;
    if (layout == KV_ROPE_NONE)
        return !has(parse, "rope_inv_freq") ? KV_OK
             : kv_fail(parse->err, KV_EINPUT, "%s: /%s/rope_inv_freq: expected nothing beside"
                       " rope_layout = none, found a dataset", parse->trace->path, parse->object);
    if (dims == 0 || dims % 2)
        return kv_fail(parse->err, KV_EINPUT,
                       "%s: /%s@rope_dims: expected an even number from 2, found %" PRId64,
                       parse->trace->path, parse->object, dims);
    return parse_inv_freq(parse, rope);
}

static int parse_queries(const struct parse *parse)
{
    char object[48];
    struct kv_h5_data data;
    const struct kv_expected expected = {KV_TYPES_TENSOR, 3, {0, parse->trace->tokens, 0},
                                         {"q_heads", NULL, "d_k"}};
    const int status =
        kv_expect(&data, parse->file, dataset(parse, "q", object), &expected, parse->err);
    if (status != KV_OK) return status;
    parse->layer->geometry.q_heads = (uint32_t)data.dims[0];
    parse->layer->geometry.key_dim = (uint32_t)data.dims[2];
    return KV_OK;
}

static int parse_keys(const struct parse *parse)
{
    struct kv_geometry *geometry = &parse->layer->geometry;
    char object[48];
    struct kv_h5_data data;
    const struct kv_expected expected = {KV_TYPES_TENSOR, 3, {0, parse->trace->tokens, 0},
                                         {"kv_heads", NULL, "d_k"}};
    const int status =
        kv_expect(&data, parse->file, dataset(parse, "k", object), &expected, parse->err);
    if (status != KV_OK) return status;
    geometry->kv_heads = (uint32_t)data.dims[0];
    if (data.dims[2] != geometry->key_dim)
        return kv_fail(parse->err, KV_EINPUT, "%s: /%s: expected d_k = %u as in q, found %" PRIu64,
                       parse->trace->path, object, geometry->key_dim, data.dims[2]);
    if (geometry->q_heads % geometry->kv_heads)
        return kv_fail(parse->err, KV_EINPUT,
                       "%s: /%s: expected kv_heads that divide q_heads = %u, found"
                       " %u",
                       parse->trace->path, object, geometry->q_heads, geometry->kv_heads);
    parse->layer->dtype = kv_dtype_of(data.type);
    geometry->element_bits = 8 * (uint32_t)kv_dtype_bytes(parse->layer->dtype);
    return KV_OK;
}

static int expect_none(const struct parse *parse, const char *name, const char *why)
{
    return !has(parse, name) ? KV_OK
         : kv_fail(parse->err, KV_EINPUT, "%s: /%s/%s: expected nothing (%s), found a dataset",
                   parse->trace->path, parse->object, name, why);
}

static int parse_values(const struct parse *parse)
{
    struct kv_geometry *geometry = &parse->layer->geometry;
    char object[48];
    struct kv_h5_data data;
    int64_t prefix = 0;
    int status = KV_OK;
    if (kv_h5_has_attribute(parse->file, parse->object, "v_is_k_prefix"))
        status = kv_expect_int(&prefix, parse->file, parse->object, "v_is_k_prefix", 0,
                               geometry->key_dim, parse->err);
    if (status != KV_OK) return status;
    geometry->value_dim = (uint32_t)prefix;
    parse->layer->v_is_k_prefix = geometry->values_in_keys = prefix > 0;
    if (prefix) return expect_none(parse, "v", "v_is_k_prefix says that the keys hold the values");
    const struct kv_expected expected = {KV_TYPES_TENSOR, 3,
                                         {geometry->kv_heads, parse->trace->tokens, 0},
                                         {NULL, NULL, "d_v"}};
    status = kv_expect(&data, parse->file, dataset(parse, "v", object), &expected, parse->err);
    if (status == KV_OK) geometry->value_dim = (uint32_t)data.dims[2];
    return status;
}

/* The layer whose keys and values this one reads must be recorded and hold its own; the groups are
 * read in ascending order, so a source further on is not parsed yet: hence a second round. */
static int parse_source(const struct parse *parse)
{
    struct kv_trace_layer *layer = parse->layer;
    const uint32_t at = kv_trace_find_layer(parse->trace, layer->kv_source);
    const struct kv_trace_layer *source = &parse->trace->layers[at];
    if (at == parse->trace->n_layers)
        return kv_fail(parse->err, KV_EINPUT,
                       "%s: /%s@kv_source: expected a recorded layer, found %u", parse->trace->path,
                       parse->object, layer->kv_source);
    if (source->kv_source != source->index)
        return kv_fail(parse->err, KV_EINPUT,
                       "%s: /%s@kv_source: expected a layer with keys of its own,"
                       " found %u, which reads those of %u",
                       parse->trace->path, parse->object, source->index, source->kv_source);
    const struct kv_geometry *theirs = &source->geometry;
    if (theirs->key_dim != layer->geometry.key_dim)
        return kv_fail(parse->err, KV_EINPUT,
                       "%s: /%s/q: expected d_k = %u as in layer %u, found %u", parse->trace->path,
                       parse->object, theirs->key_dim, source->index, layer->geometry.key_dim);
    if (layer->geometry.q_heads % theirs->kv_heads)
        return kv_fail(parse->err, KV_EINPUT,
                       "%s: /%s/q: expected a multiple of kv_heads = %u of layer"
                       " %u, found %u",
                       parse->trace->path, parse->object, theirs->kv_heads, source->index,
                       layer->geometry.q_heads);
    layer->dtype = source->dtype;
    layer->v_is_k_prefix = source->v_is_k_prefix;
    layer->geometry.kv_heads = theirs->kv_heads;
    layer->geometry.value_dim = theirs->value_dim;
    layer->geometry.values_in_keys = theirs->values_in_keys;
    layer->geometry.element_bits = theirs->element_bits;
    return KV_OK;
}

static int parse_sink_logits(const struct parse *parse)
{
    struct kv_geometry *geometry = &parse->layer->geometry;
    char object[48];
    struct kv_h5_data data;
    if (!has(parse, "sink_logits")) return KV_OK;
    const struct kv_expected expected = {1 << KV_H5_F32, 1, {geometry->q_heads}, {NULL}};
    int status = kv_expect(&data, parse->file, dataset(parse, "sink_logits", object), &expected,
                           parse->err);
    if (status != KV_OK) return status;
    float *logits = calloc(geometry->q_heads, sizeof *logits);
    geometry->sink_logits = logits;
    if (!logits) return kv_fail(parse->err, KV_EMEMORY, "%s: out of memory", parse->trace->path);
    status = kv_h5_read(logits, parse->file, object, &data, 0, geometry->q_heads, parse->err);
    for (uint32_t i = 0; i < geometry->q_heads && status == KV_OK; i++)
        if (isnan(logits[i]) || logits[i] == INFINITY)
            status = kv_fail(parse->err, KV_EINPUT, "%s: /%s: expected numbers, found %g at [%u]",
                             parse->trace->path, object, (double)logits[i], i);
    return status;
}

static int parse_projection(const struct parse *parse)
{
    const struct kv_geometry *geometry = &parse->layer->geometry;
    char object[48];
    struct kv_h5_data data;
    int status = KV_OK;
    parse->layer->has_w_o = has(parse, "w_o");
    parse->layer->has_x2 = has(parse, "x2");
    const struct kv_expected w_o = {KV_TYPES_TENSOR, 2,
                                    {0, (uint64_t)geometry->q_heads * geometry->value_dim},
                                    {"hidden", NULL}};
    const struct kv_expected x2 = {1 << KV_H5_F32, 1, {parse->trace->tokens}, {NULL}};
    if (parse->layer->has_w_o)
        status = kv_expect(&data, parse->file, dataset(parse, "w_o", object), &w_o, parse->err);
    if (status == KV_OK && parse->layer->has_x2)
        status = kv_expect(&data, parse->file, dataset(parse, "x2", object), &x2, parse->err);
    return status;
}

/* What can be said of a layer alone. */
static int parse_alone(const struct parse *parse)
{
    int64_t source = 0;
    int status = parse_queries(parse);
    if (status == KV_OK)
        status =
            kv_expect_int(&source, parse->file, parse->object, "kv_source", 0, 999, parse->err);
    if (status != KV_OK) return status;
    parse->layer->kv_source = (uint32_t)source;
    if (parse->layer->kv_source == parse->layer->index) {
        status = parse_keys(parse);
        if (status == KV_OK) status = parse_values(parse);
    } else {
        status = expect_none(parse, "k", "kv_source names another layer");
        if (status == KV_OK) status = expect_none(parse, "v", "kv_source names another layer");
    }
    if (status == KV_OK) status = parse_mask(parse);
    if (status == KV_OK) status = parse_rope(parse);
    if (status == KV_OK) status = parse_flag(&parse->layer->qk_norm, parse, "qk_norm", false);
    if (status == KV_OK)
        status = parse_flag(&parse->layer->attn_post_norm, parse, "attn_post_norm", true);
    return status;
}

/* What needs the other layers. */
static int parse_together(const struct parse *parse)
{
    struct kv_geometry *geometry = &parse->layer->geometry;
    int status = KV_OK;
    if (parse->layer->kv_source != parse->layer->index) status = parse_source(parse);
    if (status == KV_OK) status = parse_sink_logits(parse);
    if (status == KV_OK) status = parse_projection(parse);
    if (status == KV_OK) geometry->group = geometry->q_heads / geometry->kv_heads;
    return status;
}

/* Notes layer NNN; its name is its index. */
static int add_layer(struct kv_trace *trace, const char *name, struct kv_error *err)
{
    if (strlen(name) != 3 || strspn(name, "0123456789") != 3)
        return kv_fail(err, KV_EINPUT,
                       "%s: /layers: expected layer indices of three digits, found %.64s",
                       trace->path, name);
    const uint32_t index = (uint32_t)atoi(name);
    if (trace->model_layers && index >= trace->model_layers)
        return kv_fail(err, KV_EINPUT,
                       "%s: /layers/%s: expected an index below num_hidden_layers = %u,"
                       " found %u",
                       trace->path, name, trace->model_layers, index);
    struct kv_trace_layer *layer = &trace->layers[trace->n_layers++];
    layer->index = index;
    layer->geometry = (struct kv_geometry){
        .layer = index, .tokens = trace->tokens, .prefill = trace->prefill,
        .question_start = trace->question_start, .positions = trace->positions};
    return KV_OK;
}

static int add_layers(struct kv_trace *trace, struct kv_error *err)
{
    struct kv_h5_names names;
    int status = kv_h5_list(&names, trace->file, "layers", err);
    if (status != KV_OK) return status;
    trace->layers = calloc(names.n + 1, sizeof *trace->layers);
    if (!trace->layers) status = kv_fail(err, KV_EMEMORY, "%s: out of memory", trace->path);
    for (size_t i = 0; i < names.n && status == KV_OK; i++)
        if (strncmp(names.names[i], "x_", 2) != 0) status = add_layer(trace, names.names[i], err);
    kv_h5_names_free(&names);
    if (status == KV_OK && trace->n_layers == 0)
        status = kv_fail(err, KV_EINPUT,
                         "%s: /layers: expected at least one layer group, found none", trace->path);
    return status;
}

int kv_trace_parse_layers(struct kv_trace *trace, struct kv_error *err)
{
    int status = add_layers(trace, err);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < trace->n_layers && status == KV_OK; i++) {
            struct parse parse = {trace, &trace->layers[i], trace->file, "", err};
            snprintf(parse.object, sizeof parse.object, "layers/%03u",
                     trace->layers[i].index % 1000);
            status = round == 0 ? parse_alone(&parse) : parse_together(&parse);
        }
    }
    if (status != KV_OK) return status;
    const uint32_t deepest = trace->layers[trace->n_layers - 1].index + 1;
    for (uint32_t i = 0; i < trace->n_layers; i++)
        trace->layers[i].geometry.model_layers =
            trace->model_layers ? trace->model_layers : deepest;
    return KV_OK;
}
