/* Floats of at most 8 bits for the SIMD sets; minifloat_bits.h has one of each. */
#ifndef KVBENCH_METHODS_KERNELS_MINIFLOATS_H
#define KVBENCH_METHODS_KERNELS_MINIFLOATS_H

/* Codes of n values x, x * factor or x / factor. FIELDS of them are a step; what is left of a row is
 * filled up with zeros. */
enum scaling { AS_IT_IS, TIMES, OVER };

/* What x is divided by. Between 2^-60 and 2^60 its inverse serves as well, see `quotient`. */
struct divisor {
    vec value, inverse;
};

ALWAYS_INLINE int is_usual(float divisor)
{
    return divisor >= 0x1p-60f && divisor <= 0x1p60f;
}

ALWAYS_INLINE vec scaled(vec x, enum scaling scaling, struct divisor by, int usual)
{
    if (scaling == AS_IT_IS) return x;
    if (scaling == TIMES) return mul(x, by.value);
    return usual ? quotient(x, by.value, by.inverse) : divide(x, by.value);
}

ALWAYS_INLINE void write_step(const struct fields *f, const vec v[FIELD_VECS], size_t n,
                              uint8_t *codes)
{
    uint8_t found[FIELDS];
    store_fields(f, v, n < FIELDS ? found : codes);
    if (n < FIELDS) memcpy(codes, found, n);
}

ALWAYS_INLINE void code_fields(const struct fields *f, const float *x, size_t n,
                               enum scaling scaling, float factor, int usual, uint8_t *codes)
{
    const struct divisor by = {spread(factor), spread(usual ? 1 / factor : 0)};
    for (size_t i = 0; i < n; i += FIELDS) {
        vec v[FIELD_VECS];
        UNROLLED for (uint32_t k = 0; k < FIELD_VECS; k++) v[k] =
            scaled(load_some(x + i, n - i, k), scaling, by, usual);
        write_step(f, v, n - i, codes + i);
    }
}

ALWAYS_INLINE void encode_fields(const struct kv_minifloat *format, const float *x, size_t n,
                                 float divisor, uint8_t *codes)
{
    const struct fields f = fields_make(format);
    if (divisor == 1)
        code_fields(&f, x, n, AS_IT_IS, 1, 0, codes);
    else if (is_usual(divisor))
        code_fields(&f, x, n, OVER, divisor, 1, codes);
    else
        code_fields(&f, x, n, OVER, divisor, 0, codes);
}

