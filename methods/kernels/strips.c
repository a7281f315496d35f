/* Values in strips; see strips.h. */
#include "methods/kernels/strips.h"

#include <string.h>

static uint32_t width_at(const struct kv_strips *strips, uint32_t column)
{
    return strips->dim - column < strips->width ? strips->dim - column : strips->width;
}

struct kv_strips kv_strips_of(const struct kv_kernels *kernels, uint32_t rows, const float *values, uint32_t lines,
                              uint32_t dim, float *room)
{
    enum { LEAST = 32 }; /* rows that laying pays for */
    if (!kernels->strip || rows < LEAST) return (struct kv_strips){values, lines, dim, dim};
    const struct kv_strips strips = {room, lines, dim, kernels->strip};
    for (uint32_t c = 0; c < dim; c += strips.width) {
        const uint32_t width = width_at(&strips, c);
        for (uint32_t j = 0; j < lines; j++, room += width)
            memcpy(room, values + (size_t)j * dim + c, width * sizeof *room);
    }
    return strips;
}

void kv_strips_sum(const struct kv_kernels *kernels, const float *weights, uint32_t rows, uint32_t stride,
                   const struct kv_strips *strips, uint32_t first, uint32_t n, const float *factors, float *outputs)
{
    const uint32_t dim = strips->dim;
    for (uint32_t c = 0; c < dim; c += strips->width) {
        const uint32_t width = width_at(strips, c);
        const float *lines = strips->at + (size_t)strips->lines * c + (size_t)first * width;
        kernels->accumulate(weights, rows, stride, lines, n, width, factors, outputs + c, dim);
    }
}
