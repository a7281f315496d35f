/* Recorded layers for claims; see claim_layers.h. */
#include "harness/claims/claim_layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int visit_trace(const char *path, kv_claim_visit *visit, void *data, struct kv_error *err)
{
    struct kv_trace *trace = NULL;
    int status = kv_trace_open(&trace, path, 0, err);
    for (uint32_t l = 0; status == KV_OK && l < trace->n_layers; l++) {
        struct kv_layer *layer = NULL;
        status = kv_trace_read_layer(&layer, trace, l, 0, err);
        if (status == KV_OK) status = visit(data, layer, err);
        if (layer) kv_layer_free(layer);
    }
    if (trace) kv_trace_close(trace);
    return status;
}

int kv_claim_each_layer(const struct kv_measuring *measuring, kv_claim_visit *visit, void *data,
                        double *figure, char reason[256], struct kv_error *err)
{
    int status = KV_OK;
    *figure = NAN;
    if (!measuring->n_traces) snprintf(reason, 256, "needs a trace; name one with --trace");
    for (uint32_t i = 0; status == KV_OK && i < measuring->n_traces; i++)
        status = visit_trace(measuring->traces[i], visit, data, err);
    return status;
}

enum { MOST_DIMS = 1024 };

void kv_claim_weights(const struct kv_layer *layer, const struct kv_kernels *kernels,
                      uint32_t q_head, uint32_t token, const float *keys, uint32_t n,
                      float *weights)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const uint32_t dim = geometry->key_dim, past = token + 1 < n ? token + 1 : n;
    const uint32_t first = geometry->window && token >= geometry->window
                               ? token - geometry->window + 1
                               : 0;
    float query[MOST_DIMS];
    memset(weights, 0, n * sizeof *weights);
    if (first >= past || dim > MOST_DIMS) return;
    kv_tensor_widen(&layer->q, q_head, token, 1, query);
    for (uint32_t j = first; j < past; j++)
        weights[j] = (float)geometry->scale * kernels->dot(query, keys + (size_t)j * dim, dim);
    if (geometry->softcap > 0)
        kernels->softcap(weights + first, past - first, (float)geometry->softcap);
    float top = kernels->max(weights + first, past - first), sum = 0;
    if (geometry->sink_logits) {
        top = fmaxf(top, geometry->sink_logits[q_head]);
        sum = expf(geometry->sink_logits[q_head] - top);
    }
    sum += kernels->exp_sum(weights + first, past - first, 1.0f, top);
    kernels->scale(weights + first, past - first, 1 / sum);
}
