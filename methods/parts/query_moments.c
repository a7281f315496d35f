/* Moments of queries; see query_moments.h. In double: they decide which rows stay. */
#include "methods/parts/query_moments.h"

#include <math.h>
#include <string.h>

#include "methods/rotary.h"

bool kv_query_moments_create(struct kv_query_moments *moments, const struct kv_geometry *geometry,
                             struct kv_pool *pool)
{
    const size_t half = geometry->rope.dims / 2, dim = geometry->key_dim, n = geometry->prefill;
    moments->geometry = geometry;
    moments->cosine = kv_pool_reserve(pool, KV_WORKSPACE, n * half * sizeof(double));
    moments->sine = kv_pool_reserve(pool, KV_WORKSPACE, n * half * sizeof(double));
    moments->row = kv_pool_reserve(pool, KV_WORKSPACE, dim * sizeof(double));
    moments->mean = kv_pool_reserve(pool, KV_WORKSPACE, dim * sizeof(double));
    moments->covariance = kv_pool_reserve(pool, KV_WORKSPACE, dim * dim * sizeof(double));
    moments->mean_cosine = kv_pool_reserve(pool, KV_WORKSPACE, half * sizeof(double));
    moments->mean_sine = kv_pool_reserve(pool, KV_WORKSPACE, half * sizeof(double));
    if (!moments->cosine || !moments->sine || !moments->row || !moments->mean ||
        !moments->covariance || !moments->mean_cosine || !moments->mean_sine)
        return false;
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < half; i++)
            kv_cos_sin((double)geometry->positions[t] * geometry->rope.inv_freq[i],
                       &moments->cosine[t * half + i], &moments->sine[t * half + i]);
    return true;
}

/* The two columns that pair i turns. */
static void columns_of_pair(const struct kv_rope *rope, uint32_t i, uint32_t *first,
                            uint32_t *second)
{
    const bool interleaved = rope->layout == KV_ROPE_INTERLEAVED;
    *first = interleaved ? 2 * i : i;
    *second = interleaved ? 2 * i + 1 : i + rope->dims / 2;
}

/* row = the query of token t before its rotation. */
static void unrotate(struct kv_query_moments *moments, const float *query, uint32_t t)
{
    const struct kv_rope *rope = &moments->geometry->rope;
    const uint32_t half = rope->dims / 2;
    for (uint32_t c = 0; c < moments->geometry->key_dim; c++) moments->row[c] = query[c];
    for (uint32_t i = 0; i < half; i++) {
        uint32_t a, b;
        columns_of_pair(rope, i, &a, &b);
        const double cosine = moments->cosine[(size_t)t * half + i],
                     sine = moments->sine[(size_t)t * half + i];
        moments->row[a] = (query[a] * cosine + query[b] * sine) / rope->scale;
        moments->row[b] = (query[b] * cosine - query[a] * sine) / rope->scale;
    }
}

void kv_query_moments_take(struct kv_query_moments *moments, const float *queries, uint32_t first,
                           uint32_t n, bool covariance)
{
    const uint32_t dim = moments->geometry->key_dim;
    memset(moments->mean, 0, dim * sizeof *moments->mean);
    for (uint32_t t = first; t < n; t++) {
        unrotate(moments, queries + (size_t)t * dim, t);
        for (uint32_t c = 0; c < dim; c++) moments->mean[c] += moments->row[c];
    }
    for (uint32_t c = 0; c < dim; c++) moments->mean[c] /= n - first;
    if (!covariance) return;
    memset(moments->covariance, 0, (size_t)dim * dim * sizeof *moments->covariance);
    for (uint32_t t = first; t < n; t++) {
        unrotate(moments, queries + (size_t)t * dim, t);
        for (uint32_t c = 0; c < dim; c++) moments->row[c] -= moments->mean[c];
        for (uint32_t r = 0; r < dim; r++) {
            double *out = moments->covariance + (size_t)r * dim;
            for (uint32_t c = 0; c < dim; c++) out[c] += moments->row[r] * moments->row[c];
        }
    }
    for (size_t i = 0; i < (size_t)dim * dim; i++) moments->covariance[i] /= n - first;
}

/* (x, y) of every pair, `stride` apart, turned by the mean rotation. */
static void turn(const struct kv_query_moments *moments, double *x, size_t stride)
{
    const struct kv_rope *rope = &moments->geometry->rope;
    for (uint32_t i = 0; i < rope->dims / 2; i++) {
        uint32_t a, b;
        columns_of_pair(rope, i, &a, &b);
        const double p = x[a * stride], q = x[b * stride];
        x[a * stride] = p * moments->mean_cosine[i] - q * moments->mean_sine[i];
        x[b * stride] = p * moments->mean_sine[i] + q * moments->mean_cosine[i];
    }
}

void kv_query_moments_turn(struct kv_query_moments *moments, uint32_t n, uint32_t future,
                           bool covariance)
{
    const struct kv_rope *rope = &moments->geometry->rope;
    const uint32_t dim = moments->geometry->key_dim;
    for (uint32_t i = 0; i < rope->dims / 2; i++) {
        double cosines = 0.0, sines = 0.0;
        for (uint32_t p = 1; p <= future; p++) {
            double cosine, sine;
            kv_cos_sin(((double)moments->geometry->positions[n - 1] + p) * rope->inv_freq[i],
                       &cosine, &sine);
            cosines += cosine, sines += sine;
        }
        moments->mean_cosine[i] = cosines * rope->scale / future;
        moments->mean_sine[i] = sines * rope->scale / future;
    }
    turn(moments, moments->mean, 1);
    for (uint32_t c = 0; covariance && c < dim; c++) turn(moments, moments->covariance + c, dim);
    for (uint32_t r = 0; covariance && r < dim; r++)
        turn(moments, moments->covariance + (size_t)r * dim, 1);
}

double kv_query_moments_mean(const struct kv_query_moments *moments, const float *key)
{
    double sum = 0.0;
    for (uint32_t c = 0; c < moments->geometry->key_dim; c++) sum += key[c] * moments->mean[c];
    return sum;
}

double kv_query_moments_square(const struct kv_query_moments *moments, const float *key)
{
    const uint32_t dim = moments->geometry->key_dim;
    double sum = 0.0;
    for (uint32_t r = 0; r < dim; r++) {
        const double *row = moments->covariance + (size_t)r * dim;
        double part = 0.0;
        for (uint32_t c = 0; c < dim; c++) part += row[c] * key[c];
        sum += key[r] * part;
    }
    return sum;
}
