/* The definition of floats of at most 8 bits; a part of generic.c. */
#ifndef KVBENCH_METHODS_KERNELS_GENERIC_MINIFLOATS_H
#define KVBENCH_METHODS_KERNELS_GENERIC_MINIFLOATS_H

#include <math.h>

#include "methods/kernels/minifloat_bits.h"

static void minifloat_encode_generic(const struct kv_minifloat *format, const float *x, size_t n,
                                     float divisor, uint8_t *codes)
{
    for (size_t i = 0; i < n; i++) codes[i] = kv_minifloat_code(format, x[i] / divisor);
}

static void minifloat_decode_generic(const struct kv_minifloat *format, const uint8_t *codes,
                                     size_t n, float factor, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = kv_minifloat_of(format, codes[i]) * factor;
}

static void fp4_encode_generic(const struct kv_fp4_shape *shape, const float *x, size_t n,
                               uint8_t *scales, uint8_t *codes)
{
    for (size_t first = 0; first < n; first += shape->width, scales++) {
        const size_t end = n - first < shape->width ? n : first + shape->width;
        float largest = 0;
        for (size_t i = first; i < end; i++)
            largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
        *scales = kv_fp4_scale_of(shape, largest);
        const float step = kv_fp4_step(shape, *scales);
        for (size_t i = first; i < end; i++)
            codes[i] = step > 0 ? kv_minifloat_code(&kv_e2m1, x[i] / step) : 0;
    }
}

static void fp4_decode_generic(const struct kv_fp4_shape *shape, const uint8_t *scales,
                               size_t first, const uint8_t *codes, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = kv_minifloat_of(&kv_e2m1, codes[i]) *
                 kv_fp4_step(shape, scales[(first + i) / shape->width]);
}

#endif
