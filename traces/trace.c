/* Opening and validating a trace; see trace.h. Everything but tensors is checked first, then one
 * pass over all data finds NaN and infinity and computes the content hash. */
#include "traces/trace.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traces/hash.h"
#include "traces/schema.h"
#include "traces/finite.h"
#include "traces/trace_private.h"

static int parse_format(const struct kv_h5 *file, struct kv_error *err)
{
    char *format;
    int status = kv_h5_text(&format, file, "", "format", err);
    if (status != KV_OK) return status;
    if (strcmp(format, KV_TRACE_FORMAT) != 0)
        status = kv_fail(err, KV_EINPUT, "%s: /@format: expected " KV_TRACE_FORMAT ", found %.64s",
                         kv_h5_path(file), format);
    free(format);
    int64_t version;
    if (status == KV_OK) status = kv_h5_int(&version, file, "", "version", err);
    if (status == KV_OK && version != KV_TRACE_VERSION)
        status = kv_fail(err, KV_EINPUT,
                         "%s: /@version: expected version %d, found version %" PRId64 "%s",
                         kv_h5_path(file), KV_TRACE_VERSION, version,
                         version > KV_TRACE_VERSION ? ", written by a newer program" : "");
    return status;
}

static int parse_texts(struct kv_trace *trace, const struct kv_h5 *file, struct kv_error *err)
{
    const struct { const char *name; char **text; } texts[] = {
        {"model", &trace->model}, {"model_digest", &trace->model_digest},
        {"model_config", &trace->model_config}, {"text", &trace->text},
        {"recorder", &trace->recorder}};
    int status = KV_OK;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && status == KV_OK; i++)
        status = kv_h5_text(texts[i].text, file, "", texts[i].name, err);
    if (status != KV_OK) return status;
    const char *digest = trace->model_digest;
    if (strncmp(digest, "sha256:", 7) != 0 && strncmp(digest, "synthetic:", 10) != 0)
        return kv_fail(err, KV_EINPUT, "%s: /@model_digest: expected sha256:... or synthetic:...,"
                       " found %.64s", trace->path, digest);
    return KV_OK;
}

static int parse_content_hash(struct kv_trace *trace, const struct kv_h5 *file,
                              struct kv_error *err)
{
    char *text;
    int status = kv_h5_text(&text, file, "", "content_hash", err);
    if (status != KV_OK) return status;
    if (strlen(text) == KV_HASH_TEXT - 1 && strncmp(text, "xxh3:", 5) == 0
        && strspn(text + 5, "0123456789abcdef") == KV_HASH_TEXT - 6)
        strcpy(trace->content_hash, text);
    else
        status = kv_fail(err, KV_EINPUT, "%s: /@content_hash: expected xxh3: and 32 hexadecimal"
                         " digits, found %.64s", trace->path, text);
    free(text);
    return status;
}

/* num_hidden_layers, directly or under text_config (multimodal models). */
static int parse_config(struct kv_trace *trace, struct kv_error *err)
{
    cJSON *config = cJSON_Parse(trace->model_config);
    if (!cJSON_IsObject(config)) {
        cJSON_Delete(config);
        return kv_fail(err, KV_EINPUT, "%s: /@model_config: expected a JSON object, found %.64s",
                       trace->path, trace->model_config);
    }
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(config, "num_hidden_layers");
    const cJSON *nested = cJSON_GetObjectItemCaseSensitive(config, "text_config");
    if (!layers && nested) layers = cJSON_GetObjectItemCaseSensitive(nested, "num_hidden_layers");
    const double n = cJSON_IsNumber(layers) ? layers->valuedouble : 0;
    cJSON_Delete(config);
    if (layers && !(n >= 1 && n <= 1000 && n == (uint32_t)n))
        return kv_fail(err, KV_EINPUT, "%s: /@model_config: expected num_hidden_layers of 1..1000,"
                       " found %g", trace->path, n);
    trace->model_layers = (uint32_t)n;
    return KV_OK;
}

static int parse_lengths(struct kv_trace *trace, const struct kv_h5 *file, struct kv_error *err)
{
    int64_t tokens, prefill, question;
    int status = kv_expect_int(&tokens, file, "", "tokens", 2, INT32_MAX, err);
    if (status == KV_OK)
        status = kv_expect_int(&prefill, file, "", "prefill_length", 1, tokens - 1, err);
    if (status != KV_OK) return status;
    question = prefill;
    if (kv_h5_has_attribute(file, "", "question_start"))
        status = kv_expect_int(&question, file, "", "question_start", 0, prefill, err);
    trace->tokens = (uint32_t)tokens;
    trace->prefill = (uint32_t)prefill;
    trace->question_start = (uint32_t)question;
    return status;
}

static int parse_integers(int32_t **out, const struct kv_trace *trace, const char *name,
                          struct kv_error *err)
{
    struct kv_h5_data data;
    const struct kv_expected expected = {KV_TYPES_INTEGER, 1, {trace->tokens}, {NULL}};
    const int status = kv_expect(&data, trace->file, name, &expected, err);
    if (status != KV_OK) return status;
    *out = calloc(trace->tokens, sizeof **out);
    if (!*out) return kv_fail(err, KV_EMEMORY, "%s: out of memory", trace->path);
    return kv_h5_read_i32(*out, trace->file, name, &data, err);
}

