/* Codes of floats of at most 8 bits in words of 32, for minifloats.h: two vectors a step, and a true
 * division. A set with better ways has words of the same names. */
#ifndef KVBENCH_METHODS_KERNELS_FIELDS_H
#define KVBENCH_METHODS_KERNELS_FIELDS_H

#include "methods/kernels/minifloat_bits.h"

enum { FIELD_VECS = 2, FIELDS = FIELD_VECS * LANES }; /* codes of a step */

/* A format's numbers, in all lanes. */
struct fields {
    vec largest, lowest, magic; /* 1.5 * 2^shift */
    vec_int exponents, sign, base;
    uint32_t shift, sign_shift;
};

ALWAYS_INLINE struct fields fields_make(const struct kv_minifloat *format)
{
    const uint32_t shift = kv_minifloat_shift(format), lowest = kv_minifloat_lowest(format);
    const uint32_t size_bits = format->exponent_bits + format->mantissa_bits;
    return (struct fields){.largest = spread(format->largest),
                           .lowest = spread(kv_float_of_bits(lowest)),
                           .magic = spread(1.5f * (float)(1u << shift)),
                           .exponents = spread_word(0x7f800000),
                           .sign = spread_word(1u << size_bits),
                           .base = spread_word((shift << 23) + 0x400000 + (lowest >> shift)),
                           .shift = shift,
                           .sign_shift = 31 - size_bits};
}

/* kv_minifloat_code of each lane. power * magic is exact, so that the fused sum rounds as a sum
 * does. */
ALWAYS_INLINE vec_int field_codes(const struct fields *f, vec x)
{
    const vec size = smaller(magnitude(x), f->largest);
    const vec power = larger(float_of(both(bits_of(size), f->exponents)), f->lowest);
    const vec_int sum = bits_of(fused(power, f->magic, size));
    const vec_int units = minus(minus(sum, bits_of(power)), f->base);
    const vec_int code = plus(units, shift_down(bits_of(power), f->shift));
    return either(code, both(shift_down(bits_of(x), f->sign_shift), f->sign));
}

ALWAYS_INLINE void store_fields(const struct fields *f, const vec v[FIELD_VECS], uint8_t *codes)
{
    store_bytes(codes, field_codes(f, v[0]), field_codes(f, v[1]));
}

/* The first n lanes. */
ALWAYS_INLINE void store_some_counts(uint8_t *p, uint32_t n, vec_int v)
{
    uint8_t found[LANES];
    store_counts(found, v);
    for (uint32_t i = 0; i < n; i++) p[i] = found[i];
}

/* x / divisor; the inverse is for sets whose divisions are slower than their products. */
ALWAYS_INLINE vec quotient(vec x, vec divisor, vec inverse)
{
    (void)inverse;
    return divide(x, divisor);
}

#endif
