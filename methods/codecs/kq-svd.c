/* kq-svd: the key directions that keep scores best (KQ-SVD, arXiv 2512.05916): of all pairs of maps
 * with rank r, those that minimise |Q K^T - (Q A) (K B)^T|_F on the rows of the fit.
 *
 * C_k = K^T K + eps I (eps = 1e-6 of its mean diagonal), C_q = sum of Q^T Q over the query heads of
 * the group, keys and queries as recorded. With any L, L L^T = C_k, here L = E D^(1/2) of C_k = E D
 * E^T: the eigenvectors V of L^T C_q L = V S^2 V^T, S the singular values of Q K^T. Then
 * B = L^-T V_r, A = L V_r, and A B^T is a projection (oblique): its error is sqrt(sum_{i>r} S_i^2),
 * the least that any rank r can have. Columns of B have length 1 and those of A its inverse, so
 * that latents are of the keys' size (the paper's S^(1/2) on both sides cancels the same). Their sign is
 * free, and what grids make of latents hangs on it: the largest component of a column of B is positive. encode:
 * z = B^T k to the inner codec; decode: k_hat = A z_hat. Values: the same with C_q = sum over the
 * group's heads of W_oh^T W_oh, C_k = V^T V (values=output; skipped where the trace has no W_o), or
 * plain eigenvectors of V^T V (values=pca, the default).
 *
 * Bytes: the inner codec's for rows of rank columns; both maps, 4 * dim * rank (values=pca: one,
 * 2 * dim * rank), since neither can be folded into a projection before a rotation.
 *
 * keys=unrotated: such a key meets a query turned on by the lag between them. C_q is then the mean
 * sum over lags of p(lag) R_lag C R_lag^T, C of queries before their rotation, p(lag) the share of
 * the lag among the pairs of a prompt's query and a key that it sees (closed form: methods/lags.c).
 *
 * Departures: one KV head an object; masks and softmax do not enter, as in the paper; all queries
 * count at every lag, also those that stand too early for it. */
#include <math.h>
#include <stdlib.h>

#include "methods/parts/eigen.h"
#include "methods/parts/gram.h"
#include "methods/parts/low_rank.h"
#include "methods/parts/wrapper.h"
#include "methods/policy.h"

extern const struct kv_codec kv_codec_kq_svd;

enum { PCA, OUTPUT };

struct config {
    struct kv_budget rank;
    uint32_t values;
};

static const struct kv_param params[] = {
    {"rank", KV_PARAM_BUDGET, offsetof(struct config, rank), 0.5, 1, 65536, NULL,
     "directions kept: a number, or a share of the width"},
    {"values", KV_PARAM_CHOICE, offsetof(struct config, values), PCA, 0, 0, "pca|output",
     "values by their energy, or by what W_o makes of them"},
    {0}};

struct kq_code {
    struct kv_low_rank low;
    struct kv_setup setup;
    uint32_t values;
};

static void wants(const void *config, struct kv_wants *wants)
{
    (void)config;
    wants->queries = wants->all_lags = true;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    if (setup->side == KV_BOTH_SIDES || setup->n_heads != 1)
        return kv_fail(err, KV_EUNSUPPORTED, "kq-svd: serves one head and side, not a span");
    struct kq_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "kq-svd: no memory");
    self->setup = *setup, self->values = config->values;
    const int status = kv_low_rank_create(&self->low, &kv_codec_kq_svd, setup, setup->dim,
                                          kv_budget_tokens(config->rank, setup->dim), err);
    *out = &self->low.code;
    return status;
}

/* The metric of what reads this side: queries, or the columns of W_o of the group's heads. */
static int reader_metric(const struct kq_code *self, const struct kv_sample *sample, double *metric,
                         struct kv_error *err)
{
    const uint32_t dim = self->low.code.dim, group = self->setup.geometry->group;
    if (self->setup.side == KV_KEYS) {
        if (!sample->queries)
            return kv_fit_lacks(sample, "kq-svd", "queries", "the trace has no queries", err);
        kv_add_gram(self->low.kernels, sample->queries, sample->n_queries, dim, dim, NULL, metric);
        kv_finish_gram(metric, dim);
        return KV_OK;
    }
    const float *w_o = sample->w_o ? sample->w_o[0] : NULL;
    if (!w_o)
        return kv_fit_lacks(sample, "kq-svd", "values=output: columns of W_o",
                            "values=output: the trace has no w_o", err);
    const size_t width = (size_t)self->setup.geometry->q_heads * dim;
    for (uint32_t g = 0; g < group; g++)
        kv_add_gram(self->low.kernels, w_o + ((size_t)self->setup.head * group + g) * dim, sample->hidden, width, dim,
                    NULL, metric);
    kv_finish_gram(metric, dim);
    return KV_OK;
}

