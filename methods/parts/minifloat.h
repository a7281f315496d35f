/* Floats of at most 8 bits: E4M3 (fn), E5M2, E2M1, and the scales that go with them.
 *
 * Nearest even, saturated at the largest finite number, subnormal numbers kept, the sign kept with
 * zero; a NaN becomes the largest. OCP 8-bit floating point and microscaling formats. */
#ifndef KVBENCH_METHODS_PARTS_MINIFLOAT_H
#define KVBENCH_METHODS_PARTS_MINIFLOAT_H

#include "methods/codec.h"

struct kv_minifloat {
    uint32_t exponent_bits, mantissa_bits, bias;
    float largest;
};

extern const struct kv_minifloat kv_e4m3, kv_e5m2, kv_e2m1;

/* x [n] -> codes [n], the sign above exponent and mantissa. */
void kv_minifloat_encode(const struct kv_minifloat *format, const float *x, size_t n,
                         uint8_t *restrict codes);
/* out[i] = value of codes[i], rounded product with factor: kv_minifloat_table's values and lookup's
 * product. */
void kv_minifloat_decode(const struct kv_minifloat *format, const uint8_t *restrict codes, size_t n,
                         float factor, float *restrict out);
float kv_minifloat_value(const struct kv_minifloat *format, uint8_t code);

/* 2^(1 + exponent_bits + mantissa_bits) values by code; NaN and infinite codes as the numbers that
 * their bits would be (encode never makes them). */
void kv_minifloat_table(const struct kv_minifloat *format, float *table);

/* Scales in f32 fitted on the prompt: one for all columns, or one for each of the object's heads.
 */
struct kv_scales {
    uint32_t n, width; /* scales; columns that share one */
    float *of;         /* [n]; 1 before the fit */
    struct kv_pool *pool;
};

enum kv_scale { KV_SCALE_NONE, KV_SCALE_TENSOR, KV_SCALE_HEAD, KV_SCALE_TOKEN };

int kv_scales_create(struct kv_scales *scales, const struct kv_setup *setup, enum kv_scale of,
                     struct kv_error *err);

/* scale = max |x| over the prompt / largest, 1 where that is 0; 4 bytes each, basis_online. */
void kv_scales_fit(struct kv_scales *scales, const struct kv_sample *sample, float largest);

#endif
