/* What the parts of mla share (mla.c, mla_shape.c, mla_turn.c, mla_fit.c); nobody else includes it.
 */
#ifndef KVBENCH_METHODS_CODECS_MLA_PARTS_H
#define KVBENCH_METHODS_CODECS_MLA_PARTS_H

#include "methods/codec.h"

struct mla_config {
    struct kv_budget rank, rope;
    uint32_t fold;
};

struct mla_shape {
    uint32_t heads, key, value, lane, dim;        /* columns of a lane, of a recorded row */
    uint32_t n_pairs, kept, fold, collapse, each; /* pairs; components kept, of each group */
    uint32_t rank, tail;                          /* columns of c; of k_R */
    bool latent_already, whole;
};

struct mla_rotation { /* by token: cosine and sine of n angles */
    uint32_t n;
    float *cosine, *sine;
};

struct mla_code {
    struct kv_code code, *inner;
    const struct kv_kernels *kernels;
    const struct kv_geometry *geometry;
    const struct kv_rope *rope; /* the geometry's */
    struct kv_pool *pool;
    struct mla_shape shape;
    uint32_t (*pairs)[2];           /* [n_pairs] columns of a key */
    double *frequencies;            /* [n_pairs] */
    struct mla_rotation own, turns; /* of the pairs, of the components kept */
    float *directions;              /* [kept][heads][fold] */
    float *basis;                   /* [dim, or value where latents are recorded][rank] */
    float balance;
    uint32_t *columns; /* [rank] of the recorded row, when whole */
    float *row;        /* [dim] scratch */
};

/* Columns of a row that latents are made of. */
static inline uint32_t kv_mla_basis_rows(const struct mla_shape *shape)
{
    return shape->latent_already ? shape->value : shape->dim;
}

/* ---- mla_shape.c ---- */

/* What is stored of which columns, of what was asked for; finds the rotary pairs. */
int kv_mla_take_shape(struct mla_code *self, const struct kv_setup *setup, struct kv_error *err);
/* By which a component that is kept turns, per position. */
double kv_mla_frequency(const struct mla_code *self, uint32_t component);

/* ---- mla_turn.c: to the latents and back ---- */

extern const struct kv_turn kv_mla_turn;

/* The kept components of one head's key or query, added to part [2 kept]: first all x, then all y.
 */
void kv_mla_add_components(const struct mla_code *self, uint32_t lane, const float *key,
                           float *part);
/* Takes kept components, part [2 kept], off the keys of a row, all lanes. */
void kv_mla_take_off(const struct mla_code *self, const float *part, float *row);
/* A row of keys before rotation and values, all lanes, [dim] -> [rank]; is balanced in place. */
void kv_mla_to_latents(const struct mla_code *self, float *before, float *latents);

/* ---- mla_fit.c ---- */

/* Directions, balance and basis from the prompt, and the inner codec on what they make of it. */
int kv_mla_fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err);

#endif
