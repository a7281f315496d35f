/* palu: keys before rotation and values as coefficients of a basis that a group of KV heads shares
 * (Chang et al., Palu, arXiv 2407.21118, section 3: G-LRD; one head a group is M-LRD, all heads
 * J-LRD).
 *
 * Palu whitens the projection W of a group, S S^T = X^T X, and truncates the SVD of S W: the cached
 * rows k = x W are then projected on the leading eigenvectors U of K^T K, K the rows of the fit, so
 * that the basis follows from rows alone: K^T K = U L U^T (double, not centred, L descending). With
 * the square roots of the singular values on both factors, sigma = L^(1/2):
 * encode: z = L_r^(-1/4) U_r^T k; decode: k_hat = U_r L_r^(1/4) z_hat, rotated then. Both maps are
 * halves. z goes to the inner codec; `+int:bits=3:rotate=hadamard` are Palu's quantized latents.
 *
 * Bytes: the inner codec's for rows of rank columns a group; the basis 2 * width * rank a group
 * (the up-projection; the down-projection stands in the place of W). Block and tiers are the inner
 * codec's. A rank below 1 is a share of the group's width; the last group may be narrower and has
 * then at most its own width of directions. Directions without energy keep scale 1.
 *
 * Departures: no W at hand, so a bias is part of the rows (the first direction takes it up); one
 * rank for all layers, no Fisher search; values are rebuilt (the same numbers as folded into W_o).
 */
#include <math.h>
#include <stdlib.h>

#include "methods/parts/eigen.h"
#include "methods/parts/low_rank.h"
#include "methods/parts/wrapper.h"

extern const struct kv_codec kv_codec_palu;

struct config {
    struct kv_budget rank;
    uint32_t group_heads;
};

static const struct kv_param params[] = {
    {"rank", KV_PARAM_BUDGET, offsetof(struct config, rank), 0.5, 1, 65536, NULL,
     "directions of a group: a number, or a share of its width"},
    {"group_heads", KV_PARAM_U32, offsetof(struct config, group_heads), 4, 1, 65536, NULL,
     "KV heads that share a basis; at most those there are"},
    {0}};

static uint32_t span(const void *config)
{
    return ((const struct config *)config)->group_heads > 1 ? KV_SPAN_HEADS : 0;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    const uint32_t lanes = kv_lanes_in_row(setup);
    const uint32_t most = lanes > 1 ? setup->n_heads : 1; /* latents are no head's */
    const uint32_t heads = most < config->group_heads ? most : config->group_heads;
    const uint32_t width = setup->dim / lanes * heads;
    struct kv_low_rank *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "palu: no memory");
    const int status = kv_low_rank_create(self, &kv_codec_palu, setup, width,
                                          kv_budget_tokens(config->rank, width), err);
    *out = &self->code;
    return status;
}

/* Directions scaled by the fourth root of their eigenvalue, and back. */
static void set_scaled(struct kv_directions *block, const double *vectors, const double *values,
                       double *scaled)
{
    double *down = scaled, *up = scaled + block->width;
    for (uint32_t k = 0; k < block->rank; k++) {
        const bool empty = !(values[k] > 1e-14 * values[0]);
        const double scale = empty ? 1.0 : sqrt(sqrt(values[k]));
        for (uint32_t c = 0; c < block->width; c++) {
            const double x = vectors[(size_t)k * block->width + c];
            down[c] = x / scale, up[c] = x * scale;
        }
        kv_low_rank_set(block, k, down, up);
    }
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct kv_low_rank *self = (struct kv_low_rank *)code;
    size_t halves = 0;
    int status = KV_OK;
    const size_t width = self->blocks->width;
    double *memory = calloc(width * width + 3 * width, sizeof *memory);
    if (!memory) return kv_fail(err, KV_EMEMORY, "palu: no memory for a Gram matrix of %zu", width);
    double *values = memory + width * width;
    for (uint32_t b = 0; !status && b < self->n_blocks; b++) {
        struct kv_directions *block = &self->blocks[b];
        halves += (size_t)block->width * block->rank;
        if (sample->sizes_only) continue;
        kv_low_rank_gram(self->kernels, block, sample, code->dim, NULL, memory);
        status = kv_eigen_symmetric(self->kernels, memory, block->width, values, err);
        if (!status) set_scaled(block, memory, values, values + width);
    }
    free(memory);
    return status ? status : kv_low_rank_finish(self, sample, halves, err);
}

const struct kv_codec kv_codec_palu = {.name = "palu",
                                       .summary = "latents of heads in groups, before rotation",
                                       .paper = "Palu (Chang et al., arXiv 2407.21118)",
                                       .traits =
                                           KV_LEAVES_ROWS | KV_FITS_PROMPT | KV_UNROTATED_KEYS,
                                       .params = params,
                                       .config_size = sizeof(struct config),
                                       .span = span,
                                       .create = create,
                                       .fit = fit,
                                       .encode = kv_low_rank_encode,
                                       .decode = kv_low_rank_decode,
                                       .used = kv_wrapped_used};
