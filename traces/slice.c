/* Cutting a trace; see slice.h. */
#include "traces/slice.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traces/copy.h"
#include "traces/schema.h"

struct slicing {
    const struct kv_trace *trace;
    const struct kv_slice *slice;
    struct kv_copy copy;
    uint32_t first, end, prefill; /* resolved */
    uint32_t *tokens;             /* first..end-1 as a list */
    uint32_t *windows, n_windows; /* numbers of the windows that stay */
    uint32_t *window_tokens, n_window_tokens;
    char *notes;
    struct kv_error *err;
};

static bool listed(const uint32_t *list, uint32_t n, uint32_t value)
{
    if (!list) return true;
    for (uint32_t i = 0; i < n; i++)
        if (list[i] == value) return true;
    return false;
}

static bool keeps(const struct slicing *s, const struct kv_trace_layer *layer)
{
    return listed(s->slice->layers, s->slice->n_layers, layer->index);
}

static int check_tokens(struct slicing *s)
{
    const struct kv_trace *trace = s->trace;
    s->first = s->slice->first;
    s->end = s->slice->end ? s->slice->end : trace->tokens;
    if (s->end > trace->tokens || s->first + 2 > s->end)
        return kv_fail(s->err, KV_EUSAGE,
                       "trace slice: --tokens %u:%u: expected at least two tokens"
                       " within 0:%u",
                       s->first, s->end, trace->tokens);
    const int64_t prefill =
        s->slice->prefill ? s->slice->prefill : (int64_t)trace->prefill - s->first;
    const int64_t most = (int64_t)s->end - s->first - 1;
    if (prefill < 1 || prefill > most)
        return kv_fail(s->err, KV_EUSAGE, "trace slice: --prefill %" PRId64 ": expected 1..%" PRId64
                       " for tokens %u:%u", prefill, most, s->first, s->end);
    s->prefill = (uint32_t)prefill;
    return KV_OK;
}

static int check_layer(const struct slicing *s, const struct kv_trace_layer *layer)
{
    if (!listed(s->slice->layers, s->slice->n_layers, layer->kv_source))
        return kv_fail(s->err, KV_EUSAGE,
                       "trace slice: --layers: expected layer %u too, whose keys and"
                       " values layer %u reads",
                       layer->kv_source, layer->index);
    for (uint32_t i = 0; s->slice->heads && i < s->slice->n_heads; i++)
        if (s->slice->heads[i] >= layer->geometry.kv_heads)
            return kv_fail(s->err, KV_EUSAGE,
                           "trace slice: --heads %u: expected KV heads 0..%u of layer"
                           " %u",
                           s->slice->heads[i], layer->geometry.kv_heads - 1, layer->index);
    return KV_OK;
}

static int check_layers(const struct slicing *s)
{
    for (uint32_t i = 0; s->slice->layers && i < s->slice->n_layers; i++)
        if (kv_trace_find_layer(s->trace, s->slice->layers[i]) == s->trace->n_layers)
            return kv_fail(s->err, KV_EUSAGE,
                           "trace slice: --layers %u: expected a layer that %s holds",
                           s->slice->layers[i], s->trace->path);
    int status = KV_OK;
    for (uint32_t n = 0; n < s->trace->n_layers && status == KV_OK; n++)
        if (keeps(s, &s->trace->layers[n])) status = check_layer(s, &s->trace->layers[n]);
    return status;
}

static void choose_windows(struct slicing *s)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < s->trace->n_windows; i++) {
        const uint32_t low = s->trace->windows[i][0], high = s->trace->windows[i][1];
        if (s->first == 0 && low >= s->prefill && high < s->end) {
            s->windows[s->n_windows++] = i;
            for (uint32_t t = low; t < high; t++)
                s->window_tokens[s->n_window_tokens++] = before + t - low;
        }
        before += high - low;
    }
    if (s->n_windows < s->trace->n_windows && s->notes)
        snprintf(s->notes, 256, "%u of %u probe windows dropped: %s",
                 s->trace->n_windows - s->n_windows, s->trace->n_windows,
                 s->first ? "their gradients saw the tokens cut off before"
                          : "they do not fit the tokens that stay");
}