/* out = L^T M L with L = E D^(1/2); vectors[k] is column k of E. */
static void turn_metric(const double *vectors, const double *roots, const double *metric,
                        uint32_t dim, double *work, double *out)
{
    for (uint32_t k = 0; k < dim; k++)
        for (uint32_t c = 0; c < dim; c++) {
            double sum = 0;
            for (uint32_t r = 0; r < dim; r++)
                sum += vectors[(size_t)k * dim + r] * metric[(size_t)r * dim + c];
            work[(size_t)k * dim + c] = sum * roots[k];
        }
    for (uint32_t k = 0; k < dim; k++)
        for (uint32_t j = 0; j < dim; j++) {
            double sum = 0;
            for (uint32_t c = 0; c < dim; c++)
                sum += work[(size_t)k * dim + c] * vectors[(size_t)j * dim + c];
            out[(size_t)k * dim + j] = sum * roots[j];
        }
}

/* Column `v` (in coordinates of L) as a column of B = E D^(-1/2) v and of A = E D^(1/2) v. */
static void set_column(struct kv_directions *block, uint32_t k, const double *vectors,
                       const double *roots, const double *v, double *maps)
{
    const uint32_t dim = block->width;
    double *down = maps, *up = maps + dim, square = 0;
    for (uint32_t c = 0; c < dim; c++) down[c] = up[c] = 0;
    for (uint32_t j = 0; j < dim; j++)
        for (uint32_t c = 0; c < dim; c++) {
            down[c] += vectors[(size_t)j * dim + c] * (v[j] / roots[j]);
            up[c] += vectors[(size_t)j * dim + c] * (v[j] * roots[j]);
        }
    for (uint32_t c = 0; c < dim; c++) square += down[c] * down[c];
    const double length = (square > 0 ? sqrt(square) : 1.0) * kv_sign_of_largest(down, dim);
    for (uint32_t c = 0; c < dim; c++) down[c] /= length, up[c] *= length;
    kv_low_rank_set(block, k, down, up);
}

/* memory: gram, metric, work, turned [dim][dim] each, roots, values [dim], maps [2 dim]. */
static int fit_maps(struct kq_code *self, const struct kv_sample *sample, double *memory,
                    struct kv_error *err)
{
    const uint32_t dim = self->low.code.dim;
    const size_t square = (size_t)dim * dim;
    double *gram = memory, *metric = gram + square, *work = metric + square,
           *turned = work + square;
    double *roots = turned + square, *values = roots + dim, *maps = values + dim, trace = 0;
    int status = reader_metric(self, sample, metric, err);
    if (status) return status;
    kv_low_rank_gram(self->low.kernels, self->low.blocks, sample, dim, NULL, gram);
    for (uint32_t c = 0; c < dim; c++) trace += gram[(size_t)c * dim + c];
    const double extra = trace > 0 ? 1e-6 * trace / dim : 1.0;
    for (uint32_t c = 0; c < dim; c++) gram[(size_t)c * dim + c] += extra;
    status = kv_eigen_symmetric(self->low.kernels, gram, dim, roots, err);
    if (status) return status;
    for (uint32_t k = 0; k < dim; k++) roots[k] = sqrt(roots[k] > extra ? roots[k] : extra);
    turn_metric(gram, roots, metric, dim, work, turned);
    status = kv_eigen_symmetric(self->low.kernels, turned, dim, values, err);
    for (uint32_t k = 0; !status && k < self->low.n_latents; k++)
        set_column(self->low.blocks, k, gram, roots, turned + (size_t)k * dim, maps);
    return status;
}

static int fit_energy(struct kq_code *self, const struct kv_sample *sample, double *gram,
                      struct kv_error *err)
{
    const uint32_t dim = self->low.code.dim;
    kv_low_rank_gram(self->low.kernels, self->low.blocks, sample, dim, NULL, gram);
    const int status = kv_eigen_symmetric(self->low.kernels, gram, dim, gram + (size_t)dim * dim, err);
    for (uint32_t k = 0; !status && k < self->low.n_latents; k++)
        kv_low_rank_set(self->low.blocks, k, gram + (size_t)k * dim, gram + (size_t)k * dim);
    return status;
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct kq_code *self = (struct kq_code *)code;
    const size_t dim = code->dim;
    const bool energy = self->setup.side == KV_VALUES && self->values == PCA;
    const size_t halves = (energy ? 1 : 2) * dim * self->low.n_latents;
    if (sample->sizes_only) return kv_low_rank_finish(&self->low, sample, halves, err);
    double *memory = calloc(4 * dim * dim + 4 * dim, sizeof *memory);
    if (!memory) return kv_fail(err, KV_EMEMORY, "kq-svd: no memory for Gram matrices of %zu", dim);
    const int status =
        energy ? fit_energy(self, sample, memory, err) : fit_maps(self, sample, memory, err);
    free(memory);
    return status ? status : kv_low_rank_finish(&self->low, sample, halves, err);
}

const struct kv_codec kv_codec_kq_svd = {.name = "kq-svd",
                                         .summary = "key latents that keep scores best at a rank",
                                         .paper = "KQ-SVD (arXiv 2512.05916)",
                                         .traits = KV_LEAVES_ROWS | KV_FITS_PROMPT,
                                         .params = params,
                                         .config_size = sizeof(struct config),
                                         .wants = wants,
                                         .create = create,
                                         .fit = fit,
                                         .encode = kv_low_rank_encode,
                                         .decode = kv_low_rank_decode,
                                         .used = kv_wrapped_used};
