/* Calibration; see calibration.h. */
#include "harness/run/layers/calibration.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/number.h"
#include "harness/replay/layout.h"

struct kv_calibration {
    const char *text;
    struct kv_trace *other; /* NULL: a range of the trace at hand */
    uint32_t from, to;
    bool itself; /* the other trace is the one at hand */
};

/* Digits, a colon, digits: no trace is named so. */
static bool parse_range(struct kv_calibration *calibration, const char *text)
{
    uint64_t from, to;
    if (!kv_read_digits(&text, 999999999, &from) || *text != ':') return false;
    if (!kv_read_whole(text + 1, 0, 999999999, &to)) return false;
    calibration->from = (uint32_t)from, calibration->to = (uint32_t)to;
    return true;
}

int kv_calibration_open(struct kv_calibration **out, const char *text, unsigned flags,
                        struct kv_error *err)
{
    struct kv_calibration *calibration = *out = calloc(1, sizeof *calibration);
    if (!calibration) return kv_fail(err, KV_EMEMORY, "out of memory for a calibration");
    calibration->text = text;
    int status = KV_OK;
    if (!parse_range(calibration, text))
        status = kv_trace_open(&calibration->other, text, flags, err);
    else if (calibration->from >= calibration->to)
        status = kv_fail(err, KV_EUSAGE,
                         "--calibrate: expected tokens FROM:TO with FROM below TO, found %s", text);
    if (status != KV_OK) {
        kv_calibration_close(calibration);
        *out = NULL;
    }
    return status;
}

void kv_calibration_close(struct kv_calibration *calibration)
{
    if (calibration && calibration->other) kv_trace_close(calibration->other);
    free(calibration);
}

int kv_calibration_enter(struct kv_calibration *calibration, const struct kv_trace *trace,
                         struct kv_error *err)
{
    const struct kv_trace *other = calibration->other;
    calibration->itself = other && strcmp(other->content_hash, trace->content_hash) == 0;
    if (other || calibration->to <= trace->tokens) return KV_OK;
    return kv_fail(err, KV_EUSAGE, "%s: --calibrate %s: expected tokens of the %u recorded",
                   trace->path, calibration->text, trace->tokens);
}

const char *kv_calibration_hash(const struct kv_calibration *calibration)
{
    return calibration->other ? calibration->other->content_hash : "";
}

const char *kv_calibration_kind(const struct kv_calibration *calibration)
{
    return !calibration->other ? "same-trace" : calibration->itself ? "oracle" : "disjoint";
}

uint32_t kv_calibration_spare(const struct kv_calibration *calibration, uint32_t *scored,
                              uint32_t n)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < n; i++) {
        const bool fitted =
            !calibration->other && scored[i] >= calibration->from && scored[i] < calibration->to;
        if (!fitted) scored[left++] = scored[i];
    }
    return left;
}

static struct kv_source source_of(const struct kv_layer *layer)
{
    return (struct kv_source){.geometry = &layer->info->geometry,
                              .keys = &layer->k,
                              .values = &layer->v,
                              .queries = &layer->q,
                              .w_o = layer->w_o,
                              .hidden = layer->hidden};
}

int kv_calibration_read(struct kv_fit_layer *fit, const struct kv_calibration *calibration,
                        const struct kv_layer *owner, const struct kv_spec *spec,
                        struct kv_error *err)
{
    const struct kv_trace *other = calibration->other;
    *fit = (struct kv_fit_layer){0};
    if (!other) {
        fit->rows = (struct kv_fit_rows){.source = source_of(owner),
                                         .first = calibration->from,
                                         .n = calibration->to - calibration->from};
        return KV_OK;
    }
    for (uint32_t i = 0; i < other->n_layers; i++) {
        if (other->layers[i].index != owner->info->index) continue;
        const int status = kv_trace_read_layer(&fit->layer, other, i, KV_READ_PROJECTION, err);
        if (status != KV_OK) return status;
        kv_layout_show(spec, fit->layer, &fit->shown);
        fit->rows = (struct kv_fit_rows){.source = source_of(fit->layer), .n = other->tokens};
        return KV_OK;
    }
    snprintf(fit->missing, sizeof fit->missing, "layer %u is not recorded there",
             owner->info->index);
    fit->rows.missing = fit->missing;
    return KV_OK;
}

void kv_fit_layer_free(struct kv_fit_layer *fit)
{
    kv_layer_free(fit->layer);
}
