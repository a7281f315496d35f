/* Rows as coefficients of few directions, held by an inner codec: what svd, palu, xkv, kq-svd and
 * autoencoder share. They differ in how the two maps are found.
 *
 * A row falls into blocks of columns (KV heads that share a basis), each with its own maps:
 * z_b = down_b x_b (rank_b numbers), x_hat_b = up_b^T z_hat_b, both kept and used as halves. All z
 * of a row, one behind the other, are the inner codec's row; block, tiers and bytes are its. Before
 * a fit the directions are the first columns. */
#ifndef KVBENCH_METHODS_PARTS_LOW_RANK_H
#define KVBENCH_METHODS_PARTS_LOW_RANK_H

#include "methods/codec.h"

struct kv_directions {     /* of one block */
    uint32_t first, width; /* columns of the row */
    uint32_t first_latent, rank;
    float *down, *up; /* [width][rank]; [rank][width] */
};

struct kv_low_rank { /* first member of the codec's object */
    struct kv_code code, *inner;
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    uint32_t n_blocks, n_latents;
    struct kv_directions *blocks;
    const float *shift;   /* [dim] taken off before and added after, or NULL */
    float *latents, *row; /* [block][n_latents], [dim] */
};

/* Blocks of `width` columns (the last may be narrower, and have fewer directions then) of `rank`
 * directions each, and the inner codec. KV_EUNSUPPORTED for a rank that a block does not have. */
int kv_low_rank_create(struct kv_low_rank *self, const struct kv_codec *type,
                       const struct kv_setup *setup, uint32_t width, uint32_t rank,
                       struct kv_error *err);

/* Direction k of a block: its part in down and in up, [width] each. */
void kv_low_rank_set(struct kv_directions *block, uint32_t k, const double *down, const double *up);

/* Sums of x_r x_c over the sample's rows for the columns of a block: [width][width] double. */
void kv_low_rank_gram(const struct kv_kernels *kernels, const struct kv_directions *block,
                      const struct kv_sample *sample,
                      uint32_t dim, const float *shift, double *gram);

/* The end of a fit: charges so many halves as basis and fits the inner codec on latents. */
int kv_low_rank_finish(struct kv_low_rank *self, const struct kv_sample *sample, size_t halves,
                       struct kv_error *err);

void kv_low_rank_encode(struct kv_code *code, const float *rows, uint8_t *atom);
void kv_low_rank_decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                        uint32_t first_column, uint32_t n_columns, float *out);

#endif
