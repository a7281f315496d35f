/* Values as accumulate likes them best: in strips of columns where that pays (kernels.h, strip), else as they are. */
#ifndef KVBENCH_METHODS_KERNELS_STRIPS_H
#define KVBENCH_METHODS_KERNELS_STRIPS_H

#include "methods/kernels/kernels.h"

/* Strips of `width` columns of dim, the last maybe of fewer, one after the other; a strip is its columns of each
 * line. With width = dim they are plain rows [lines][dim]. */
struct kv_strips {
    const float *at;
    uint32_t lines, dim, width;
};

/* values [lines][dim], for so many rows that will meet them; room: [lines][dim], for what has to be laid anew. */
struct kv_strips kv_strips_of(const struct kv_kernels *kernels, uint32_t rows, const float *values, uint32_t lines,
                              uint32_t dim, float *room);

/* accumulate (kernels.h) with lines first .. first + n - 1; the same bits as with rows. */
void kv_strips_sum(const struct kv_kernels *kernels, const float *weights, uint32_t rows, uint32_t stride,
                   const struct kv_strips *strips, uint32_t first, uint32_t n, const float *factors, float *outputs);

#endif
