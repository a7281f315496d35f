#include "methods/parts/minifloat.h"

#include <math.h>

#include "harness/base/half.h"

const struct kv_minifloat kv_e4m3 = {4, 3, 7, 448}, kv_e5m2 = {5, 2, 15, 57344},
                          kv_e2m1 = {2, 1, 1, 6};

/* Adding 1.5 * 2^23 units of the last place that stays leaves no bits below it; then the power of
 * two that takes the format's exponents to those of a float puts its fields where a float's are. */
void kv_minifloat_encode(const struct kv_minifloat *format, const float *x, size_t n,
                         uint8_t *restrict codes)
{
    const uint32_t shift = 23 - format->mantissa_bits;
    const uint32_t sign_shift = 31 - format->exponent_bits - format->mantissa_bits;
    const uint32_t sign_bit = 1u << (format->exponent_bits + format->mantissa_bits);
    const float lowest = kv_float_of_bits((128 - format->bias) << 23), largest = format->largest;
    const float magic = 1.5f * (float)(1u << shift), rebias = kv_float_of_bits(format->bias << 23);
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = kv_bits_of_float(x[i]);
        float size = kv_float_of_bits(bits & 0x7fffffff);
        size = size < largest ? size : largest;
        float power = kv_float_of_bits(kv_bits_of_float(size) & 0x7f800000);
        power = power > lowest ? power : lowest;
        const float rounded = (size + power * magic) - power * magic;
        codes[i] = (uint8_t)(kv_bits_of_float(rounded * rebias) >> shift |
                             (bits >> sign_shift & sign_bit));
    }
}

/* Fields where a float's are, times a power of two: exact, so that the product with the factor is
 * the only rounding, as of a table's value. */
void kv_minifloat_decode(const struct kv_minifloat *format, const uint8_t *restrict codes, size_t n,
                         float factor, float *restrict out)
{
    const uint32_t sign_bit = 1u << (format->exponent_bits + format->mantissa_bits);
    const uint32_t shift = 23 - format->mantissa_bits;
    const uint32_t sign_shift = 31 - format->exponent_bits - format->mantissa_bits;
    const float rebias = kv_float_of_bits((254 - format->bias) << 23);
    for (size_t i = 0; i < n; i++) {
        const uint32_t size = (codes[i] & (sign_bit - 1)) << shift, sign = (codes[i] & sign_bit)
                                                                           << sign_shift;
        out[i] = kv_float_of_bits(size | sign) * rebias * factor;
    }
}

float kv_minifloat_value(const struct kv_minifloat *format, uint8_t code)
{
    const uint32_t fields = (1u << (format->exponent_bits + format->mantissa_bits)) - 1;
    const uint32_t exponent = (code & fields) >> format->mantissa_bits;
    const float mantissa = (float)(code & ((1u << format->mantissa_bits) - 1));
    const float whole = exponent ? (float)(1u << format->mantissa_bits) : 0.0f;
    const int power =
        (int)(exponent ? exponent : 1) - (int)format->bias - (int)format->mantissa_bits;
    const float size = ldexpf(whole + mantissa, power);
    return code > fields ? -size : size;
}

void kv_minifloat_table(const struct kv_minifloat *format, float *table)
{
    const uint32_t n = 2u << (format->exponent_bits + format->mantissa_bits);
    for (uint32_t code = 0; code < n; code++)
        table[code] = kv_minifloat_value(format, (uint8_t)code);
}

int kv_scales_create(struct kv_scales *scales, const struct kv_setup *setup, enum kv_scale of,
                     struct kv_error *err)
{
    scales->n = of == KV_SCALE_HEAD ? kv_lanes_in_row(setup) : 1;
    scales->width = setup->dim / scales->n;
    scales->pool = setup->pool;
    scales->of = kv_pool_reserve(setup->pool, KV_WORKSPACE, scales->n * sizeof(float));
    if (!scales->of) return kv_fail(err, KV_EMEMORY, "no memory for %u scales", scales->n);
    for (uint32_t i = 0; i < scales->n; i++) scales->of[i] = 1;
    return KV_OK;
}

void kv_scales_fit(struct kv_scales *scales, const struct kv_sample *sample, float largest)
{
    const uint32_t dim = scales->n * scales->width;
    for (uint32_t s = 0; s < scales->n; s++) {
        float size = 0;
        for (uint32_t i = 0; i < sample->n; i++) {
            const float *row = sample->rows + (size_t)i * dim + (size_t)s * scales->width;
            for (uint32_t c = 0; c < scales->width; c++)
                size = fabsf(row[c]) > size ? fabsf(row[c]) : size;
        }
        scales->of[s] = size / largest > 0 ? size / largest : 1.0f;
    }
    kv_pool_charge(scales->pool, KV_BASIS_ONLINE, 4 * (int64_t)scales->n);
}
