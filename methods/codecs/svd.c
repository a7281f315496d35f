/* svd: rows as coefficients of the prompt's leading directions, held by the inner codec (the
 * low-rank family at its plainest: Eigen Attention, Saxena et al., arXiv 2408.05646, equation 3,
 * with the prompt in place of a calibration text).
 *
 * fit: the rank eigenvectors of the Gram matrix X^T X of all prompt rows (not centred; double) with
 * the largest eigenvalues, V [dim][rank], kept and used as f16. encode: z = V^T x goes to the inner
 * codec (default f16). decode: x_hat = V z_hat.
 *
 * Bytes: the inner codec's for rows of rank columns; the basis 2 * dim * rank, basis_online. Block
 * and tiers are the inner codec's. Before a fit the basis is the first rank columns.
 *
 * A rank above the columns of a row or above the rows of the prompt is refused: no direction would
 * be there to keep.
 *
 * Departures: no joint basis of keys and queries; one basis an object (a head and side, or its
 * span). */
#include <stdlib.h>

#include "methods/parts/eigen.h"
#include "methods/parts/low_rank.h"
#include "methods/parts/wrapper.h"

extern const struct kv_codec kv_codec_svd;

struct config {
    uint32_t rank;
};

static const struct kv_param params[] = {{"rank", KV_PARAM_U32, offsetof(struct config, rank), 32,
                                          1, 65536, NULL,
                                          "directions kept: columns of a row of the inner codec"},
                                         {0}};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    struct kv_low_rank *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "svd: no memory");
    const int status =
        kv_low_rank_create(self, &kv_codec_svd, setup, setup->dim, config->rank, err);
    *out = &self->code;
    return status;
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct kv_low_rank *self = (struct kv_low_rank *)code;
    const uint32_t dim = code->dim;
    if (sample->sizes_only)
        return kv_low_rank_finish(self, sample, (size_t)dim * self->n_latents, err);
    double *matrix = calloc((size_t)dim * dim + dim, sizeof *matrix);
    if (!matrix) return kv_fail(err, KV_EMEMORY, "svd: no memory for a Gram matrix of %u", dim);
    kv_low_rank_gram(self->kernels, self->blocks, sample, dim, NULL, matrix);
    const int status = kv_eigen_symmetric(self->kernels, matrix, dim, matrix + (size_t)dim * dim, err);
    for (uint32_t k = 0; !status && k < self->n_latents; k++)
        kv_low_rank_set(self->blocks, k, matrix + (size_t)k * dim, matrix + (size_t)k * dim);
    free(matrix);
    return status ? status : kv_low_rank_finish(self, sample, (size_t)dim * self->n_latents, err);
}

const struct kv_codec kv_codec_svd = {
    .name = "svd",
    .summary = "coefficients of the prompt's leading directions, in the inner codec",
    .paper = "Eigen Attention (Saxena et al., arXiv 2408.05646), fitted on the prompt",
    .traits = KV_LEAVES_ROWS | KV_FITS_PROMPT,
    .params = params,
    .config_size = sizeof(struct config),
    .create = create,
    .fit = fit,
    .encode = kv_low_rank_encode,
    .decode = kv_low_rank_decode,
    .used = kv_wrapped_used};
