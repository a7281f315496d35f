/* See info.h. */
#include "harness/output/tables/info.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "traces/h5.h"

static const char *const dtypes[] = {"f16", "bf16", "f32"};
static const char *const layouts[] = {"none", "half", "interleaved"};

/* "shuffle+deflate" or "contiguous", of the dataset NAME of a layer. */
static void storage_of(char text[48], const struct kv_trace *trace,
                       const struct kv_trace_layer *layer, const char *name)
{
    char object[48];
    struct kv_h5_data data;
    snprintf(object, sizeof object, "layers/%03u/%s", layer->index, name);
    snprintf(text, 48, "unknown");
    if (kv_h5_describe(&data, trace->file, object, NULL) != KV_OK) return;
    snprintf(text, 48, "%s", *data.filters ? data.filters : data.offset ? "contiguous" : "chunked");
}

static void print_mask(char text[24], const struct kv_trace_layer *layer)
{
    if (layer->geometry.window) snprintf(text, 24, "window %u", layer->geometry.window);
    else snprintf(text, 24, "full");
}

static void print_rope(char text[40], const struct kv_rope *rope)
{
    if (rope->layout == KV_ROPE_NONE) snprintf(text, 40, "none");
    else if (rope->scale != 1)
        snprintf(text, 40, "%s %u x%.3g", layouts[rope->layout], rope->dims, rope->scale);
    else snprintf(text, 40, "%s %u", layouts[rope->layout], rope->dims);
}

/* What else the layer has: whatever a method or a metric asks for. */
static void print_extras(char text[64], const struct kv_trace_layer *layer)
{
    const struct { bool has; const char *name;
    } extras[] = {{layer->has_gradients, "grad"},
                  {layer->has_w_o, "w_o"},
                  {layer->has_x2, "x2"},
                  {layer->geometry.sink_logits != NULL, "sinks"},
                  {layer->geometry.softcap > 0, "softcap"},
                  {layer->qk_norm, "qk_norm"},
                  {layer->attn_post_norm, "post_norm"},
                  {layer->v_is_k_prefix, "v=k"},
                  {layer->kv_source != layer->index, "shared"}};
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof extras / sizeof *extras && used < 64; i++)
        if (extras[i].has)
            used +=
                (size_t)snprintf(text + used, 64 - used, "%s%s", used ? " " : "", extras[i].name);
}

static void print_layers(FILE *out, const struct kv_trace *trace)
{
    fprintf(out, "\n%5s %7s %8s %5s %5s %5s  %-13s %-14s %s\n", "layer", "q_heads", "kv_heads",
            "d_k", "d_v", "type", "mask", "rotary", "also");
    for (uint32_t i = 0; i < trace->n_layers; i++) {
        const struct kv_trace_layer *layer = &trace->layers[i];
        const struct kv_geometry *g = &layer->geometry;
        char mask[24], rope[40], extras[64];
        print_mask(mask, layer);
        print_rope(rope, &g->rope);
        print_extras(extras, layer);
        fprintf(out, "%5u %7u %8u %5u %5u %5s  %-13s %-14s %.30s\n", layer->index, g->q_heads,
                g->kv_heads, g->key_dim, g->value_dim, dtypes[layer->dtype], mask, rope, extras);
    }
}

static void print_ranges(FILE *out, const char *label, uint32_t n, uint32_t (*const ranges)[2])
{
    fprintf(out, "%s", label);
    for (uint32_t i = 0; i < n && i < 8; i++) fprintf(out, " %u:%u", ranges[i][0], ranges[i][1]);
    fprintf(out, n > 8 ? " ... (%u)\n" : "\n", n);
}

static void print_text(FILE *out, const struct kv_trace *trace)
{
    const double mib = (double)kv_h5_file_bytes(trace->file) / (1 << 20);
    char storage[48];
    storage_of(storage, trace, &trace->layers[0], "q");
    fprintf(out, "file      %s, %.2f MiB, tensors %s\n", trace->path, mib, storage);
    fprintf(out, "model     %s\n", trace->model);
    fprintf(out, "weights   %s\n", trace->model_digest);
    fprintf(out, "text      %s\n", trace->text);
    fprintf(out, "recorder  %s\n", trace->recorder);
    fprintf(out, "content   %s%s\n", trace->content_hash, trace->verified ? "" : " (not verified)");
    fprintf(out, "tokens    %u: %u prompt, %u decode steps", trace->tokens, trace->prefill,
            trace->tokens - trace->prefill);
    if (trace->question_start < trace->prefill)
        fprintf(out, ", question from %u", trace->question_start);
    fprintf(out, "\nlayers    %u", trace->n_layers);
    if (trace->model_layers) fprintf(out, " of the model's %u", trace->model_layers);
    fprintf(out, "\nprobes    ");
    if (trace->n_windows == 0) fprintf(out, "none: dkl columns stay empty\n");
    else {
        fprintf(out, "%s%u Fisher, windows", trace->has_label ? "label, " : "", trace->n_fisher);
        print_ranges(out, "", trace->n_windows, trace->windows);
    }
    for (uint32_t i = 0; i < trace->n_spans; i++) {
        fprintf(out, "span      %s", trace->spans[i].name);
        print_ranges(out, "", trace->spans[i].n, trace->spans[i].range);
    }
    fprintf(out, "nll       %s\n", trace->nll ? "yes" : "no: ppl_est stays empty");
    print_layers(out, trace);
}

