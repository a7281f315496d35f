/* binary16 and bfloat16 to and from float: scalar, table-free, exact; narrowing rounds to nearest
 * even, overflows to infinity, keeps subnormals and NaN (IEEE 754-2019 section 4.3.1). Inline,
 * since codecs convert a scale or two for every few values. */
#ifndef KVBENCH_BASE_HALF_H
#define KVBENCH_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float kv_float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t kv_bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float kv_half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, magnitude = half & 0x7fffu;
    /* Subnormal: mantissa units of 2^-24, exact in float. Masks and not branches: lanes can do that. */
    const uint32_t subnormal = kv_bits_of_float((float)(int32_t)magnitude * 0x1p-24f);
    const uint32_t is_small = 0u - (magnitude < 0x400u), is_special = 0u - (magnitude >= 0x7c00u);
    const uint32_t finite = (subnormal & is_small) | (((magnitude << 13) + (112u << 23)) & ~is_small);
    return kv_float_of_bits(sign | finite | (is_special & 0x7f800000u));
}

static inline uint16_t kv_float_to_half(float value)
{
    const uint32_t bits = kv_bits_of_float(value), magnitude = bits & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and above */
    if (magnitude < 0x38800000u) {
        /* Below 2^-14: adding 2^-1 aligns the sum's last place with 2^-24, so that the float
         * addition itself rounds to nearest even. */
        const float aligned = kv_float_of_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (kv_bits_of_float(aligned) - 0x3f000000u));
    }
    const uint32_t odd = magnitude >> 13 & 1u;
    return (uint16_t)(sign | ((magnitude + 0xfffu + odd - 0x38000000u) >> 13));
}

static inline float kv_bfloat_to_float(uint16_t bfloat)
{
    return kv_float_of_bits((uint32_t)bfloat << 16);
}

static inline uint16_t kv_float_to_bfloat(float value)
{
    const uint32_t bits = kv_bits_of_float(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
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
