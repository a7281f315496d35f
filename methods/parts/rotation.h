/* Random square maps of R^n, and their transposes: what turboquant and its kin turn rows by.
 *
 *     hadamard   H D / sqrt(n): random signs, then Walsh-Hadamard; n a power of two; orthogonal
 *     haar       uniformly random orthogonal: Gram-Schmidt on a Gaussian matrix
 *     gaussian   iid N(0, 1) entries; not orthogonal (the sketch of QJL)
 *
 * A map is a pure function of its random stream; exact kernels only, so the same bits everywhere. */
#ifndef KVBENCH_METHODS_PARTS_ROTATION_H
#define KVBENCH_METHODS_PARTS_ROTATION_H

#include "harness/base/rng.h"
#include "methods/setup.h"

enum kv_rotation_kind { KV_ROTATE_HADAMARD, KV_ROTATE_HAAR, KV_ROTATE_GAUSSIAN };

struct kv_rotation {
    const struct kv_kernels *kernels;
    enum kv_rotation_kind kind;
    uint32_t n;
    float *signs;              /* hadamard: +-1 / sqrt(n) */
    float *matrix, *transpose; /* haar, gaussian: row r of the map is matrix[r] */
};

/* KV_EUNSUPPORTED when the kind does not allow n, KV_EMEMORY. */
int kv_rotation_create(struct kv_rotation *rotation, const struct kv_setup *setup, uint32_t n,
                       enum kv_rotation_kind kind, struct kv_rng rng, struct kv_error *err);

/* out = M x, and out = transpose(M) x; out is not x. */
void kv_rotation_apply(const struct kv_rotation *rotation, const float *x, float *out);
/* The first for each row of x [rows][n], and the kernels' sum of squares of each. */
void kv_rotation_apply_measured(const struct kv_rotation *rotation, const float *x, uint32_t rows, float *out,
                                float *squares);
void kv_rotation_undo(const struct kv_rotation *rotation, const float *x, float *out);

#endif