static cJSON *json_ranges(uint32_t n, uint32_t (*const ranges)[2])
{
    cJSON *list = cJSON_CreateArray();
    for (uint32_t i = 0; i < n; i++) {
        const int pair[2] = {(int)ranges[i][0], (int)ranges[i][1]};
        cJSON_AddItemToArray(list, cJSON_CreateIntArray(pair, 2));
    }
    return list;
}

static cJSON *json_layer(const struct kv_trace *trace, const struct kv_trace_layer *layer)
{
    const struct kv_geometry *g = &layer->geometry;
    const struct { const char *name; double value;
    } numbers[] = {
        {"layer", layer->index},     {"q_heads", g->q_heads},      {"kv_heads", g->kv_heads},
        {"d_k", g->key_dim},         {"d_v", g->value_dim},        {"scale", g->scale},
        {"softcap", g->softcap},     {"window", g->window},        {"kv_source", layer->kv_source},
        {"rope_dims", g->rope.dims}, {"rope_scale", g->rope.scale}};
    const struct { const char *name; bool value; } flags[] = {
        {"qk_norm", layer->qk_norm}, {"attn_post_norm", layer->attn_post_norm},
        {"v_is_k_prefix", layer->v_is_k_prefix}, {"w_o", layer->has_w_o}, {"x2", layer->has_x2},
        {"sink_logits", g->sink_logits != NULL}, {"gradients", layer->has_gradients}};
    cJSON *object = cJSON_CreateObject();
    char storage[48];
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cJSON_AddNumberToObject(object, numbers[i].name, numbers[i].value);
    cJSON_AddStringToObject(object, "dtype", dtypes[layer->dtype]);
    cJSON_AddStringToObject(object, "kind", layer->sliding ? "sliding" : "full");
    cJSON_AddStringToObject(object, "rope_layout", layouts[g->rope.layout]);
    storage_of(storage, trace, layer, "q");
    cJSON_AddStringToObject(object, "storage", storage);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        cJSON_AddBoolToObject(object, flags[i].name, flags[i].value);
    return object;
}

static cJSON *json_trace(const struct kv_trace *trace)
{
    cJSON *root = cJSON_CreateObject();
    const struct { const char *name, *value;
    } texts[] = {{"file", trace->path},
                 {"model", trace->model},
                 {"model_digest", trace->model_digest},
                 {"text", trace->text},
                 {"recorder", trace->recorder},
                 {"content_hash", trace->content_hash}};
    const struct { const char *name; double value; } numbers[] = {
        {"file_bytes", (double)kv_h5_file_bytes(trace->file)}, {"tokens", trace->tokens},
        {"prefill_length", trace->prefill}, {"question_start", trace->question_start},
        {"model_layers", trace->model_layers}, {"fisher", trace->n_fisher}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cJSON_AddStringToObject(root, texts[i].name, texts[i].value);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cJSON_AddNumberToObject(root, numbers[i].name, numbers[i].value);
    cJSON_AddBoolToObject(root, "verified", trace->verified);
    cJSON_AddBoolToObject(root, "label", trace->has_label);
    cJSON_AddBoolToObject(root, "nll", trace->nll != NULL);
    cJSON_AddItemToObject(root, "windows", json_ranges(trace->n_windows, trace->windows));
    cJSON *spans = cJSON_AddObjectToObject(root, "spans");
    for (uint32_t i = 0; i < trace->n_spans; i++)
        cJSON_AddItemToObject(spans, trace->spans[i].name,
                              json_ranges(trace->spans[i].n, trace->spans[i].range));
    cJSON *layers = cJSON_AddArrayToObject(root, "layers");
    for (uint32_t i = 0; i < trace->n_layers; i++)
        cJSON_AddItemToArray(layers, json_layer(trace, &trace->layers[i]));
    return root;
}

int kv_info_print(FILE *out, const struct kv_trace *trace, bool json, struct kv_error *err)
{
    if (!json) {
        print_text(out, trace);
        return KV_OK;
    }
    cJSON *root = json_trace(trace);
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (!text) return kv_fail(err, KV_EMEMORY, "%s: out of memory", trace->path);
    fprintf(out, "%s\n", text);
    cJSON_free(text);
    return KV_OK;
}
