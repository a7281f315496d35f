/* llama.cpp's blocks for the SIMD sets. Four blocks at a time: their extremes, then d, m
 * and 1 / d side by side in four lanes and without a branch (which sign the largest value has,
 * nobody can foresee), then codes. */
#ifndef KVBENCH_METHODS_KERNELS_BLOCKS_SIMD_H
#define KVBENCH_METHODS_KERNELS_BLOCKS_SIMD_H

#include <float.h>
#include <stdbool.h>

#include "harness/base/half.h"
#include "methods/kernels/block_tables.h"

enum { BLOCK_VECS = KV_BLOCK / LANES, FOUR = 4 };

/* Of four blocks. */
struct four_blocks {
    float m[FOUR], inverse[FOUR], size[FOUR]; /* size: the largest magnitude, signed (no minimum) */
    uint16_t halves[2][FOUR];                 /* d, m */
};

/* v where it is finite, else 0. */
ALWAYS_INLINE quad quad_finite(quad v)
{
    return quad_unless_above(v, quad_magnitude(v), FLT_MAX);
}

static float KERNEL(first_extreme)(const float *x)
{
    float found = 0;
    for (int i = 0; i < KV_BLOCK; i++) found = fabsf(x[i]) > fabsf(found) ? x[i] : found;
    return found;
}

static float KERNEL(first_zero)(const float *x)
{
    int i = 0;
    while (i < KV_BLOCK - 1 && x[i] != 0) i++;
    return x[i];
}

/* d of blocks without a minimum. */
ALWAYS_INLINE quad sized_d(enum kv_block_format format, const float *const x[FOUR], quad low,
                           quad high, struct four_blocks *four)
{
    const quad below = quad_mul(low, quad_of(-1, -1, -1, -1));
    if (format == KV_BLOCK_Q8_0) /* of either sign */
        return quad_divide(quad_select_above(below, high, below, high), quad_of(127, 127, 127, 127));
    quad v = quad_select_above(high, below, high, low);
    if (quad_any_equal(high, below)) { /* both signs have it, or all are 0 */
        quad_store(four->size, v);
        for (int b = 0; b < FOUR; b++) four->size[b] = KERNEL(first_extreme)(x[b]);
        v = quad_load(four->size);
    }
    quad_store(four->size, v);
    if (format == KV_BLOCK_IQ4_NL) return quad_divide(v, quad_of(-127, -127, -127, -127));
    const float part = format == KV_BLOCK_Q4_0 ? -0.125f : -0.0625f;
    return quad_mul(v, quad_of(part, part, part, part));
}

/* Of ranges that are no floats: apart, since one that is chosen without a branch waits for divisions
 * that nobody needs. */
static quad KERNEL(wide_d)(quad d, quad low, quad high, float top)
{
    float parts[3][FOUR];
    quad_store(parts[0], d);
    quad_store(parts[1], high);
    quad_store(parts[2], low);
    for (int b = 0; b < FOUR; b++)
        if (fabsf(parts[0][b]) > FLT_MAX) parts[0][b] = parts[1][b] / top - parts[2][b] / top;
    return quad_load(parts[0]);
}

/* d of blocks with one. */
ALWAYS_INLINE quad ranged_d(enum kv_block_format format, const float *const x[FOUR], quad low,
                            quad high, struct four_blocks *four)
{
    const float top = format == KV_BLOCK_Q4_1 ? 15 : 31;
    const quad tops = quad_of(top, top, top, top);
    quad d = quad_divide(quad_sub(high, low), tops);
    if (quad_any_equal(quad_finite(d), quad_of(0, 0, 0, 0))) d = KERNEL(wide_d)(d, low, high, top);
    quad_store(four->m, low);
    for (int b = 0; quad_any_equal(low, quad_of(0, 0, 0, 0)) && b < FOUR; b++)
        if (four->m[b] == 0) four->m[b] = KERNEL(first_zero)(x[b]);
    quad_keep_halves(four->halves[1], quad_clamp(quad_load(four->m), 65504.0f));
    return d;
}

/* The first `many` of four blocks; the others are like the first. */
ALWAYS_INLINE void measure_blocks(enum kv_block_format format, const float *x, uint32_t many,
                                  struct four_blocks *four)
{
    vec low[FOUR], high[FOUR];
    quad lows, highs;
    const float *block[FOUR];
    UNROLLED for (uint32_t b = 0; b < FOUR; b++)
    {
        block[b] = b < many ? x + b * KV_BLOCK : x;
        low[b] = high[b] = load(block[b]);
        UNROLLED for (uint32_t i = LANES; i < KV_BLOCK; i += LANES)
        {
            low[b] = smaller(low[b], load(block[b] + i));
            high[b] = larger(high[b], load(block[b] + i));
        }
    }
    extremes_of_four(low, high, &lows, &highs);
    const bool ranged = format == KV_BLOCK_Q4_1 || format == KV_BLOCK_Q5_1;
    const quad d = ranged ? ranged_d(format, block, lows, highs, four)
                          : sized_d(format, block, lows, highs, four);
    quad_store(four->inverse, quad_finite(quad_divide(quad_of(1, 1, 1, 1), d)));
    if (format != KV_BLOCK_IQ4_NL) quad_keep_halves(four->halves[0], quad_clamp(d, 65504.0f));
}

