/* Exact attention, as plainly as it can be said; see exact.h. */
#include "metrics/exact.h"

#include <math.h>
#include <string.h>

#include "harness/base/half.h"

static double element(const struct kv_tensor *tensor, const void *row, uint32_t i)
{
    switch (tensor->dtype) {
    case KV_F16:
        return kv_half_to_float(((const uint16_t *)row)[i]);
    case KV_BF16:
        return kv_bfloat_to_float(((const uint16_t *)row)[i]);
    case KV_F32:
        break;
    }
    return ((const float *)row)[i];
}

struct query {
    const struct kv_geometry *geometry;
    const struct kv_tensor *q, *k;
    const void *row;
    uint32_t kv_head;
};

static double logit(const struct query *query, uint32_t key)
{
    const struct kv_geometry *geometry = query->geometry;
    const void *row = kv_tensor_row(query->k, query->kv_head, key);
    double dot = 0;
    for (uint32_t i = 0; i < geometry->key_dim; i++)
        dot += element(query->q, query->row, i) * element(query->k, row, i);
    const double scaled = geometry->scale * dot, cap = geometry->softcap;
    return cap > 0 ? cap * tanh(scaled / cap) : scaled;
}

static uint32_t first_visible(const struct kv_geometry *geometry, uint32_t token)
{
    return geometry->window && token >= geometry->window ? token - geometry->window + 1 : 0;
}

/* logits [last + 1]; returns the largest, the sink logit among them. */
static double compute_logits(const struct query *query, uint32_t first, uint32_t last,
                             const float *sink_logit, double *logits)
{
    double top = sink_logit ? *sink_logit : -INFINITY;
    for (uint32_t key = first; key <= last; key++) {
        logits[key] = logit(query, key);
        if (logits[key] > top) top = logits[key];
    }
    return top;
}

void kv_exact_answer(const struct kv_geometry *geometry, const struct kv_tensor *q,
                     const struct kv_tensor *k, const struct kv_tensor *v, uint32_t q_head,
                     uint32_t token, double *output, double *log_sum_exp, double *weights)
{
    const struct query query = {geometry, q, k, kv_tensor_row(q, q_head, token),
                                q_head / geometry->group};
    const uint32_t first = first_visible(geometry, token);
    const float *sink_logit = geometry->sink_logits ? geometry->sink_logits + q_head : NULL;
    memset(output, 0, geometry->value_dim * sizeof *output);
    memset(weights, 0, (token + 1) * sizeof *weights);
    const double top = compute_logits(&query, first, token, sink_logit, weights);
    double sum = 0;
    for (uint32_t key = first; key <= token; key++) sum += weights[key] = exp(weights[key] - top);
    if (sink_logit) sum += exp(*sink_logit - top);
    *log_sum_exp = top + log(sum);
    for (uint32_t key = first; key <= token; key++) {
        const double weight = weights[key] /= sum;
        const void *row = kv_tensor_row(v, query.kv_head, key);
        for (uint32_t i = 0; i < geometry->value_dim; i++) output[i] += weight * element(v, row, i);
    }
}
