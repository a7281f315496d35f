/* Single floats of at most 8 bits, and scales of E2M1 groups: what every kernel set shares. */
#ifndef KVBENCH_METHODS_KERNELS_MINIFLOAT_BITS_H
#define KVBENCH_METHODS_KERNELS_MINIFLOAT_BITS_H

#include "harness/base/half.h"
#include "methods/kernels/kernels.h"

static const struct kv_minifloat kv_e4m3 = {4, 3, 7, 448}, kv_e5m2 = {5, 2, 15, 57344},
                                 kv_e2m1 = {2, 1, 1, 6};

/* Bits of a float's mantissa that a format does not have. */
static inline uint32_t kv_minifloat_shift(const struct kv_minifloat *format)
{
    return 23 - format->mantissa_bits;
}

/* Of the smallest normal number; below it the step between numbers stays. */
static inline uint32_t kv_minifloat_lowest(const struct kv_minifloat *format)
{
    return (128 - format->bias) << 23;
}

/* Adding 1.5 * 2^23 units of the last place that stays leaves a sum whose low bits count those
 * units: mantissa, hidden bit and what was rounded up, to which the exponent is added in its place.
 */
static inline uint8_t kv_minifloat_code(const struct kv_minifloat *format, float x)
{
    const uint32_t shift = kv_minifloat_shift(format), lowest = kv_minifloat_lowest(format);
    const uint32_t size_bits = format->exponent_bits + format->mantissa_bits;
    const uint32_t bits = kv_bits_of_float(x);
    float size = kv_float_of_bits(bits & 0x7fffffff);
    size = size < format->largest ? size : format->largest;
    uint32_t power = kv_bits_of_float(size) & 0x7f800000;
    power = power > lowest ? power : lowest;
    const float magic = kv_float_of_bits(power + (shift << 23) + 0x400000);
    const uint32_t units = kv_bits_of_float(size + magic) - kv_bits_of_float(magic);
    const uint32_t code = units + ((power - lowest) >> shift);
    return (uint8_t)(code | bits >> 31 << size_bits);
}

/* Fields where a float's are, times a power of two: exact. */
static inline float kv_minifloat_of(const struct kv_minifloat *format, uint8_t code)
{
    const uint32_t sign_bit = 1u << (format->exponent_bits + format->mantissa_bits);
    const uint32_t size = (code & (sign_bit - 1)) << kv_minifloat_shift(format);
    const uint32_t sign = (code & sign_bit) ? 0x80000000u : 0;
    return kv_float_of_bits(size | sign) * kv_float_of_bits((254 - format->bias) << 23);
}

/* 2^(scale - 127), scale 0 .. 254; of 0 the only one that is no normal float. */
static inline float kv_fp4_power(uint32_t scale)
{
    return kv_float_of_bits(scale ? scale << 23 : 1u << 22);
}

/* A float below 2^-126 gives -127 anyway; the bits of any other are its exponent, and a mantissa
 * that is above that of 1.5 where it is above .75 2^k. 6 * 2^126 is no f32. */
static inline uint8_t kv_fp4_scale_of(const struct kv_fp4_shape *shape, float largest)
{
    if (shape->scale == KV_FP4_E4M3)
        return kv_minifloat_code(&kv_e4m3, largest / (kv_e2m1.largest * shape->unit));
    const uint32_t bits = kv_bits_of_float(largest);
    const int up = shape->scale == KV_FP4_CEIL && (bits & 0x7fffff) > 0x400000;
    const int scale = (int)(bits >> 23) - 2 + up;
    return (uint8_t)(scale < 0 ? 0 : scale > 252 ? 252 : scale);
}

static inline float kv_fp4_step(const struct kv_fp4_shape *shape, uint8_t scale)
{
    if (shape->scale == KV_FP4_E4M3) return kv_minifloat_of(&kv_e4m3, scale) * shape->unit;
    return kv_fp4_power(scale);
}

#endif
