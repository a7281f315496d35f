/* The orthogonal matrix nearest to a square one (orthogonal Procrustes): M = U S V^T -> U V^T, by
 * one-sided Jacobi rotations (Hestenes 1958). Directions that M does not have are filled up by
 * Gram-Schmidt over the unit vectors. Only + - * / sqrt in a fixed order: the same bits anywhere.
 */
#ifndef KVBENCH_METHODS_PARTS_POLAR_H
#define KVBENCH_METHODS_PARTS_POLAR_H

#include <stdbool.h>
#include <stdint.h>

#include "harness/base/status.h"

/* matrix [n][n], replaced. */
int kv_nearest_orthogonal(double *matrix, uint32_t n, struct kv_error *err);

#endif
