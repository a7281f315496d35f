/* Sums of products of columns: what eigenvectors are found of. */
#ifndef KVBENCH_METHODS_PARTS_GRAM_H
#define KVBENCH_METHODS_PARTS_GRAM_H

#include <stddef.h>
#include <stdint.h>

#include "methods/kernels/kernels.h"

/* The upper triangle of matrix [dim][dim] += x x^T of n rows of `dim` floats that lie `stride` apart, less `shift`
 * [dim] (NULL: nothing) in double precision. A sum takes rows in ascending order, each product and each sum rounded
 * to double: the same bits on every machine. The lower triangle is anything until kv_finish_gram. */
void kv_add_gram(const struct kv_kernels *kernels, const float *rows, size_t n, size_t stride, uint32_t dim,
                 const float *shift, double *matrix);

/* The lower triangle becomes the upper one. */
void kv_finish_gram(double *matrix, uint32_t dim);

#endif
