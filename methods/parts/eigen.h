/* Eigenvectors of a symmetric matrix: Householder to tridiagonal form, then implicit QL (Bowdler,
 * Martin, Reinsch, Wilkinson, Numerische Mathematik 11, 1968: tred2 and tql2). Only + - * / sqrt in
 * a fixed order: the same bits on every machine. */
#ifndef KVBENCH_METHODS_PARTS_EIGEN_H
#define KVBENCH_METHODS_PARTS_EIGEN_H

#include <stddef.h>
#include <stdint.h>

#include "harness/base/status.h"
#include "methods/kernels/kernels.h"

/* 1, or -1 where the component of largest magnitude (the first such) is negative. */
double kv_sign_of_largest(const double *vector, uint32_t n);

/* matrix [n][n] in, symmetric; out: row k is the unit eigenvector of values[k], values descending
 * (of equal ones any order, always the same); the sign of each vector is that of its largest
 * component: +. */
int kv_eigen_symmetric(const struct kv_kernels *kernels, double *matrix, uint32_t n, double *values,
                       struct kv_error *err);

#endif