static int parse_nll(struct kv_trace *trace, struct kv_error *err)
{
    if (!kv_h5_exists(trace->file, "nll")) return KV_OK;
    struct kv_h5_data data;
    const struct kv_expected expected = {1 << KV_H5_F32, 1, {trace->tokens}, {NULL}};
    const int status = kv_expect(&data, trace->file, "nll", &expected, err);
    if (status != KV_OK) return status;
    trace->nll = calloc(trace->tokens, sizeof *trace->nll);
    if (!trace->nll) return kv_fail(err, KV_EMEMORY, "%s: out of memory", trace->path);
    const int read = kv_h5_read(trace->nll, trace->file, "nll", &data, 0, trace->tokens, err);
    if (read != KV_OK) return read;
    /* Nothing predicts token 0. */
    const size_t bad = 1 + kv_first_not_finite(trace->nll + 1, trace->tokens - 1, KV_H5_F32);
    if (bad == trace->tokens) return KV_OK;
    return kv_fail(err, KV_EINPUT, "%s: /nll: expected finite numbers behind token 0, found %g at [%zu]",
                   trace->path, (double)trace->nll[bad], bad);
}

static int parse_span(struct kv_trace *trace, const char *name, struct kv_error *err)
{
    struct kv_span_name *span = &trace->spans[trace->n_spans];
    char object[128];
    if (strlen(name) >= sizeof span->name)
        return kv_fail(err, KV_EINPUT,
                       "%s: /spans/%.80s: expected a name of at most %zu bytes, found"
                       " %zu",
                       trace->path, name, sizeof span->name - 1, strlen(name));
    snprintf(span->name, sizeof span->name, "%s", name);
    snprintf(object, sizeof object, "spans/%s", name);
    trace->n_spans++;
    return kv_read_ranges(&span->range, &span->n, trace->file, object, 0, trace->tokens, err);
}

static int parse_spans(struct kv_trace *trace, struct kv_error *err)
{
    struct kv_h5_names names;
    int status = kv_h5_list(&names, trace->file, "spans", err);
    if (status != KV_OK) return status;
    trace->spans = calloc(names.n + 1, sizeof *trace->spans);
    if (!trace->spans) status = kv_fail(err, KV_EMEMORY, "%s: out of memory", trace->path);
    for (size_t i = 0; i < names.n && status == KV_OK; i++)
        if (strncmp(names.names[i], "x_", 2) != 0) status = parse_span(trace, names.names[i], err);
    kv_h5_names_free(&names);
    return status;
}

static int parse_root(struct kv_trace *trace, struct kv_error *err)
{
    const struct kv_h5 *file = trace->file;
    int status = parse_format(file, err);
    if (status == KV_OK) status = parse_texts(trace, file, err);
    if (status == KV_OK) status = parse_content_hash(trace, file, err);
    if (status == KV_OK) status = parse_config(trace, err);
    if (status == KV_OK) status = parse_lengths(trace, file, err);
    if (status == KV_OK) status = parse_integers(&trace->token_ids, trace, "token_ids", err);
    if (status == KV_OK) status = parse_integers(&trace->positions, trace, "positions", err);
    if (status == KV_OK) status = parse_nll(trace, err);
    if (status == KV_OK) status = parse_spans(trace, err);
    return status;
}

static int verify(struct kv_trace *trace, unsigned flags, struct kv_error *err)
{
    char found[KV_HASH_TEXT];
    const unsigned skip = flags & KV_NO_VERIFY ? KV_HASH_SKIP : 0;
    const int status = kv_hash_file(found, trace->file, KV_HASH_FINITE | skip, err);
    if (status != KV_OK || skip) return status;
    if (strcmp(found, trace->content_hash) != 0)
        return kv_fail(err, KV_EINPUT,
                       "%s: /@content_hash: expected %s, found content with %s"
                       " (--no-verify reads it all the same)",
                       trace->path, trace->content_hash, found);
    trace->verified = true;
    return KV_OK;
}

int kv_trace_open(struct kv_trace **out, const char *path, unsigned flags, struct kv_error *err)
{
    *out = NULL;
    struct kv_trace *trace = calloc(1, sizeof *trace);
    if (!trace || !(trace->path = strdup(path))) {
        free(trace);
        return kv_fail(err, KV_EMEMORY, "%s: out of memory", path);
    }
    struct kv_h5 *file = NULL;
    int status = kv_h5_open(&file, path, err);
    trace->file = file;
    if (status == KV_OK) status = parse_root(trace, err);
    if (status == KV_OK) status = kv_trace_parse_layers(trace, err);
    if (status == KV_OK) status = kv_trace_parse_probes(trace, err);
    if (status == KV_OK) status = verify(trace, flags, err);
    if (status != KV_OK) kv_trace_close(trace);
    else *out = trace;
    return status;
}

/* The geometry shows these as const: readers borrow them, the trace owns them. */
static void free_layer(struct kv_trace_layer *layer)
{
    free((void *)layer->geometry.sink_logits);
    free((void *)layer->geometry.rope.inv_freq);
    free(layer->units);
}

void kv_trace_close(struct kv_trace *trace)
{
    if (!trace) return;
    kv_h5_close(trace->file);
    kv_layers_release();
    for (uint32_t i = 0; i < trace->n_layers; i++) free_layer(&trace->layers[i]);
    for (uint32_t i = 0; i < trace->n_spans; i++) free(trace->spans[i].range);
    char *texts[] = {trace->path,         trace->model, trace->model_digest,
                     trace->model_config, trace->text,  trace->recorder};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
    free(trace->token_ids);
    free(trace->positions);
    free(trace->nll);
    free(trace->spans);
    free(trace->layers);
    free(trace->windows);
    free(trace);
}

uint32_t kv_trace_find_layer(const struct kv_trace *trace, uint32_t index)
{
    uint32_t i = 0;
    while (i < trace->n_layers && trace->layers[i].index != index) i++;
    return i;
}
