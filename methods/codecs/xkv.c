/* xkv: one latent for the keys (values) of several neighbouring layers (Chang et al., xKV,
 * arXiv 2503.18893).
 *
 * When the prompt ends, the keys before rotation of group_layers consecutive layers, all heads,
 * stand side by side, X = [K_1 .. K_G] of n rows and G W columns; X ~ U_r S_r V_r^T. Kept: Z = X
 * V_r (one latent a token for the whole group) and V_r, its rows of layer i being that layer's
 * read-out. V_r: leading eigenvectors of X^T X = sum of Grams (double, not centred), kept and used
 * as halves. Values likewise with their own rank; keys are rotated after they are rebuilt. Decoded
 * tokens stay exact, as published.
 *
 * Bytes: the inner codec's (default f16) for rows of rank columns, one a token and group; the basis
 * 2 * G * W * rank, of this prompt alone. A rank below 1 is a share of G W: the last group, of
 * fewer layers, has fewer. A layer's row shows an even part of its group's bytes.
 *
 * Departures: groups are recorded neighbours of one shape and kind, which the row names; no
 * randomised solver, the Gram's eigenvectors for any width. */
#include <stdlib.h>

#include "methods/parts/eigen.h"
#include "methods/parts/low_rank.h"
#include "methods/parts/wrapper.h"

extern const struct kv_codec kv_codec_xkv;

struct config {
    struct kv_budget rank;
    uint32_t group_layers;
};

static const struct kv_param params[] = {
    {"rank", KV_PARAM_BUDGET, offsetof(struct config, rank), 0.125, 1, 65536, NULL,
     "directions of a group: a number, or a share of its width"},
    {"group_layers", KV_PARAM_U32, offsetof(struct config, group_layers), 4, 1, 1024, NULL,
     "neighbouring layers that share a latent"},
    {0}};

struct xkv_code {
    struct kv_low_rank low;
    struct kv_code *later;
};

static uint32_t span(const void *config)
{
    (void)config;
    return KV_SPAN_HEADS;
}

static uint32_t layer_group(const void *config, const struct kv_geometry *layer)
{
    (void)layer;
    return ((const struct config *)config)->group_layers;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    struct xkv_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "xkv: no memory");
    int status = kv_low_rank_create(&self->low, &kv_codec_xkv, setup, setup->dim,
                                    kv_budget_tokens(config->rank, setup->dim), err);
    if (!status) status = kv_create_code(&self->later, NULL, setup, setup->dim, err);
    if (status) return status;
    self->later->tiers.flush = UINT32_MAX; /* never: they stay exact */
    *out = &self->low.code;
    return KV_OK;
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct kv_low_rank *self = (struct kv_low_rank *)code;
    const size_t dim = code->dim;
    if (sample->sizes_only) return kv_low_rank_finish(self, sample, dim * self->n_latents, err);
    double *matrix = calloc(dim * dim + dim, sizeof *matrix);
    if (!matrix) return kv_fail(err, KV_EMEMORY, "xkv: no memory for a Gram matrix of %zu", dim);
    kv_low_rank_gram(self->kernels, self->blocks, sample, code->dim, NULL, matrix);
    const int status = kv_eigen_symmetric(self->kernels, matrix, code->dim, matrix + dim * dim, err);
    for (uint32_t k = 0; !status && k < self->n_latents; k++)
        kv_low_rank_set(self->blocks, k, matrix + k * dim, matrix + k * dim);
    free(matrix);
    return status ? status : kv_low_rank_finish(self, sample, dim * self->n_latents, err);
}

static struct kv_code *later(const struct kv_code *code)
{
    return ((const struct xkv_code *)code)->later;
}

const struct kv_codec kv_codec_xkv = {.name = "xkv",
                                      .summary = "one latent for several layers, before rotation",
                                      .paper = "xKV (Chang et al., arXiv 2503.18893)",
                                      .traits = KV_LEAVES_ROWS | KV_FITS_PROMPT | KV_FITS_ONLINE |
                                                KV_UNROTATED_KEYS,
                                      .params = params,
                                      .config_size = sizeof(struct config),
                                      .span = span,
                                      .layer_group = layer_group,
                                      .create = create,
                                      .fit = fit,
                                      .encode = kv_low_rank_encode,
                                      .decode = kv_low_rank_decode,
                                      .used = kv_wrapped_used,
                                      .later = later};