static int prepare(struct slicing *s)
{
    int status = check_tokens(s);
    if (status == KV_OK) status = check_layers(s);
    if (status != KV_OK) return status;
    s->tokens = calloc(s->end - s->first, sizeof *s->tokens);
    s->windows = calloc(s->trace->n_windows + 1, sizeof *s->windows);
    s->window_tokens = calloc(s->trace->window_tokens + 1, sizeof *s->window_tokens);
    if (!s->tokens || !s->windows || !s->window_tokens)
        return kv_fail(s->err, KV_EMEMORY, "%s: out of memory", s->trace->path);
    for (uint32_t t = s->first; t < s->end; t++) s->tokens[t - s->first] = t;
    choose_windows(s);
    return KV_OK;
}

static int copy_root(const struct slicing *s)
{
    static const char *const texts[] = {"model", "model_digest", "model_config", "text"};
    struct kv_trace_writer *w = s->copy.writer;
    const struct kv_cut cut = {s->tokens, s->end - s->first};
    int status = KV_OK;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && status == KV_OK; i++)
        status = kv_copy_attribute(&s->copy, "", texts[i]);
    kv_trace_writer_text(w, "", "recorder", "kvbench trace slice");
    kv_trace_writer_i64(w, "", "tokens", s->end - s->first);
    kv_trace_writer_i64(w, "", "prefill_length", s->prefill);
    const int64_t question = (int64_t)s->trace->question_start - s->first;
    if (s->trace->question_start < s->trace->prefill && question >= 0 && question < s->prefill)
        kv_trace_writer_i64(w, "", "question_start", question);
    for (const char *const *name = kv_schema_root_datasets; *name && status == KV_OK; name++)
        status = kv_copy_dataset(&s->copy, *name, &cut);
    return status;
}

static int copy_spans(const struct slicing *s)
{
    for (uint32_t i = 0; i < s->trace->n_spans; i++) {
        const struct kv_span_name *span = &s->trace->spans[i];
        int32_t(*ranges)[2] = calloc(span->n + 1, sizeof *ranges);
        if (!ranges) return kv_fail(s->err, KV_EMEMORY, "%s: out of memory", s->trace->path);
        uint64_t n = 0;
        for (uint32_t r = 0; r < span->n; r++) {
            const uint32_t low = span->range[r][0] > s->first ? span->range[r][0] : s->first;
            const uint32_t high = span->range[r][1] < s->end ? span->range[r][1] : s->end;
            if (low >= high) continue;
            ranges[n][0] = (int32_t)(low - s->first);
            ranges[n++][1] = (int32_t)(high - s->first);
        }
        char object[80];
        snprintf(object, sizeof object, "spans/%s", span->name);
        const uint64_t dims[2] = {n, 2};
        if (n) kv_trace_writer_data(s->copy.writer, object, KV_H5_I32, 2, dims, ranges);
        free(ranges);
    }
    return KV_OK;
}

/* `each` consecutive indices for every head that stays; NULL index when all do. */
static struct kv_cut head_cut(const struct slicing *s, uint32_t *list, uint32_t each)
{
    if (!s->slice->heads) return (struct kv_cut){0};
    for (uint32_t i = 0; i < s->slice->n_heads; i++)
        for (uint32_t n = 0; n < each; n++) list[i * each + n] = s->slice->heads[i] * each + n;
    return (struct kv_cut){list, (uint64_t)s->slice->n_heads * each};
}

static int copy_layer(const struct slicing *s, const struct kv_trace_layer *layer)
{
    const struct kv_geometry *g = &layer->geometry;
    const struct kv_cut tokens = {s->tokens, s->end - s->first};
    uint32_t *lists = calloc(1 + 2 * (size_t)g->q_heads + (size_t)g->q_heads * g->value_dim,
                             sizeof *lists);
    if (!lists) return kv_fail(s->err, KV_EMEMORY, "%s: out of memory", s->trace->path);
    const struct kv_cut kv = head_cut(s, lists, 1), q = head_cut(s, lists + g->q_heads, g->group);
    const struct kv_cut columns =
        head_cut(s, lists + 2 * (size_t)g->q_heads, g->group * g->value_dim);
    const struct { const char *name; struct kv_cut cuts[3];
    } datasets[] = {{"q", {q, tokens, {0}}},  {"k", {kv, tokens, {0}}},
                    {"v", {kv, tokens, {0}}}, {"w_o", {{0}, columns, {0}}},
                    {"sink_logits", {q}},     {"rope_inv_freq", {{0}}},
                    {"x2", {tokens}}};
    char object[48];
    int status = KV_OK;
    snprintf(object, sizeof object, "layers/%03u", layer->index);
    for (const char *const *name = kv_schema_layer_attributes; *name && status == KV_OK; name++)
        status = kv_copy_attribute(&s->copy, object, *name);
    /* x2 is the stream that all heads feed: it says nothing of some of them. */
    const size_t n = sizeof datasets / sizeof *datasets - (s->slice->heads != NULL);
    for (size_t i = 0; i < n && status == KV_OK; i++) {
        snprintf(object, sizeof object, "layers/%03u/%s", layer->index, datasets[i].name);
        status = kv_copy_dataset(&s->copy, object, datasets[i].cuts);
    }
    free(lists);
    return status;
}

