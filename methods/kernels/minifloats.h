/* Floats of at most 8 bits for the SIMD sets; minifloat_bits.h has one of each. */
#ifndef KVBENCH_METHODS_KERNELS_MINIFLOATS_H
#define KVBENCH_METHODS_KERNELS_MINIFLOATS_H

#include "methods/kernels/minifloat_bits.h"

enum { FIELDS = 2 * LANES }; /* codes of a step */

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
ALWAYS_INLINE vec_int fields_of(const struct fields *f, vec x)
{
    const vec size = smaller(magnitude(x), f->largest);
    const vec power = larger(float_of(both(bits_of(size), f->exponents)), f->lowest);
    const vec_int sum = bits_of(fused(power, f->magic, size));
    const vec_int units = minus(minus(sum, bits_of(power)), f->base);
    const vec_int code = plus(units, shift_down(bits_of(power), f->shift));
    return either(code, both(shift_down(bits_of(x), f->sign_shift), f->sign));
}

enum scaling { AS_IT_IS, TIMES, OVER };

/* Codes of n values x, x * factor or x / factor. */
ALWAYS_INLINE void code_fields(const struct fields *f, const float *x, size_t n,
                               enum scaling scaling, vec factor, uint8_t *codes)
{
    for (size_t i = 0; i < n; i += FIELDS) {
        const size_t width = n - i < FIELDS ? n - i : FIELDS;
        float part[FIELDS] = {0};
        uint8_t found[FIELDS], *to = width == FIELDS ? codes + i : found;
        const float *from = width == FIELDS ? x + i : part;
        if (width < FIELDS) memcpy(part, x + i, width * sizeof *part);
        vec v[2] = {load(from), load(from + LANES)};
        UNROLLED for (uint32_t k = 0; k < 2; k++)
        {
            if (scaling == TIMES) v[k] = mul(v[k], factor);
            if (scaling == OVER) v[k] = divide(v[k], factor);
        }
        store_fields(to, fields_of(f, v[0]), fields_of(f, v[1]));
        if (width < FIELDS) memcpy(codes + i, found, width);
    }
}

ALWAYS_INLINE void encode_fields(const struct kv_minifloat *format, const float *x, size_t n,
                                 float divisor, uint8_t *codes)
{
    const struct fields f = fields_make(format);
    if (divisor == 1)
        code_fields(&f, x, n, AS_IT_IS, zeros(), codes);
    else
        code_fields(&f, x, n, OVER, spread(divisor), codes);
}

static void KERNEL(minifloat_encode)(const struct kv_minifloat *format, const float *x, size_t n,
                                     float divisor, uint8_t *codes)
{
    encode_fields(format, x, n, divisor, codes);
}

/* A half has room for the fields of all formats up to five bits of exponent: as its upper ones they
 * are a number, subnormal or not, of another bias. */
static void KERNEL(minifloat_decode)(const struct kv_minifloat *format, const uint8_t *codes,
                                     size_t n, float factor, float *out)
{
    const uint32_t shift = 10 - format->mantissa_bits;
    const uint32_t sign_shift = 15 - format->exponent_bits - format->mantissa_bits;
    const uint16_t fields = (uint16_t)(0x7fffu >> sign_shift << shift);
    const vec by = spread(factor), rebias = spread(kv_float_of_bits((142 - format->bias) << 23));
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(out + i, mul(mul(load_fields(codes + i, shift, fields, sign_shift), rebias), by));
    if (i == n) return;
    uint8_t rest[LANES] = {0};
    memcpy(rest, codes + i, n - i);
    store_part(out + i, n - i, mul(mul(load_fields(rest, shift, fields, sign_shift), rebias), by));
}

/* -- E2M1 in groups ---------------------------------------------------------------------------- */

/* The largest magnitudes of a group, in lanes. */
ALWAYS_INLINE vec group_sizes(const float *x, size_t n)
{
    vec found = zeros();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) found = larger(magnitude(load(x + i)), found);
    return i < n ? larger(magnitude(load_part(x + i, n - i)), found) : found;
}

enum { GROUPS_AT_ONCE = LANES < 8 ? 8 : LANES };

struct fp4_scales {
    float largest[GROUPS_AT_ONCE], steps[GROUPS_AT_ONCE];
    uint8_t bytes[2 * GROUPS_AT_ONCE];
};

