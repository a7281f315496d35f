/* Squares of probe gradients by K and V; see probe_squares.h. */
#include "harness/replay/probe_squares.h"

#include <math.h>
#include <string.h>

#include "harness/base/sums.h"
#include "methods/rotary.h"

static const double NEGLIGIBLE = 0x1p-30;

struct head_rows { /* of one KV head, widened */
    const struct kv_geometry *geometry;
    const struct kv_layer *layer;
    uint32_t head, n;      /* n prompt rows: those whose gradients are kept */
    double *keys, *values; /* [tokens][dim] */
    double *query, *output_gradient;
    double *weights, *slopes, *along;        /* [tokens] a, cap', g.v */
    double *key_gradients, *value_gradients; /* [probes][n][dim] of one window */
    float *scratch;                          /* one row */
    struct kv_rotary rotary;
};

static double power_of_two(int n)
{
    const uint64_t bits = (uint64_t)(n + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* exp(y), y <= 0: 2^n times a Taylor series of the rest, whose next term is below 2^-53. Adding
 * 1.5 * 2^52 leaves the nearest integer. */
static double exponential(double y)
{
    static const double inverse_factorials[] = {1.0,
                                                1.0,
                                                1.0 / 2,
                                                1.0 / 6,
                                                1.0 / 24,
                                                1.0 / 120,
                                                1.0 / 720,
                                                1.0 / 5040,
                                                1.0 / 40320,
                                                1.0 / 362880,
                                                1.0 / 3628800,
                                                1.0 / 39916800,
                                                1.0 / 479001600,
                                                1.0 / 6227020800,
                                                1.0 / 87178291200};
    if (!(y > -700.0)) return 0.0;
    const double n = (y * 1.4426950408889634 + 0x1.8p52) - 0x1.8p52;
    const double r = y - n * 0.693147180369123816490 - n * 1.90821492927058770002e-10;
    double sum = inverse_factorials[14];
    for (int k = 13; k >= 0; k--) sum = inverse_factorials[k] + sum * r;
    return sum * power_of_two((int)n);
}

static double *take(struct kv_pool *pool, size_t n)
{
    return kv_pool_take(pool, n * sizeof(double));
}

static double *widen(struct head_rows *rows, const struct kv_tensor *tensor, struct kv_pool *pool)
{
    double *out = take(pool, (size_t)tensor->tokens * tensor->dim);
    for (uint32_t t = 0; out && t < tensor->tokens; t++) {
        kv_tensor_widen(tensor, rows->head, t, 1, rows->scratch);
        for (uint32_t c = 0; c < tensor->dim; c++)
            out[(size_t)t * tensor->dim + c] = rows->scratch[c];
    }
    return out;
}

static int reserve(struct head_rows *rows, uint32_t probes, struct kv_pool *pool,
                   struct kv_error *err)
{
    const struct kv_geometry *geometry = rows->geometry;
    const uint32_t key_dim = geometry->key_dim, value_dim = geometry->value_dim;
    const size_t widest = key_dim > value_dim ? key_dim : value_dim;
    rows->scratch = kv_pool_take(pool, widest * sizeof(float));
    rows->query = take(pool, 2 * widest);
    rows->weights = take(pool, 3 * (size_t)geometry->tokens);
    rows->key_gradients = take(pool, (size_t)probes * rows->n * key_dim);
    rows->value_gradients = take(pool, (size_t)probes * rows->n * value_dim);
    if (!rows->scratch || !rows->query || !rows->weights || !rows->key_gradients ||
        !rows->value_gradients)
        return kv_fail(err, KV_EMEMORY, "out of memory for probe gradients");
    rows->output_gradient = rows->query + widest;
    rows->slopes = rows->weights + geometry->tokens, rows->along = rows->slopes + geometry->tokens;
    rows->keys = widen(rows, &rows->layer->k, pool),
    rows->values = widen(rows, &rows->layer->v, pool);
    const bool turns =
        geometry->rope.layout == KV_ROPE_NONE || kv_rotary_create(&rows->rotary, geometry, pool);
    return rows->keys && rows->values && turns
               ? KV_OK
               : kv_fail(err, KV_EMEMORY, "out of memory for probe gradients");
}

static uint32_t first_visible(const struct kv_geometry *geometry, uint32_t t)
{
    return geometry->window && t >= geometry->window ? t - geometry->window + 1 : 0;
}

/* weights and slopes of the rows that query head q_head sees at t. */
static void attend(struct head_rows *rows, uint32_t q_head, uint32_t t)
{
    const struct kv_geometry *geometry = rows->geometry;
    const uint32_t dim = geometry->key_dim, first = first_visible(geometry, t);
    const double cap = geometry->softcap;
    kv_tensor_widen(&rows->layer->q, q_head, t, 1, rows->scratch);
    for (uint32_t c = 0; c < dim; c++) rows->query[c] = rows->scratch[c];
    double top = geometry->sink_logits ? geometry->sink_logits[q_head] : -INFINITY, sum = 0;
    for (uint32_t j = first; j <= t; j++) {
        double logit = geometry->scale * kv_dot(rows->query, rows->keys + (size_t)j * dim, dim);
        rows->slopes[j] = 1.0;
        if (cap > 0) {
            const double e = exponential(-2.0 * fabs(logit / cap)), tangent = (1.0 - e) / (1.0 + e);
            rows->slopes[j] = 1.0 - tangent * tangent;
            logit = logit < 0 ? -cap * tangent : cap * tangent;
        }
        rows->weights[j] = logit;
        if (logit > top) top = logit;
    }
    for (uint32_t j = first; j <= t; j++)
        sum += rows->weights[j] = exponential(rows->weights[j] - top);
    if (geometry->sink_logits) sum += exponential(geometry->sink_logits[q_head] - top);
    for (uint32_t j = first; j <= t; j++) rows->weights[j] /= sum;
}

/* Adds one query's share to the gradients of probe p, its output gradient being known. */
static void backward(struct head_rows *rows, uint32_t p, uint32_t t)
{
    const struct kv_geometry *geometry = rows->geometry;
    const uint32_t key_dim = geometry->key_dim, value_dim = geometry->value_dim;
    const uint32_t first = first_visible(geometry, t);
    double *key_gradients = rows->key_gradients + (size_t)p * rows->n * key_dim;
    double *value_gradients = rows->value_gradients + (size_t)p * rows->n * value_dim;
    double mean = 0;
    for (uint32_t j = first; j <= t; j++) {
        if (rows->weights[j] < NEGLIGIBLE) continue;
        rows->along[j] =
            kv_dot(rows->output_gradient, rows->values + (size_t)j * value_dim, value_dim);
        mean += rows->weights[j] * rows->along[j];
    }
    for (uint32_t j = first; j <= t && j < rows->n; j++) {
        const double weight = rows->weights[j];
        if (weight < NEGLIGIBLE) continue;
        const double factor = weight * (rows->along[j] - mean) * rows->slopes[j] * geometry->scale;
        double *restrict key = key_gradients + (size_t)j * key_dim;
        double *restrict value = value_gradients + (size_t)j * value_dim;
        for (uint32_t c = 0; c < value_dim; c++) value[c] += weight * rows->output_gradient[c];
        for (uint32_t c = 0; c < key_dim; c++) key[c] += factor * rows->query[c];
    }
}

/* Gradients of all probes over window w, whose first token is row `at` of each: attention once. */
static void differentiate(struct head_rows *rows, const struct kv_gradient *probes,
                          uint32_t n_probes, uint32_t w, uint32_t at)
{
    const struct kv_geometry *geometry = rows->geometry;
    const uint32_t *window = rows->layer->windows[w];
    const size_t size = (size_t)n_probes * rows->n * sizeof(double);
    memset(rows->key_gradients, 0, size * geometry->key_dim);
    memset(rows->value_gradients, 0, size * geometry->value_dim);
    for (uint32_t g = 0; g < geometry->group; g++)
        for (uint32_t t = window[0]; t < window[1]; t++) {
            const uint32_t q_head = rows->head * geometry->group + g;
            attend(rows, q_head, t);
            for (uint32_t p = 0; p < n_probes; p++) {
                kv_tensor_widen(&probes[p].tensor, q_head, at + t - window[0], 1, rows->scratch);
                for (uint32_t c = 0; c < geometry->value_dim; c++)
                    rows->output_gradient[c] = rows->scratch[c] * probes[p].unit;
                backward(rows, p, t);
            }
        }
}

/* x -> R^T x: undo divides by the rotation's scale squared, a gradient does not. */
static void turn_back(const struct head_rows *rows, uint32_t token, float *gradient)
{
    const struct kv_rope *rope = &rows->geometry->rope;
    if (rope->layout == KV_ROPE_NONE) return;
    kv_rotary_undo(&rows->rotary, token, gradient);
    for (uint32_t c = 0; c < rope->dims; c++) gradient[c] *= (float)(rope->scale * rope->scale);
}

struct sums {
    double *keys, *unrotated_keys, *values;
};

static void add_squares(struct head_rows *rows, uint32_t p, const struct sums *sums, double share)
{
    const uint32_t key_dim = rows->geometry->key_dim, value_dim = rows->geometry->value_dim;
    const double *key_gradients = rows->key_gradients + (size_t)p * rows->n * key_dim;
    const double *value_gradients = rows->value_gradients + (size_t)p * rows->n * value_dim;
    for (size_t i = 0; i < (size_t)rows->n * value_dim; i++)
        sums->values[i] += share * value_gradients[i] * value_gradients[i];
    for (uint32_t t = 0; t < rows->n; t++) {
        const size_t at = (size_t)t * key_dim;
        const double *gradient = key_gradients + at;
        /* Gradients are tiny: the largest of the row is 1 while it passes through floats. */
        double largest = 0;
        for (uint32_t c = 0; c < key_dim; c++)
            if (fabs(gradient[c]) > largest) largest = fabs(gradient[c]);
        if (!(largest > 0)) continue;
        for (uint32_t c = 0; c < key_dim; c++) {
            sums->keys[at + c] += share * gradient[c] * gradient[c];
            rows->scratch[c] = (float)(gradient[c] / largest);
        }
        turn_back(rows, t, rows->scratch);
        for (uint32_t c = 0; c < key_dim; c++) {
            const double turned = rows->scratch[c] * largest;
            sums->unrotated_keys[at + c] += share * turned * turned;
        }
    }
}

static const float *narrow(const double *in, size_t n, struct kv_pool *pool)
{
    float *out = kv_pool_take(pool, n * sizeof *out);
    for (size_t i = 0; out && i < n; i++) out[i] = (float)in[i];
    return out;
}

static int squares_of(struct kv_squares *squares, struct head_rows *rows,
                      const struct kv_gradient *probes, uint32_t n_probes, struct kv_pool *pool,
                      struct kv_pool *work, struct kv_error *err)
{
    const size_t n_keys = (size_t)rows->n * rows->geometry->key_dim;
    const size_t n_values = (size_t)rows->n * rows->geometry->value_dim;
    const struct sums sums = {take(work, n_keys), take(work, n_keys), take(work, n_values)};
    if (!sums.keys || !sums.unrotated_keys || !sums.values)
        return kv_fail(err, KV_EMEMORY, "out of memory for probe gradients");
    for (uint32_t w = 0, at = 0; w < rows->layer->n_windows; w++) {
        differentiate(rows, probes, n_probes, w, at);
        for (uint32_t p = 0; p < n_probes; p++) add_squares(rows, p, &sums, 1.0 / n_probes);
        at += rows->layer->windows[w][1] - rows->layer->windows[w][0];
    }
    *squares = (struct kv_squares){narrow(sums.keys, n_keys, pool),
                                   narrow(sums.unrotated_keys, n_keys, pool),
                                   narrow(sums.values, n_values, pool)};
    return squares->keys && squares->unrotated_keys && squares->values
               ? KV_OK
               : kv_fail(err, KV_EMEMORY, "out of memory for probe gradients");
}

int kv_probe_squares(struct kv_prompt *prompt, const struct kv_layer *layer, uint32_t head,
                     const struct kv_wants *wants, struct kv_pool *pool, struct kv_pool *work,
                     struct kv_error *err)
{
    const bool fisher = wants->fisher && layer->n_fisher && layer->fisher;
    const bool label = wants->label && layer->label.tensor.data;
    if ((!fisher && !label) || !layer->n_windows) return KV_OK;
    struct head_rows rows = {.geometry = &layer->info->geometry,
                             .layer = layer,
                             .head = head,
                             .n = layer->info->geometry.prefill};
    int status = reserve(&rows, fisher ? layer->n_fisher : 1, work, err);
    if (status == KV_OK && fisher)
        status = squares_of(&prompt->fisher, &rows, layer->fisher, layer->n_fisher, pool, work, err);
    if (status == KV_OK && label)
        status = squares_of(&prompt->label, &rows, &layer->label, 1, pool, work, err);
    return status;
}