static int copy_gradient(const struct slicing *s, const struct kv_trace_layer *layer,
                         const char *probe)
{
    const struct kv_geometry *g = &layer->geometry;
    uint32_t *list = calloc(g->q_heads, sizeof *list);
    if (!list) return kv_fail(s->err, KV_EMEMORY, "%s: out of memory", s->trace->path);
    const struct kv_cut cuts[3] = {
        head_cut(s, list, g->group), {s->window_tokens, s->n_window_tokens}, {0}};
    char object[48];
    snprintf(object, sizeof object, "grad/%s/%03u", probe, layer->index);
    int status = kv_copy_dataset(&s->copy, object, cuts);
    if (status == KV_OK) status = kv_copy_attribute(&s->copy, object, "unit");
    free(list);
    return status;
}

static int copy_probe(const struct slicing *s, const char *probe)
{
    int status = KV_OK;
    for (uint32_t i = 0; i < s->trace->n_layers && status == KV_OK; i++)
        if (s->trace->layers[i].has_gradients && keeps(s, &s->trace->layers[i]))
            status = copy_gradient(s, &s->trace->layers[i], probe);
    return status;
}

/* The seeds of the windows that stay. */
static int copy_seeds(const struct slicing *s, const char *group)
{
    struct kv_h5_value seeds;
    const int status = kv_h5_value(&seeds, s->copy.from, group, "seeds", s->err);
    if (status != KV_OK) return status;
    const size_t element = seeds.bytes / (seeds.n ? seeds.n : 1);
    char *data = seeds.data;
    for (uint32_t i = 0; i < s->n_windows; i++)
        memmove(data + i * element, data + s->windows[i] * element, element);
    seeds.dims[0] = seeds.n = s->n_windows;
    kv_trace_writer_value(s->copy.writer, group, "seeds", &seeds);
    free(seeds.data);
    return KV_OK;
}

static int copy_probes(const struct slicing *s)
{
    if (s->n_windows == 0) return KV_OK;
    const struct kv_cut cut = {s->windows, s->n_windows};
    const struct kv_cut cuts[2] = {cut, {0}};
    bool any = false;
    for (uint32_t i = 0; i < s->trace->n_layers; i++)
        any |= s->trace->layers[i].has_gradients && keeps(s, &s->trace->layers[i]);
    if (!any) return KV_OK;
    int status = kv_copy_dataset(&s->copy, "grad/windows", cuts);
    if (status == KV_OK && s->trace->has_label) status = copy_probe(s, "label");
    for (uint32_t n = 0; n < s->trace->n_fisher && status == KV_OK; n++) {
        char probe[24], group[32];
        snprintf(probe, sizeof probe, "fisher/%u", n);
        snprintf(group, sizeof group, "grad/%s", probe);
        status = copy_probe(s, probe);
        if (status == KV_OK) status = copy_seeds(s, group);
    }
    return status;
}

static int copy_all(const struct slicing *s)
{
    int status = copy_root(s);
    if (status == KV_OK) status = copy_spans(s);
    for (uint32_t i = 0; i < s->trace->n_layers && status == KV_OK; i++)
        if (keeps(s, &s->trace->layers[i])) status = copy_layer(s, &s->trace->layers[i]);
    return status == KV_OK ? copy_probes(s) : status;
}

int kv_trace_slice(const char *path, const struct kv_trace *trace, const struct kv_slice *slice,
                   char notes[256], struct kv_error *err)
{
    struct slicing s = {.trace = trace, .slice = slice, .notes = notes, .err = err};
    if (notes) notes[0] = '\0';
    int status = prepare(&s);
    if (status == KV_OK) status = kv_trace_writer_create(&s.copy.writer, path, err);
    if (status == KV_OK) {
        s.copy.from = trace->file;
        s.copy.err = err;
        status = copy_all(&s);
        if (status == KV_OK) status = kv_trace_writer_finish(s.copy.writer, err);
        else kv_trace_writer_abandon(s.copy.writer);
    }
    free(s.tokens);
    free(s.windows);
    free(s.window_tokens);
    return status;
}
