/* autoencoder: a linear autoencoder with a bias, learned on the rows of the fit (the family of
 * learned compressions of the cache at its plainest; Baldi and Hornik, Neural Networks 2, 1989, for
 * its landscape: no local minima, the optimum spans the leading eigenvectors of the covariance).
 *
 * x_hat = m + W z, z = W^T (x - m), W of orthonormal columns, m the mean row (halves). Minimised:
 * sum |x - x_hat|^2. Learning: from the first rank unit vectors, `steps` times W <- orth(C W), C
 * the covariance of the rows (double); each step lowers the loss, all of them together come as near
 * to the eigenvectors as the gap of the spectrum lets them: with few steps it is what learning
 * stopped early gives. orth: Gram-Schmidt, twice; a direction that C does not have becomes 0. z
 * goes to the inner codec.
 *
 * Bytes: the inner codec's for rows of rank columns; W and m, 2 * dim * (rank + 1). Block and tiers
 * are the inner codec's.
 *
 * Departures: nothing but rows is learned from, and no network around them; encoder and decoder are
 * tied, as they are at the optimum. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/parts/codes.h"
#include "methods/parts/low_rank.h"
#include "methods/parts/wrapper.h"

extern const struct kv_codec kv_codec_autoencoder;

struct config {
    struct kv_budget rank;
    uint32_t steps;
};

static const struct kv_param params[] = {
    {"rank", KV_PARAM_BUDGET, offsetof(struct config, rank), 0.5, 1, 65536, NULL,
     "numbers in the middle: a number, or a share of the width"},
    {"steps", KV_PARAM_U32, offsetof(struct config, steps), 16, 1, 10000, NULL,
     "steps of learning over all rows"},
    {0}};

struct auto_code {
    struct kv_low_rank low;
    uint32_t steps;
    float *mean;
};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    struct auto_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "autoencoder: no memory");
    self->steps = config->steps;
    self->low.shift = self->mean =
        kv_pool_reserve(setup->pool, KV_WORKSPACE, setup->dim * sizeof(float));
    if (!self->mean) return kv_fail(err, KV_EMEMORY, "autoencoder: no memory for its bias");
    const int status = kv_low_rank_create(&self->low, &kv_codec_autoencoder, setup, setup->dim,
                                          kv_budget_tokens(config->rank, setup->dim), err);
    *out = &self->low.code;
    return status;
}

static void take_mean(float *mean, const struct kv_sample *sample, uint32_t dim)
{
    for (uint32_t c = 0; c < dim; c++) {
        double sum = 0;
        for (uint32_t i = 0; i < sample->n; i++) sum += sample->rows[(size_t)i * dim + c];
        mean[c] = kv_half_to_float(kv_finite_half(sample->n ? (float)(sum / sample->n) : 0.0f));
    }
}

static double dot(const double *a, const double *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Columns become orthonormal, in order; what is left of one that the others span is 0. */
static void make_orthonormal(double *columns, uint32_t n, uint32_t dim, double floor)
{
    for (uint32_t k = 0; k < n; k++) {
        double *x = columns + (size_t)k * dim;
        for (int twice = 0; twice < 2; twice++)
            for (uint32_t j = 0; j < k; j++) {
                const double *y = columns + (size_t)j * dim, along = dot(x, y, dim);
                for (uint32_t c = 0; c < dim; c++) x[c] -= along * y[c];
            }
        const double length = sqrt(dot(x, x, dim));
        for (uint32_t c = 0; c < dim; c++) x[c] = length > floor ? x[c] / length : 0.0;
    }
}

static void learn(const double *covariance, uint32_t dim, uint32_t rank, uint32_t steps,
                  double *columns, double *next)
{
    double trace = 0;
    for (uint32_t c = 0; c < dim; c++) trace += covariance[(size_t)c * dim + c];
    for (uint32_t k = 0; k < rank; k++) columns[(size_t)k * dim + k] = 1.0;
    for (uint32_t s = 0; s < steps; s++) {
        for (uint32_t k = 0; k < rank; k++)
            for (uint32_t c = 0; c < dim; c++)
                next[(size_t)k * dim + c] =
                    dot(covariance + (size_t)c * dim, columns + (size_t)k * dim, dim);
        make_orthonormal(next, rank, dim, 1e-13 * trace);
        memcpy(columns, next, (size_t)rank * dim * sizeof *columns);
    }
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct auto_code *self = (struct auto_code *)code;
    const size_t dim = code->dim, rank = self->low.n_latents;
    if (sample->sizes_only) return kv_low_rank_finish(&self->low, sample, dim * (rank + 1), err);
    double *covariance = calloc(dim * dim + 2 * rank * dim, sizeof *covariance);
    if (!covariance) return kv_fail(err, KV_EMEMORY, "autoencoder: no memory for %zu columns", dim);
    double *columns = covariance + dim * dim;
    take_mean(self->mean, sample, code->dim);
    kv_low_rank_gram(self->low.kernels, self->low.blocks, sample, code->dim, self->mean, covariance);
    learn(covariance, code->dim, (uint32_t)rank, self->steps, columns, columns + rank * dim);
    for (uint32_t k = 0; k < rank; k++)
        kv_low_rank_set(self->low.blocks, k, columns + k * dim, columns + k * dim);
    free(covariance);
    return kv_low_rank_finish(&self->low, sample, dim * (rank + 1), err);
}

const struct kv_codec kv_codec_autoencoder = {
    .name = "autoencoder",
    .summary = "a linear autoencoder, learned on the rows of the fit",
    .paper = "linear autoencoders (Baldi and Hornik, Neural Networks 2, 1989), on K and V",
    .traits = KV_LEAVES_ROWS | KV_FITS_PROMPT | KV_ORDERED_HEADS, /* its start goes by columns */
    .params = params,
    .config_size = sizeof(struct config),
    .create = create,
    .fit = fit,
    .encode = kv_low_rank_encode,
    .decode = kv_low_rank_decode,
    .used = kv_wrapped_used};
