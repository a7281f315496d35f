/* The definition of llama.cpp's blocks; the second half of generic.c. */
#ifndef KVBENCH_METHODS_KERNELS_GENERIC_BLOCKS_H
#define KVBENCH_METHODS_KERNELS_GENERIC_BLOCKS_H

#include <float.h>
#include <math.h>
#include <string.h>

#include "harness/base/half.h"
#include "methods/kernels/block_tables.h"

/* 1 / d, or 0 where that is no number. */
static float block_inverse(float d)
{
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    return isfinite(inverse) ? inverse : 0.0f;
}

/* The signed value of largest magnitude, the first where both signs have it. */
static float block_extreme(const float *x)
{
    float found = 0;
    for (int i = 0; i < KV_BLOCK; i++)
        if (fabsf(x[i]) > fabsf(found)) found = x[i];
    return found;
}

/* Smallest and largest; of zeros the first one. */
static void block_range(const float *x, float *low, float *high)
{
    *low = *high = x[0];
    for (int i = 1; i < KV_BLOCK; i++) {
        if (x[i] < *low) *low = x[i];
        if (x[i] > *high) *high = x[i];
    }
    *high += 0.0f;
}

/* code = (x - m) / d + shift, cut off */
static void truncate_block(enum kv_block_format format, const float *x, float m, float d,
                           uint8_t *codes)
{
    const float inverse = block_inverse(d), shift = kv_block_shift(format);
    const float top = (float)((1u << kv_block_shape(format).bits) - 1);
    for (int i = 0; i < KV_BLOCK; i++) {
        const float code = (x[i] - m) * inverse + shift;
        codes[i] = (uint8_t)(int)(code < top ? code : top);
    }
}

/* roundf for |x| < 2^23 without a call: what is cut off is exact. */
static int half_away(float x)
{
    const int whole = (int)x;
    const float rest = x - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

static void round_block(const float *x, float d, uint8_t *codes)
{
    const float inverse = block_inverse(d);
    for (int i = 0; i < KV_BLOCK; i++) {
        const float code = x[i] * inverse;
        codes[i] = (uint8_t)half_away(code < 127.0f ? code : 127.0f);
    }
}

/* Codes of iq4_nl and the d that fits them best. */
static float fit_block(const float *x, uint8_t *codes)
{
    const float v = block_extreme(x), inverse = block_inverse(v / kv_levels_iq4_nl[0]);
    const int usable = fabsf(v) >= 1e-15f && fabsf(v) <= FLT_MAX;
    float top = 0, bottom = 0;
    for (int i = 0; i < KV_BLOCK; i++) {
        const float scaled = usable ? x[i] * inverse : 1.0f, weight = x[i] * x[i];
        codes[i] = 0;
        for (int t = 0; t < 15; t++)
            codes[i] = (uint8_t)(codes[i] + (kv_thresholds_iq4_nl[t] < scaled));
        const float level = kv_levels_iq4_nl[codes[i]];
        top += weight * level * x[i];
        bottom += weight * level * level;
    }
    return usable && bottom > 0 && top / bottom == top / bottom ? top / bottom : 0.0f;
}

/* d, m and codes of a block. */
static void quantize_block(enum kv_block_format format, const float *x, float *d, float *m,
                           uint8_t *codes)
{
    const struct kv_block_shape shape = kv_block_shape(format);
    const float top = (float)((1u << shape.bits) - 1);
    float high;
    *m = 0;
    if (format == KV_BLOCK_IQ4_NL) {
        *d = fit_block(x, codes);
        return;
    }
    if (format == KV_BLOCK_Q8_0) {
        *d = fabsf(block_extreme(x)) / 127.0f;
        round_block(x, *d, codes);
        return;
    }
    if (shape.minimum) {
        block_range(x, m, &high);
        *d = (high - *m) / top;
        if (!isfinite(*d)) *d = high / top - *m / top;
    } else {
        *d = block_extreme(x) / (shape.bits == 4 ? -8.0f : -16.0f);
    }
    truncate_block(format, x, *m, *d, codes);
}

/* Where ggml has the bits: fifth bits in a word, then nibbles. */
static void write_codes(uint32_t bits, const uint8_t *codes, uint8_t *at)
{
    if (bits == 8) {
        memcpy(at, codes, KV_BLOCK);
        return;
    }
    for (int byte = 0; bits == 5 && byte < 4; byte++, at++) {
        *at = 0;
        for (int j = 0; j < 8; j++) *at |= (uint8_t)(codes[8 * byte + j] >> 4 << j);
    }
    for (int j = 0; j < KV_BLOCK / 2; j++)
        at[j] = (uint8_t)((codes[j] & 15) | codes[j + KV_BLOCK / 2] << 4);
}

static void encode_blocks_generic(enum kv_block_format format, const float *x, size_t n,
                                  uint8_t *blocks)
{
    const struct kv_block_shape shape = kv_block_shape(format);
    for (; n; n--, x += KV_BLOCK, blocks += shape.bytes) {
        uint8_t codes[KV_BLOCK];
        float d, m;
        quantize_block(format, x, &d, &m, codes);
        kv_keep_half(blocks, d);
        if (shape.minimum) kv_keep_half(blocks + 2, m);
        write_codes(shape.bits, codes, blocks + (shape.minimum ? 4 : 2));
    }
}

/* What is multiplied by d, of value j of a block whose codes lie at `at`. */
static float block_level(enum kv_block_format format, const uint8_t *at, int j)
{
    const int bits = kv_block_shape(format).bits, shift = j < KV_BLOCK / 2 ? 0 : 4;
    const uint8_t *nibbles = bits == 5 ? at + 4 : at;
    if (bits == 8) return (float)(int8_t)at[j];
    const int code = nibbles[j % (KV_BLOCK / 2)] >> shift & 15;
    const int fifth = bits == 5 ? (at[j / 8] >> j % 8 & 1) << 4 : 0;
    switch (format) {
    case KV_BLOCK_IQ4_NL:
        return kv_levels_iq4_nl[code];
    case KV_BLOCK_Q4_0:
        return (float)(code - 8);
    case KV_BLOCK_Q5_0:
        return (float)((code | fifth) - 16);
    default:
        return (float)(code | fifth);
    }
}

/* level * d + m; where a format has no minimum that of integers is +0, so that no zero is -0. */
static void decode_blocks_generic(enum kv_block_format format, const uint8_t *blocks, size_t n,
                                  float *out)
{
    const struct kv_block_shape shape = kv_block_shape(format);
    const int adds = format != KV_BLOCK_Q8_0 && format != KV_BLOCK_IQ4_NL;
    for (; n; n--, blocks += shape.bytes) {
        const float d = kv_kept_half(blocks),
                    m = shape.minimum ? kv_kept_half(blocks + 2) : 0;
        const uint8_t *codes = blocks + (shape.minimum ? 4 : 2);
        for (int j = 0; j < KV_BLOCK; j++) {
            const float product = block_level(format, codes, j) * d;
            *out++ = adds ? product + m : product;
        }
    }
}

#endif