/* Codes of one block from its values and numbers. */
ALWAYS_INLINE void block_codes(enum kv_block_format format, const float *x, float m, float inverse,
                               uint8_t *codes)
{
    vec v[BLOCK_VECS];
    const bool ranged = format == KV_BLOCK_Q4_1 || format == KV_BLOCK_Q5_1;
    const float top = format == KV_BLOCK_Q8_0 ? 127 : kv_block_shape(format).bits == 4 ? 15 : 31;
    UNROLLED for (uint32_t k = 0; k < BLOCK_VECS; k++)
    {
        vec t = load(x + k * LANES);
        if (ranged) t = sub(t, spread(m));
        t = mul(t, spread(inverse));
        if (format == KV_BLOCK_Q8_0) {
            /* Cut off, this is roundf: the number before a half, added, reaches the next integer
             * from halves on and from nothing less. */
            t = smaller(t, spread(top));
            v[k] = add(t, with_sign(spread(0x1.fffffep-2f), t));
        } else {
            v[k] = smaller(add(t, spread(kv_block_shift(format))), spread(top));
        }
    }
    truncate_bytes(codes, v);
}

/* Sums of iq4_nl's fit, column after column: those of four blocks run beside each other. */
struct fit_terms {
    float over[FOUR][KV_BLOCK], under[FOUR][KV_BLOCK];
};

/* Whether a block can be fitted: see the codec. */
ALWAYS_INLINE bool is_usable(float size)
{
    return fabsf(size) >= 1e-15f && fabsf(size) <= FLT_MAX;
}

/* Codes of a block, packed, and its terms. */
ALWAYS_INLINE void fit_codes(const float *x, float size, float inverse, uint8_t *packed,
                             float *over, float *under)
{
    uint8_t codes[KV_BLOCK];
    vec v[BLOCK_VECS];
    const struct block_levels levels = block_levels_of(kv_levels_iq4_nl);
    if (is_usable(size))
        CELL_CODES(&kv_cells_iq4_nl, x, KV_BLOCK, inverse, codes);
    else
        memset(codes, 8, sizeof codes);
    pack_nibbles(codes, packed);
    read_fours(packed, &levels, v);
    UNROLLED for (uint32_t k = 0; k < BLOCK_VECS; k++)
    {
        const vec value = load_block(x, k), part = mul(mul(value, value), v[k]);
        store_block(over, k, mul(part, value));
        store_block(under, k, mul(part, v[k]));
    }
}

static void KERNEL(keep_fits)(const struct fit_terms *terms, const float *sizes, uint32_t many,
                              uint8_t *at, uint32_t stride)
{
    float top[FOUR], bottom[FOUR], d[FOUR];
    uint16_t halves[FOUR];
    quad tops = quad_of(0, 0, 0, 0), bottoms = tops;
    for (int i = 0; i < KV_BLOCK; i += FOUR) {
        quad over[FOUR], under[FOUR];
        UNROLLED for (uint32_t b = 0; b < FOUR; b++)
        {
            over[b] = quad_load(terms->over[b] + i);
            under[b] = quad_load(terms->under[b] + i);
        }
        quad_transpose(over);
        quad_transpose(under);
        UNROLLED for (uint32_t k = 0; k < FOUR; k++)
        {
            tops = quad_add(tops, over[k]);
            bottoms = quad_add(bottoms, under[k]);
        }
    }
    quad_store(top, tops);
    quad_store(bottom, bottoms);
    for (uint32_t b = 0; b < FOUR; b++) {
        const float ratio = top[b] / bottom[b];
        d[b] = is_usable(sizes[b]) && bottom[b] > 0 && ratio == ratio ? ratio : 0.0f;
    }
    quad_keep_halves(halves, quad_clamp(quad_load(d), 65504.0f));
    for (uint32_t b = 0; b < many; b++) memcpy(at + b * stride, &halves[b], 2);
}

ALWAYS_INLINE void encode_fitted(const float *x, uint32_t many, const struct four_blocks *four,
                                 uint8_t *at, uint32_t stride)
{
    struct fit_terms terms;
    if (many < FOUR) memset(&terms, 0, sizeof terms); /* those of blocks that are not there */
    for (uint32_t b = 0; b < many; b++)
        fit_codes(x + b * KV_BLOCK, four->size[b], four->inverse[b], at + b * stride + 2,
                  terms.over[b], terms.under[b]);
    KERNEL(keep_fits)(&terms, four->size, many, at, stride);
}

