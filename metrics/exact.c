/* Exact attention, as plainly as it can be said; see exact.h. */
#include "metrics/exact.h"

#include <math.h>
#include <string.h>

#include "harness/base/half.h"

/* Rows are read some elements at a time, and four keys are multiplied side by side: each sum runs over its
 * elements in their order, and does not wait for the others. */
enum { PART = 64, KEYS = 4 };

/* n <= PART elements of a row. */
static void read_part(const struct kv_tensor *tensor, const void *row, uint32_t first, uint32_t n, double *part)
{
    const uint16_t *words = (const uint16_t *)row + first;
    const float *floats = (const float *)row + first;
    switch (tensor->dtype) {
    case KV_F16:
        for (uint32_t i = 0; i < n; i++) part[i] = kv_half_to_float(words[i]);
        break;
    case KV_BF16:
        for (uint32_t i = 0; i < n; i++) part[i] = kv_bfloat_to_float(words[i]);
        break;
    case KV_F32:
        for (uint32_t i = 0; i < n; i++) part[i] = floats[i];
        break;
    }
}

static uint32_t at_most(uint32_t n, uint32_t most) { return n < most ? n : most; }

struct query {
    const struct kv_geometry *geometry;
    const struct kv_tensor *q, *k;
    const void *row;
    uint32_t kv_head;
};

/* Products with the keys key .. key + n - 1, n <= KEYS. */
static void dot_keys(const struct query *query, uint32_t key, uint32_t n, double dots[KEYS])
{
    double q[PART], k[KEYS][PART];
    const void *rows[KEYS];
    for (uint32_t j = 0; j < KEYS; j++) {
        rows[j] = kv_tensor_row(query->k, query->kv_head, key + (j < n ? j : 0));
        dots[j] = 0;
    }
    for (uint32_t first = 0; first < query->geometry->key_dim; first += PART) {
        const uint32_t some = at_most(query->geometry->key_dim - first, PART);
        read_part(query->q, query->row, first, some, q);
        for (uint32_t j = 0; j < KEYS; j++) read_part(query->k, rows[j], first, some, k[j]);
        for (uint32_t i = 0; i < some; i++)
            for (uint32_t j = 0; j < KEYS; j++) dots[j] += q[i] * k[j][i];
    }
}

static double logit_of(const struct kv_geometry *geometry, double dot)
{
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
    for (uint32_t key = first; key <= last; key += KEYS) {
        const uint32_t some = at_most(last + 1 - key, KEYS);
        double dots[KEYS];
        dot_keys(query, key, some, dots);
        for (uint32_t j = 0; j < some; j++) {
            logits[key + j] = logit_of(query->geometry, dots[j]);
            if (logits[key + j] > top) top = logits[key + j];
        }
    }
    return top;
}

static void add_value(const struct kv_tensor *v, uint32_t kv_head, uint32_t key, double weight, uint32_t dim,
                      double *output)
{
    double part[PART];
    const void *row = kv_tensor_row(v, kv_head, key);
    for (uint32_t first = 0; first < dim; first += PART) {
        const uint32_t some = at_most(dim - first, PART);
        read_part(v, row, first, some, part);
        for (uint32_t i = 0; i < some; i++) output[first + i] += weight * part[i];
    }
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
        weights[key] /= sum;
        add_value(v, query.kv_head, key, weights[key], geometry->value_dim, output);
    }
}
