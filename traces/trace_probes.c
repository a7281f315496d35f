/* Gradient probes of a trace: windows, and one set of gradients per probe. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traces/trace_private.h"

static int parse_windows(struct kv_trace *trace, struct kv_error *err)
{
    /* A position's logits predict the token after it: no window holds the last token. */
    const int status = kv_read_ranges(&trace->windows, &trace->n_windows, trace->file,
                                      "grad/windows", trace->prefill, trace->tokens - 1, err);
    if (status != KV_OK) return status;
    for (uint32_t i = 0; i < trace->n_windows; i++) {
        if (i > 0 && trace->windows[i][0] < trace->windows[i - 1][1])
            return kv_fail(err, KV_EINPUT,
                           "%s: /grad/windows: expected ascending ranges that do not"
                           " overlap, found [%u, %u) after [%u, %u)",
                           trace->path, trace->windows[i][0], trace->windows[i][1],
                           trace->windows[i - 1][0], trace->windows[i - 1][1]);
        trace->window_tokens += trace->windows[i][1] - trace->windows[i][0];
    }
    return KV_OK;
}

static struct kv_trace_layer *layer_named(struct kv_trace *trace, const char *name)
{
    for (uint32_t i = 0; i < trace->n_layers; i++) {
        char text[16];
        snprintf(text, sizeof text, "%03u", trace->layers[i].index);
        if (strcmp(text, name) == 0) return &trace->layers[i];
    }
    return NULL;
}

static int parse_gradient(struct kv_trace *trace, const char *group, const char *name, bool first,
                          struct kv_error *err)
{
    char object[128];
    struct kv_h5_data data;
    struct kv_trace_layer *layer = layer_named(trace, name);
    snprintf(object, sizeof object, "%s/%.40s", group, name);
    if (!layer)
        return kv_fail(err, KV_EINPUT,
                       "%s: /%s: expected the index of a recorded layer, found %.40s", trace->path,
                       object, name);
    if (!first && !layer->has_gradients)
        return kv_fail(err, KV_EINPUT,
                       "%s: /%s: expected every probe to hold the same layers, found one"
                       " more",
                       trace->path, object);
    layer->has_gradients = true;
    const struct kv_expected expected = {
        KV_TYPES_GRADIENT, 3,
        {layer->geometry.q_heads, trace->window_tokens, layer->geometry.value_dim},
        {NULL, "n", NULL}};
    const int status = kv_expect(&data, trace->file, object, &expected, err);
    if (status != KV_OK) return status;
    /* Probes are parsed in order: label first, so this one's number is how many there are so far.
     */
    const uint32_t number = first ? 0 : trace->has_label + trace->n_fisher;
    double *units = realloc(layer->units, (number + 1) * sizeof *units);
    if (!units) return kv_fail(err, KV_EMEMORY, "%s: out of memory", trace->path);
    layer->units = units;
    return kv_expect_real(&units[number], trace->file, object, "unit", true, err);
}

static uint32_t with_gradients(const struct kv_trace *trace)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < trace->n_layers; i++) n += trace->layers[i].has_gradients;
    return n;
}

/* The gradients of one probe; `first` decides which layers have any. */
static int parse_probe(struct kv_trace *trace, const char *group, bool first, struct kv_error *err)
{
    struct kv_h5_names names;
    int status = kv_h5_list(&names, trace->file, group, err);
    uint32_t n = 0;
    for (size_t i = 0; i < names.n && status == KV_OK; i++) {
        if (strncmp(names.names[i], "x_", 2) == 0) continue;
        status = parse_gradient(trace, group, names.names[i], first, err);
        n++;
    }
    kv_h5_names_free(&names);
    if (status == KV_OK && n != with_gradients(trace))
        status = kv_fail(err, KV_EINPUT,
                         "%s: /%s: expected gradients of %u layers as in the other probes,"
                         " found %u",
                         trace->path, group, with_gradients(trace), n);
    return status;
}

static int parse_seeds(const struct kv_trace *trace, const char *group, struct kv_error *err)
{
    struct kv_h5_value seeds;
    if (!kv_h5_has_attribute(trace->file, group, "seeds"))
        return kv_fail(err, KV_EINPUT, "%s: /%s@seeds: expected [%u] i64, found nothing",
                       trace->path, group, trace->n_windows);
    const int status = kv_h5_value(&seeds, trace->file, group, "seeds", err);
    if (status != KV_OK) return status;
    free(seeds.data);
    const bool integers =
        seeds.type == KV_H5_I64 || seeds.type == KV_H5_I32 || seeds.type == KV_H5_U16;
    if (integers && seeds.rank == 1 && seeds.dims[0] == trace->n_windows) return KV_OK;
    const struct kv_h5_data shape = {
        .type = seeds.type, .rank = seeds.rank, .dims = {seeds.dims[0]}};
    char found[64];
    kv_h5_print_shape(found, sizeof found, &shape);
    return kv_fail(err, KV_EINPUT,
                   "%s: /%s@seeds: expected [%u] i64, one for each window, found %s", trace->path,
                   group, trace->n_windows, found);
}

/* Probes are numbered 0, 1, 2 ...: the number is the name. */
static int parse_fisher(struct kv_trace *trace, struct kv_error *err)
{
    struct kv_h5_names names;
    int status = kv_h5_list(&names, trace->file, "grad/fisher", err);
    uint32_t n = 0;
    for (size_t i = 0; i < names.n; i++) n += strncmp(names.names[i], "x_", 2) != 0;
    kv_h5_names_free(&names);
    for (uint32_t number = 0; number < n && status == KV_OK; number++) {
        char group[32];
        snprintf(group, sizeof group, "grad/fisher/%u", number);
        if (!kv_h5_exists(trace->file, group))
            return kv_fail(err, KV_EINPUT,
                           "%s: /%s: expected probes numbered 0..%u, found none of this"
                           " number",
                           trace->path, group, n - 1);
        status = parse_seeds(trace, group, err);
        if (status == KV_OK)
            status = parse_probe(trace, group, number == 0 && !trace->has_label, err);
        trace->n_fisher++;
    }
    return status;
}

int kv_trace_parse_probes(struct kv_trace *trace, struct kv_error *err)
{
    const bool label = kv_h5_exists(trace->file, "grad/label");
    const bool fisher = kv_h5_exists(trace->file, "grad/fisher");
    if (!label && !fisher && !kv_h5_exists(trace->file, "grad/windows")) return KV_OK;
    int status = parse_windows(trace, err);
    if (status == KV_OK && label) {
        trace->has_label = true;
        status = parse_probe(trace, "grad/label", true, err);
    }
    return status == KV_OK ? parse_fisher(trace, err) : status;
}