ALWAYS_INLINE void encode_format(enum kv_block_format format, const float *x, size_t n, uint8_t *at)
{
    const struct kv_block_shape shape = kv_block_shape(format);
    while (n) {
        struct four_blocks four;
        const uint32_t many = n < FOUR ? (uint32_t)n : FOUR;
        measure_blocks(format, x, many, &four);
        if (format == KV_BLOCK_IQ4_NL) encode_fitted(x, many, &four, at, shape.bytes);
        for (uint32_t b = 0; format != KV_BLOCK_IQ4_NL && b < many; b++) {
            uint8_t codes[KV_BLOCK], *block = at + b * shape.bytes;
            uint8_t *packed = block + (shape.minimum ? 4 : 2);
            memcpy(block, &four.halves[0][b], 2);
            if (shape.minimum) memcpy(block + 2, &four.halves[1][b], 2);
            block_codes(format, x + b * KV_BLOCK, shape.minimum ? four.m[b] : 0, four.inverse[b],
                        shape.bits == 8 ? packed : codes);
            if (shape.bits == 5) pack_fifths(codes, packed);
            if (shape.bits != 8) pack_nibbles(codes, packed + (shape.bits == 5 ? 4 : 0));
        }
        x += many * KV_BLOCK, at += many * shape.bytes;
        n -= many;
    }
}

static void KERNEL(encode_blocks)(enum kv_block_format format, const float *x, size_t n,
                                  uint8_t *blocks)
{
    switch (format) {
    case KV_BLOCK_Q4_0:
        encode_format(KV_BLOCK_Q4_0, x, n, blocks);
        break;
    case KV_BLOCK_Q4_1:
        encode_format(KV_BLOCK_Q4_1, x, n, blocks);
        break;
    case KV_BLOCK_Q5_0:
        encode_format(KV_BLOCK_Q5_0, x, n, blocks);
        break;
    case KV_BLOCK_Q5_1:
        encode_format(KV_BLOCK_Q5_1, x, n, blocks);
        break;
    case KV_BLOCK_Q8_0:
        encode_format(KV_BLOCK_Q8_0, x, n, blocks);
        break;
    default:
        encode_format(KV_BLOCK_IQ4_NL, x, n, blocks);
        break;
    }
}

/* -- and back --------------------------------------------------------------------------------- */

/* Every product is exact, of codes that are integers and d with 11 bits, but not its sum with m. */
ALWAYS_INLINE void decode_format(enum kv_block_format format, const uint8_t *at, size_t n,
                                 float *out)
{
    const struct kv_block_shape shape = kv_block_shape(format);
    const bool adds = format != KV_BLOCK_Q8_0 && format != KV_BLOCK_IQ4_NL;
    const struct block_levels levels =
        block_levels_of(format == KV_BLOCK_Q4_0     ? kv_levels_q4_0
                        : format == KV_BLOCK_IQ4_NL ? kv_levels_iq4_nl
                                                    : kv_levels_q4_1);
    for (; n; n--, at += shape.bytes, out += KV_BLOCK) {
        const vec d = spread(kv_kept_half(at)), m = shape.minimum ? spread(kv_kept_half(at + 2)) : zeros();
        const uint8_t *codes = at + (shape.minimum ? 4 : 2);
        vec v[BLOCK_VECS];
        if (shape.bits == 8) read_signed(codes, v);
        if (shape.bits == 5) read_fives(codes, format == KV_BLOCK_Q5_0 ? 16 : 0, v);
        if (shape.bits == 4) read_fours(codes, &levels, v);
        UNROLLED for (uint32_t k = 0; k < BLOCK_VECS; k++)
        {
            v[k] = mul(v[k], d);
            if (adds) v[k] = add(v[k], m);
            if (shape.bits == 8)
                store(out + k * LANES, v[k]);
            else
                store_block(out, k, v[k]);
        }
    }
}

static void KERNEL(decode_blocks)(enum kv_block_format format, const uint8_t *blocks, size_t n,
                                  float *out)
{
    switch (format) {
    case KV_BLOCK_Q4_0:
        decode_format(KV_BLOCK_Q4_0, blocks, n, out);
        break;
    case KV_BLOCK_Q4_1:
        decode_format(KV_BLOCK_Q4_1, blocks, n, out);
        break;
    case KV_BLOCK_Q5_0:
        decode_format(KV_BLOCK_Q5_0, blocks, n, out);
        break;
    case KV_BLOCK_Q5_1:
        decode_format(KV_BLOCK_Q5_1, blocks, n, out);
        break;
    case KV_BLOCK_Q8_0:
        decode_format(KV_BLOCK_Q8_0, blocks, n, out);
        break;
    default:
        decode_format(KV_BLOCK_IQ4_NL, blocks, n, out);
        break;
    }
}

#endif
