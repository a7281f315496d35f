/* Values that lie in strips of columns, for sets whose accumulate is faster so (kernels.h, strip). */
#ifndef KVBENCH_METHODS_KERNELS_STRIPS_H
#define KVBENCH_METHODS_KERNELS_STRIPS_H

#include <stdbool.h>

#include "methods/kernels/kernels.h"

/* Whether so many rows are worth laying what they meet so. */
static inline bool kv_strips_pay(const struct kv_kernels *kernels, uint32_t rows)
{
    enum { LEAST = 32 };
    return kernels->strip && rows >= LEAST;
}

/* values [n][dim] -> strips of kernels->strip columns, the last maybe of fewer, one after the other; a strip is
 * its columns of each line, [n][width]. n dim floats in all. */
void kv_strips_lay(const struct kv_kernels *kernels, const float *values, uint32_t n, uint32_t dim, float *strips);

/* accumulate (kernels.h) with lines first .. first + n - 1 of so many in strips; the same bits. */
struct kv_strips {
    const float *at;
    uint32_t lines, dim;
};
void kv_strips_sum(const struct kv_kernels *kernels, const float *weights, uint32_t rows, uint32_t stride,
                   const struct kv_strips *strips, uint32_t first, uint32_t n, const float *factors, float *outputs);

#endif
