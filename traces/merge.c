/* Joining two traces; see slice.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traces/copy.h"
#include "traces/schema.h"
#include "traces/slice.h"

static int differs(struct kv_error *err, const struct kv_trace *b, const char *what,
                   const struct kv_trace *a)
{
    return kv_fail(err, KV_EINPUT, "%s: /%s: expected the same as in %s, found another", b->path,
                   what, a->path);
}

static int check_same_text(const struct kv_trace *a, const struct kv_trace *b, struct kv_error *err)
{
    if (strcmp(a->model_digest, b->model_digest) != 0) return differs(err, b, "@model_digest", a);
    if (a->tokens != b->tokens) return differs(err, b, "@tokens", a);
    if (a->prefill != b->prefill) return differs(err, b, "@prefill_length", a);
    if (a->question_start != b->question_start) return differs(err, b, "@question_start", a);
    const size_t bytes = a->tokens * sizeof *a->token_ids;
    if (memcmp(a->token_ids, b->token_ids, bytes) != 0) return differs(err, b, "token_ids", a);
    if (memcmp(a->positions, b->positions, bytes) != 0) return differs(err, b, "positions", a);
    for (uint32_t j = 0; j < b->n_layers; j++)
        if (kv_trace_find_layer(a, b->layers[j].index) < a->n_layers)
            return kv_fail(err, KV_EINPUT,
                           "%s: /layers/%03u: expected layers that %s has not, found"
                           " one of its own",
                           b->path, b->layers[j].index, a->path);
    return KV_OK;
}

static bool same_seeds(const struct kv_trace *a, const struct kv_trace *b, uint32_t probe)
{
    struct kv_h5_value x = {0}, y = {0};
    char group[32];
    snprintf(group, sizeof group, "grad/fisher/%u", probe);
    const bool same = kv_h5_value(&x, a->file, group, "seeds", NULL) == KV_OK
                   && kv_h5_value(&y, b->file, group, "seeds", NULL) == KV_OK && x.bytes == y.bytes
                   && memcmp(x.data, y.data, x.bytes) == 0;
    free(x.data);
    free(y.data);
    return same;
}

static bool same_probes(const struct kv_trace *a, const struct kv_trace *b)
{
    if (a->n_windows != b->n_windows || a->has_label != b->has_label || a->n_fisher != b->n_fisher
        || (a->n_windows && memcmp(a->windows, b->windows, a->n_windows * sizeof *a->windows) != 0))
        return false;
    for (uint32_t i = 0; i < a->n_fisher; i++)
        if (!same_seeds(a, b, i)) return false;
    return true;
}

static int copy_root(const struct kv_copy *copy, const struct kv_trace *trace)
{
    int status = KV_OK;
    /* The writer has written format and version. */
    for (const char *const *name = kv_schema_root_attributes + 2; *name && status == KV_OK; name++)
        status = kv_copy_attribute(copy, "", *name);
    kv_trace_writer_text(copy->writer, "", "recorder", "kvbench trace merge");
    for (const char *const *name = kv_schema_root_datasets; *name && status == KV_OK; name++)
        status = kv_copy_dataset(copy, *name, NULL);
    for (uint32_t i = 0; i < trace->n_spans && status == KV_OK; i++) {
        char object[80];
        snprintf(object, sizeof object, "spans/%s", trace->spans[i].name);
        status = kv_copy_dataset(copy, object, NULL);
    }
    return status;
}

static int copy_layers(const struct kv_copy *copy, const struct kv_trace *trace)
{
    int status = KV_OK;
    for (uint32_t i = 0; i < trace->n_layers; i++) {
        char group[16], object[48];
        snprintf(group, sizeof group, "layers/%03u", trace->layers[i].index % 1000);
        for (const char *const *name = kv_schema_layer_attributes; *name && status == KV_OK; name++)
            status = kv_copy_attribute(copy, group, *name);
        for (const char *const *name = kv_schema_layer_datasets; *name && status == KV_OK; name++) {
            snprintf(object, sizeof object, "%s/%s", group, *name);
            status = kv_copy_dataset(copy, object, NULL);
        }
    }
    return status;
}

static int copy_probe(const struct kv_copy *copy, const struct kv_trace *trace, const char *probe)
{
    int status = KV_OK;
    for (uint32_t i = 0; i < trace->n_layers && status == KV_OK; i++) {
        char object[48];
        snprintf(object, sizeof object, "grad/%s/%03u", probe, trace->layers[i].index);
        if (!trace->layers[i].has_gradients) continue;
        status = kv_copy_dataset(copy, object, NULL);
        if (status == KV_OK) status = kv_copy_attribute(copy, object, "unit");
    }
    return status;
}

static int copy_probes(const struct kv_copy *copy, const struct kv_trace *trace, bool first)
{
    int status = KV_OK;
    if (trace->n_windows == 0) return KV_OK;
    if (first) status = kv_copy_dataset(copy, "grad/windows", NULL);
    if (status == KV_OK && trace->has_label) status = copy_probe(copy, trace, "label");
    for (uint32_t n = 0; n < trace->n_fisher && status == KV_OK; n++) {
        char probe[24], group[32];
        snprintf(probe, sizeof probe, "fisher/%u", n);
        snprintf(group, sizeof group, "grad/%s", probe);
        status = copy_probe(copy, trace, probe);
        if (status == KV_OK && first) status = kv_copy_attribute(copy, group, "seeds");
    }
    return status;
}

static int copy_both(struct kv_trace_writer *writer, const struct kv_trace *a,
                     const struct kv_trace *b, bool probes, struct kv_error *err)
{
    const struct kv_copy from_a = {writer, a->file, err}, from_b = {writer, b->file, err};
    int status = copy_root(&from_a, a);
    if (status == KV_OK) status = copy_layers(&from_a, a);
    if (status == KV_OK) status = copy_layers(&from_b, b);
    if (status == KV_OK && probes) status = copy_probes(&from_a, a, true);
    if (status == KV_OK && probes) status = copy_probes(&from_b, b, false);
    return status;
}

int kv_trace_merge(const char *path, const struct kv_trace *a, const struct kv_trace *b,
                   char notes[256], struct kv_error *err)
{
    struct kv_trace_writer *writer;
    int status = check_same_text(a, b, err);
    const bool probes = status == KV_OK && same_probes(a, b);
    if (notes) snprintf(notes, 256, "%s", probes || (!a->n_windows && !b->n_windows) ? ""
                        : "gradients dropped: the traces were not probed alike");
    if (status == KV_OK) status = kv_trace_writer_create(&writer, path, err);
    if (status != KV_OK) return status;
    status = copy_both(writer, a, b, probes, err);
    if (status == KV_OK) return kv_trace_writer_finish(writer, err);
    kv_trace_writer_abandon(writer);
    return status;
}
