/* Small things that codecs share: a stretch of packed codes, halves kept at any address. */
#ifndef KVBENCH_METHODS_PARTS_CODES_H
#define KVBENCH_METHODS_PARTS_CODES_H

#include <stdint.h>
#include <string.h>

#include "harness/base/half.h"
#include "methods/kernels/kernels.h"

/* Bytes of n packed codes. */
static inline uint32_t kv_packed_bytes(size_t n, uint32_t bits)
{
    return (uint32_t)((n * bits + 7) / 8);
}

/* Codes first .. first + n - 1 of a packed array. Eight codes fill whole bytes, so unpacking begins
 * at the eight before: buffer has room for n + 7 codes; returned is where code `first` lies in it.
 */
static inline const uint8_t *kv_unpack_some(const struct kv_kernels *kernels, const uint8_t *packed,
                                            size_t first, size_t n, uint32_t bits, uint8_t *buffer)
{
    const size_t before = first % 8;
    kernels->unpack_bits(packed + first / 8 * bits, n + before, bits, buffer);
    return buffer + before;
}

/* The largest magnitude of n > 0 values. */
static inline float kv_largest(const struct kv_kernels *kernels, const float *x, size_t n)
{
    float min, max;
    kernels->min_max(x, n, &min, &max);
    return max > -min ? max : 0.0f - min; /* and not -0 */
}

/* out[i] = x[i] / scale; by 1 it costs nothing. */
static inline void kv_divide(const float *restrict x, size_t n, float scale, float *restrict out)
{
    if (scale == 1.0f)
        memcpy(out, x, n * sizeof *out);
    else
        for (size_t i = 0; i < n; i++) out[i] = x[i] / scale;
}

/* A half that is kept and used must stay finite, or a later product makes NaN of it: what is beyond
 * the largest half becomes the largest half. */
static inline uint16_t kv_finite_half(float value)
{
    const float largest = 65504.0f;
    if (!(value <= largest)) value = largest;
    if (value < -largest) value = -largest;
    return kv_float_to_half(value);
}

/* Stores value as a half, wherever; returns the value that will be read back. */
static inline float kv_keep_half(uint8_t *at, float value)
{
    const uint16_t half = kv_finite_half(value);
    memcpy(at, &half, sizeof half);
    return kv_half_to_float(half);
}

static inline float kv_kept_half(const uint8_t *at)
{
    uint16_t half;
    memcpy(&half, at, sizeof half);
    return kv_half_to_float(half);
}

#endif
