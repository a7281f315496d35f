/* What the parts of gear share (gear.c, gear_grid.c, gear_rest.c, gear_outliers.c, gear_fit.c);
 * nobody else includes it. X, D, S, R, L and B are those of codecs/gear.c. */
#ifndef KVBENCH_METHODS_CODECS_GEAR_PARTS_H
#define KVBENCH_METHODS_CODECS_GEAR_PARTS_H

#include "methods/codec.h"

struct gear_config {
    double sparsity;
    uint32_t bits, rank, later_rank, buffer;
};

struct gear_code {
    struct kv_code code;
    struct kv_code *inner;  /* the backbone, or NULL: the grid of gear_grid.c */
    struct gear_code *late; /* of prompt rows: the object of later ones */
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    bool keys, prompt, counts; /* counts: an atom says how many outliers it has */
    /* codes_bytes: in front of the coefficients, codes or the backbone's atoms */
    uint32_t bits, rank, per_end, codes_bytes, n_vectors;
    double sparsity;
    float *low, *high, *mean, *step, *base; /* prompt keys: [dim] */
    float *basis;                           /* [rank][dim] */
    double *matrix;                         /* [dim][dim + 1] scratch of eigenvectors */
    float *read, *filled, *rest;            /* [block][dim] D; x with outliers filled; R */
    float *vector;                          /* the longer of block and dim */
    uint8_t *outlying, *codes;              /* [block][dim]; codes 7 more, then marks of a vector */
};

/* The backbone's atoms in one of this object's. */
static inline uint32_t kv_gear_inner_atoms(const struct gear_code *self)
{
    return self->inner ? self->code.block / self->inner->block : 0;
}

/* ---- gear.c ---- */

/* Outliers at each end of a vector. */
uint32_t kv_gear_per_end(double sparsity, uint32_t length);
/* Bytes of an atom, once more when the backbone's are known. */
void kv_gear_set_bytes(struct gear_code *self);

/* ---- gear_grid.c: D ---- */

/* D, marks of outliers and R of a block [block][dim], into self->read, outlying and rest. At
 * `grids` those of vectors that have their own, or the backbone's atoms. */
void kv_gear_code_rows(struct gear_code *self, const float *rows, uint8_t *grids);
/* A row of the prompt [dim] as the backbone's fit sees it: outliers filled. */
void kv_gear_fill_row(const struct kv_code *code, const float *row, float *filled);
/* D of an atom without a backbone, into self->read. */
void kv_gear_decode_grid(const struct gear_code *self, const uint8_t *atom);

/* ---- gear_rest.c: L ---- */

/* Adds R^T R of the block at hand to self->matrix. */
void kv_gear_add_gram(struct gear_code *self);
/* B of self->matrix, which it leaves as eigenvectors; zeros where there are none to be found. */
int kv_gear_find_basis(struct gear_code *self, struct kv_error *err);
/* The block's coefficients R B, and B where it is the block's own; returns what follows them. */
uint8_t *kv_gear_keep_factors(struct gear_code *self, uint8_t *at);
/* Adds L to self->read; returns what follows the factors. */
const uint8_t *kv_gear_add_factors(const struct gear_code *self, const uint8_t *at);

/* ---- gear_outliers.c: S ---- */

/* At most, of the places that an atom keeps in metadata, and of their count where it is kept. */
uint32_t kv_gear_places_bytes(const struct gear_code *self);
/* Of an atom, or NULL or kv_smallest_atom as in kv_codec.used. */
uint32_t kv_gear_counted_bytes(const struct gear_code *self, const uint8_t *atom);
/* Values at `values` behind the factors, places in the atom's metadata. */
void kv_gear_keep_outliers(const struct gear_code *self, const float *rows, uint8_t *values,
                           uint8_t *atom);
/* And back, over self->read. */
void kv_gear_put_outliers(const struct gear_code *self, const uint8_t *atom, const uint8_t *values);

/* ---- gear_fit.c ---- */

/* Of the prompt: keys' grids and thresholds, the backbone, and B. */
int kv_gear_fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err);

#endif
