/* Values in strips; see strips.h. */
#include "methods/kernels/strips.h"

#include <string.h>

static uint32_t width_of(const struct kv_kernels *kernels, uint32_t dim, uint32_t column)
{
    return dim - column < kernels->strip ? dim - column : kernels->strip;
}

void kv_strips_lay(const struct kv_kernels *kernels, const float *values, uint32_t n, uint32_t dim, float *strips)
{
    for (uint32_t c = 0; c < dim; c += kernels->strip) {
        const uint32_t width = width_of(kernels, dim, c);
        for (uint32_t j = 0; j < n; j++, strips += width)
            memcpy(strips, values + (size_t)j * dim + c, width * sizeof *strips);
    }
}

void kv_strips_sum(const struct kv_kernels *kernels, const float *weights, uint32_t rows, uint32_t stride,
                   const struct kv_strips *strips, uint32_t first, uint32_t n, const float *factors, float *outputs)
{
    const uint32_t dim = strips->dim;
    for (uint32_t c = 0; c < dim; c += kernels->strip) {
        const uint32_t width = width_of(kernels, dim, c);
        const float *lines = strips->at + (size_t)strips->lines * c + (size_t)first * width;
        kernels->accumulate(weights, rows, stride, lines, n, width, factors, outputs + c, dim);
    }
}
