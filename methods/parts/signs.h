/* A one-bit Johnson-Lindenstrauss sketch (QJL, Zandieh et al., arXiv 2406.03482): the signs of m
 * random projections of a vector x of R^n, from which with |x| every inner product is estimated
 * without bias:
 *
 *     <q, x> ~ factor |x| <S q, sign(S x)>, so that x_hat = factor |x| S^T sign(S x) gives just
 * that
 *
 * S in blocks of n rows. gaussian: iid N(0, 1), factor sqrt(pi / 2) / m (the paper's lemma).
 * orthogonal: each block uniformly random orthogonal, its length left out, factor 1 / (m E|u_1|) of
 * a random unit vector u: exact at every n. */
#ifndef KVBENCH_METHODS_PARTS_SIGNS_H
#define KVBENCH_METHODS_PARTS_SIGNS_H

#include "methods/parts/rotation.h"

enum kv_sketch_kind { KV_SKETCH_ORTHOGONAL, KV_SKETCH_GAUSSIAN };
enum { KV_MOST_SKETCH_BLOCKS = 16 };

struct kv_sketch {
    uint32_t n, n_blocks;
    double mean_magnitude; /* E|row x| for |x| = 1 */
    struct kv_rotation blocks[KV_MOST_SKETCH_BLOCKS];
    float *projected, *signs; /* [n] scratch */
    uint8_t *bits;            /* [n] */
    float reach;              /* at least the length of each row */
};

/* A sketch of up to `most` projections; KV_EUNSUPPORTED beyond KV_MOST_SKETCH_BLOCKS times n. */
int kv_sketch_create(struct kv_sketch *sketch, const struct kv_setup *setup, uint32_t n,
                     uint32_t most, enum kv_sketch_kind kind, uint32_t stream,
                     struct kv_error *err);

/* Rows in some of the sketch's columns, the others 0. */
struct kv_sketched {
    const float *rows; /* [n][n_columns] */
    uint32_t n, n_columns;
    const uint32_t *columns; /* [n_columns] ascending; NULL: all */
    float *spare;            /* [n_columns][sketch's n] scratch where columns are told */
};

/* Signs of the first m projections of each row, packed, each block of the sketch's n in whole
 * bytes: kv_sketch_bytes(n, m), `apart` bytes behind those of the row before. */
void kv_sketch_encode(const struct kv_sketch *sketch, const struct kv_sketched *x, uint32_t m,
                      uint8_t *packed, size_t apart);
uint32_t kv_sketch_bytes(uint32_t n, uint32_t m);
/* out[n] += the estimate of x, whose length is `length`. */
void kv_sketch_decode(const struct kv_sketch *sketch, const uint8_t *packed, uint32_t m,
                      float length, float *out);

#endif