/* kv_fp4_scale_of and kv_fp4_step of all: a chain of operations that no group waits for alone. */
ALWAYS_INLINE void make_scales(const struct kv_fp4_shape *shape, const struct fields *e4m3,
                               struct fp4_scales *scales)
{
    const vec wanted_unit = spread(kv_e2m1.largest * shape->unit);
    vec_int codes[GROUPS_AT_ONCE / LANES];
    for (uint32_t g = 0; shape->scale != KV_FP4_E4M3 && g < GROUPS_AT_ONCE; g++) {
        scales->bytes[g] = kv_fp4_scale_of(shape, scales->largest[g]);
        scales->steps[g] = kv_fp4_inverse(scales->bytes[g]);
    }
    if (shape->scale != KV_FP4_E4M3) return;
    UNROLLED for (uint32_t k = 0; k < GROUPS_AT_ONCE / LANES; k++)
    {
        codes[k] = fields_of(e4m3, divide(load(scales->largest + k * LANES), wanted_unit));
        const vec fields = float_of(shift_up(codes[k], e4m3->shift));
        const vec value = mul(fields, spread(kv_float_of_bits((254 - kv_e4m3.bias) << 23)));
        store(scales->steps + k * LANES, mul(value, spread(shape->unit)));
    }
    store_fields(scales->bytes, codes[0], codes[GROUPS_AT_ONCE / LANES - 1]);
}

ALWAYS_INLINE void code_group(const struct fields *f, const struct kv_fp4_shape *shape,
                              const float *x, size_t n, float step, uint8_t *codes)
{
    if (shape->scale != KV_FP4_E4M3)
        code_fields(f, x, n, TIMES, spread(step), codes);
    else if (step > 0)
        code_fields(f, x, n, OVER, spread(step), codes);
    else
        memset(codes, 0, n);
}

/* Extremes of some groups first, then their scales side by side, then codes. */
ALWAYS_INLINE void encode_groups(const struct kv_fp4_shape *shape, const float *x, size_t n,
                                 uint8_t *scales, uint8_t *codes)
{
    const struct fields f = fields_make(&kv_e2m1), e4m3 = fields_make(&kv_e4m3);
    const size_t width = shape->width;
    while (n) {
        struct fp4_scales some;
        uint32_t groups = 0;
        for (uint32_t first = 0; first < GROUPS_AT_ONCE; first += 4) {
            vec sizes[4];
            for (uint32_t g = 0; g < 4; g++) {
                const size_t at = (first + g) * width, left = at < n ? n - at : 0;
                sizes[g] = group_sizes(x + (left ? at : 0), left < width ? left : width);
                groups += left > 0;
            }
            quad_store(some.largest + first, largest_of_four(sizes));
        }
        make_scales(shape, &e4m3, &some);
        memcpy(scales, some.bytes, groups);
        scales += groups;
        for (uint32_t g = 0; g < groups; g++) {
            const size_t many = n < width ? n : width;
            code_group(&f, shape, x, many, some.steps[g], codes);
            x += many, codes += many, n -= many;
        }
    }
}

/* Groups of 16 and 32 their own code: what most rows have. */
static void KERNEL(fp4_encode)(const struct kv_fp4_shape *shape, const float *x, size_t n,
                               uint8_t *scales, uint8_t *codes)
{
    const struct kv_fp4_shape nv = {KV_FP4_E4M3, 16, shape->unit};
    const struct kv_fp4_shape mx = {shape->scale, 32, 0};
    if (shape->scale == KV_FP4_E4M3 && shape->width == 16)
        encode_groups(&nv, x, n, scales, codes);
    else if (shape->scale != KV_FP4_E4M3 && shape->width == 32)
        encode_groups(&mx, x, n, scales, codes);
    else
        encode_groups(shape, x, n, scales, codes);
}

static const float levels_e2m1[16] = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                      -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

static void KERNEL(fp4_decode)(const struct kv_fp4_shape *shape, const uint8_t *scales,
                               size_t first, const uint8_t *codes, size_t n, float *out)
{
    const struct fp4_levels levels = fp4_levels_of(levels_e2m1);
    for (size_t done = 0; done < n;) {
        const size_t group = (first + done) / shape->width,
                     end = (group + 1) * shape->width - first;
        const size_t stop = end < n ? end : n;
        const float step = kv_fp4_step(shape, scales[group]);
        for (; done + 16 <= stop; done += 16)
            write_levels(&levels, codes + done, spread(step), out + done);
        for (; done < stop; done++) out[done] = levels_e2m1[codes[done] & 15] * step;
    }
}

#endif