/* The formats of 8 bits their own code. */
static void KERNEL(minifloat_encode)(const struct kv_minifloat *format, const float *x, size_t n,
                                     float divisor, uint8_t *codes)
{
    const uint32_t exponent = format->exponent_bits, mantissa = format->mantissa_bits;
    const struct kv_minifloat e4m3 = {4, 3, format->bias, format->largest};
    const struct kv_minifloat e5m2 = {5, 2, format->bias, format->largest};
    if (exponent == 4 && mantissa == 3)
        encode_fields(&e4m3, x, n, divisor, codes);
    else if (exponent == 5 && mantissa == 2)
        encode_fields(&e5m2, x, n, divisor, codes);
    else
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

enum { GROUPS_AT_ONCE = LANES < 8 ? 8 : LANES, SCALE_VECS = GROUPS_AT_ONCE / LANES };

/* How many of n are in vector k. */
ALWAYS_INLINE uint32_t some_lanes(uint32_t n, uint32_t k)
{
    const uint32_t before = k * LANES, left = n > before ? n - before : 0;
    return left < LANES ? left : LANES;
}

/* Of each group: what its values are divided by, and the inverse; or where that is a power of two its
 * inverse alone, which they are multiplied with. */
struct fp4_steps {
    float steps[GROUPS_AT_ONCE], inverses[GROUPS_AT_ONCE];
    int usual; /* inverses serve */
};

/* kv_fp4_scale_of and kv_fp4_step of E4M3 scales, side by side: a chain of operations that no group
 * waits for alone. */
ALWAYS_INLINE void make_floats(const struct kv_fp4_shape *shape, const vec sizes[SCALE_VECS],
                               uint32_t groups, struct fp4_steps *to, uint8_t *scales)
{
    const struct fields e4m3 = fields_make(&kv_e4m3);
    const vec wanted_unit = spread(kv_e2m1.largest * shape->unit);
    uint32_t unusual = 0;
    UNROLLED for (uint32_t k = 0; k < SCALE_VECS; k++)
    {
        const vec_int code = field_codes(&e4m3, divide(sizes[k], wanted_unit));
        const vec fields = float_of(shift_up(code, kv_minifloat_shift(&kv_e4m3)));
        const vec value = mul(fields, spread(kv_float_of_bits((254 - kv_e4m3.bias) << 23)));
        const vec step = mul(value, spread(shape->unit));
        const uint32_t no = lanes_above(spread(0x1p-60f), step) | lanes_above(step, spread(0x1p60f));
        store_some_counts(scales + k * LANES, some_lanes(groups, k), code);
        store(to->steps + k * LANES, step);
        store(to->inverses + k * LANES, divide(spread(1), step));
        unusual |= no & ((1u << some_lanes(groups, k)) - 1);
    }
    to->usual = !unusual;
}

/* The same of powers of two: an exponent field of 2 to 254, one more where the mantissa is above that
 * of 1.5. */
ALWAYS_INLINE void make_powers(const struct kv_fp4_shape *shape, const vec sizes[SCALE_VECS],
                               uint32_t groups, struct fp4_steps *to, uint8_t *scales)
{
    const uint32_t up = shape->scale == KV_FP4_CEIL ? 0x3fffff : 0;
    UNROLLED for (uint32_t k = 0; k < SCALE_VECS; k++)
    {
        const vec size = larger(smaller(sizes[k], spread(0x1.8p127f)), spread(0x1p-125f));
        const vec_int bits = plus(bits_of(size), spread_word(up));
        const vec_int code = minus(shift_down(bits, 23), spread_word(2));
        store_some_counts(scales + k * LANES, some_lanes(groups, k), code);
        store(to->steps + k * LANES, float_of(shift_up(minus(spread_word(254), code), 23)));
    }
    to->usual = 1;
}

/* Largest magnitudes of four groups of n values, 0 of those that are not there. */
ALWAYS_INLINE quad four_sizes(const float *x, size_t n, size_t width)
{
    vec sizes[4];
    UNROLLED for (uint32_t g = 0; g < 4; g++)
    {
        const size_t at = g * width, left = at < n ? n - at : 0;
        sizes[g] = group_sizes(left ? x + at : x, left < width ? left : width);
    }
    return largest_of_four(sizes);
}

ALWAYS_INLINE void find_sizes(const float *x, size_t n, size_t width, vec sizes[SCALE_VECS])
{
    quad found[GROUPS_AT_ONCE / 4];
    UNROLLED for (uint32_t k = 0; k < GROUPS_AT_ONCE / 4; k++)
    {
        const size_t at = 4 * k * width, left = at < n ? n - at : 0;
        if (left >= 4 * width) found[k] = four_sizes(x + at, 4 * width, width);
        else if (left) found[k] = four_sizes(x + at, left, width);
        else found[k] = quad_of(0, 0, 0, 0);
    }
    UNROLLED for (uint32_t k = 0; k < SCALE_VECS; k++) sizes[k] = join_quads(found + k * LANES / 4);
}

/* One group, which may have no step at all. */
static void KERNEL(code_group)(const struct kv_fp4_shape *shape, const float *x, size_t n,
                               float step, uint8_t *codes)
{
    const struct fields f = fields_make(&kv_e2m1);
    if (shape->scale != KV_FP4_E4M3)
        code_fields(&f, x, n, TIMES, step, 0, codes);
    else if (step > 0)
        code_fields(&f, x, n, OVER, step, 0, codes);
    else
        memset(codes, 0, n);
}

/* Groups of whole vectors, each vector with what its own group is scaled by. */
ALWAYS_INLINE void code_groups(const struct kv_fp4_shape *shape, const float *x, size_t n,
                               const struct fp4_steps *by_group, uint8_t *codes)
{
    const struct fields f = fields_make(&kv_e2m1);
    const enum scaling scaling = shape->scale == KV_FP4_E4M3 ? OVER : TIMES;
    for (size_t i = 0; i < n; i += FIELDS) {
        vec v[FIELD_VECS];
        UNROLLED for (uint32_t k = 0; k < FIELD_VECS; k++)
        {
            const size_t g = (i + k * LANES) / shape->width;
            const struct divisor by = {spread(by_group->steps[g]),
                                       scaling == OVER ? spread(by_group->inverses[g]) : zeros()};
            v[k] = scaled(load_some(x + i, n - i, k), scaling, by, 1);
        }
        write_step(&f, v, n - i, codes + i);
    }
}

/* Extremes of some groups first, then their scales side by side, then codes. */
ALWAYS_INLINE void encode_groups(const struct kv_fp4_shape *shape, const float *x, size_t n,
                                 uint8_t *scales, uint8_t *codes)
{
    const size_t width = shape->width, most = GROUPS_AT_ONCE * width;
    for (size_t i = 0; i < n; i += most) {
        const size_t many = n - i < most ? n - i : most;
        const uint32_t groups = (uint32_t)((many + width - 1) / width);
        struct fp4_steps some;
        vec sizes[SCALE_VECS];
        find_sizes(x + i, many, width, sizes);
        if (shape->scale == KV_FP4_E4M3) make_floats(shape, sizes, groups, &some, scales);
        else make_powers(shape, sizes, groups, &some, scales);
        scales += groups;
        if (width % LANES == 0 && some.usual) {
            code_groups(shape, x + i, many, &some, codes + i);
            continue;
        }
        for (size_t at = 0, g = 0; at < many; at += width, g++)
            KERNEL(code_group)(shape, x + i + at, many - at < width ? many - at : width,
                               some.steps[g], codes + i + at);
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
