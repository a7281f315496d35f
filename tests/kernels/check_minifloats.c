/* Checks of floats of at most 8 bits, one by one and in groups with a scale. */
#include <math.h>
#include <string.h>

#include "methods/kernels/minifloat_bits.h"
#include "tests/kernels/elementwise.h"

static const struct kv_minifloat *const formats[] = {&kv_e4m3, &kv_e5m2, &kv_e2m1};
enum { FORMATS = sizeof formats / sizeof *formats };

static void call_encode(const struct kv_kernels *set, const void *in, void *out, size_t n,
                        uint32_t variant, float *results)
{
    set->minifloat_encode(formats[variant], in, n, variant == 1 ? 1.0f : 0.37f, out);
}

/* The largest code without a sign. */
static uint8_t last_code(const struct kv_minifloat *format)
{
    return kv_minifloat_code(format, format->largest);
}

/* Every number of a format and the middle to the next, the floats beside them, and both signs. */
static const char *near_numbers(const struct kv_kernels *generic, const struct kv_kernels *set,
                                const struct kv_minifloat *format)
{
    for (uint8_t code = 0; code < last_code(format); code++) {
        const float low = kv_minifloat_of(format, code);
        const float high = kv_minifloat_of(format, (uint8_t)(code + 1)), middle = (low + high) / 2;
        const float ends[4] = {low, middle, high, 2 * high};
        float x[32];
        uint8_t ours[32], theirs[32];
        for (int i = 0; i < 32; i++) {
            const float end = ends[i / 8], way = i % 4 == 1 ? -1.0f : INFINITY;
            x[i] = i % 4 == 3 ? end : i % 4 ? nextafterf(end, way) : end * 1.0625f;
            if (i % 8 > 3) x[i] = -x[i];
        }
        set->minifloat_encode(format, x, 32, 1, ours);
        generic->minifloat_encode(format, x, 32, 1, theirs);
        for (int i = 0; i < 32; i++)
            if (ours[i] != theirs[i])
                return complain("code of %.9g: %u, generic %u", (double)x[i], ours[i], theirs[i]);
    }
    return NULL;
}

/* A float of any mantissa, and of an exponent that few of one sign have. */
static float some_divisor(uint32_t i)
{
    return ldexpf(1.0f + (float)(i * 2654435761u >> 9) * 0x1p-23f, (int)(i % 130) - 65);
}

/* Quotients beside every number and every middle, as near as floats come to them. */
static const char *near_quotients(const struct kv_kernels *generic, const struct kv_kernels *set,
                                  const struct kv_minifloat *format)
{
    for (uint32_t i = 0; i < 128u * (uint32_t)(last_code(format) + 1); i++) {
        const float divisor = some_divisor(i), low = kv_minifloat_of(format, (uint8_t)(i / 128));
        const float high = kv_minifloat_of(format, (uint8_t)(i / 128 + 1));
        const float x = divisor * (i % 2 ? low : (low + high) / 2);
        float near[16];
        uint8_t ours[16], theirs[16];
        for (int k = 0; k < 16; k++)
            near[k] = (k % 2 ? -1.0f : 1.0f) *
                      kv_float_of_bits(kv_bits_of_float(x) + (uint32_t)(x > 0 ? k / 2 - 4 : k));
        set->minifloat_encode(format, near, 16, divisor, ours);
        generic->minifloat_encode(format, near, 16, divisor, theirs);
        for (int k = 0; k < 16; k++)
            if (ours[k] != theirs[k])
                return complain("code of %.9g / %.9g: %u, generic %u", (double)near[k],
                                (double)divisor, ours[k], theirs[k]);
    }
    return NULL;
}

/* By the definition: no number of the format is nearer, and of two equally near ones the even. */
static const char *nearest_numbers(const struct kv_kernels *set, const struct kv_minifloat *format)
{
    const uint8_t last = last_code(format);
    for (uint32_t high = 0; high < 0x7f80; high += 3) {
        const float x = kv_float_of_bits(high << 16 | (high * 2654435761u >> 20 << 4));
        uint8_t code;
        set->minifloat_encode(format, &x, 1, 1, &code);
        const double value = (double)kv_minifloat_of(format, code);
        const double off = fabs((double)x - value);
        if (x >= format->largest ? code != last : code > last)
            return complain("code of %.9g is %u", (double)x, code);
        if (x >= format->largest) continue;
        for (int step = -1; step <= 1; step += 2) {
            if (step < 0 ? code == 0 : code == last) continue;
            const double beside = (double)kv_minifloat_of(format, (uint8_t)(code + step));
            const double other = fabs((double)x - beside);
            if (other < off || (other == off && code % 2))
                return complain("code of %.9g is %u, beside a nearer one", (double)x, code);
        }
    }
    return NULL;
}

const char *check_minifloat_encode(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {
        .in_size = 4, .out_size = 1, .kinds = ALL_KINDS, .variants = FORMATS, .call = call_encode};
    const char *why = NULL;
    for (int f = 0; f < FORMATS && !why; f++) {
        why = near_numbers(generic, set, formats[f]);
        if (!why) why = nearest_numbers(set, formats[f]);
        if (!why) why = near_quotients(generic, set, formats[f]);
    }
    return why ? why : check_elements(generic, set, &adapter);
}

/* Codes that encode makes. */
static void call_decode(const struct kv_kernels *set, const void *in, void *out, size_t n,
                        uint32_t variant, float *results)
{
    const struct kv_minifloat *format = formats[variant];
    const uint8_t last = last_code(format), *bytes = in;
    struct guarded codes = guarded_make(n, n % 3);
    const uint32_t sign_bit = 1u << (format->exponent_bits + format->mantissa_bits);
    for (size_t i = 0; i < n; i++)
        codes.data[i] = (uint8_t)(bytes[i] / 2 % (last + 1) | (bytes[i] & 1 ? sign_bit : 0));
    set->minifloat_decode(format, codes.data, n, 0.37f, out);
    results[0] = (float)guarded_intact(&codes);
    guarded_free(&codes);
}

const char *check_minifloat_decode(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {
        .in_size = 1, .out_size = 4, .variants = FORMATS, .below = 256, .call = call_decode};
    return check_elements(generic, set, &adapter);
}

/* -- groups ------------------------------------------------------------------------------------ */

static const struct kv_fp4_shape shapes[] = {{KV_FP4_E4M3, 16, 0.001f},
                                             {KV_FP4_E4M3, 7, 1e-30f},
                                             {KV_FP4_FLOOR, 32, 0},
                                             {KV_FP4_CEIL, 16, 0},
                                             {KV_FP4_FLOOR, 5, 0}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void call_fp4_encode(const struct kv_kernels *set, const void *in, void *out, size_t n,
                            uint32_t variant, float *results)
{
    const struct kv_fp4_shape *shape = &shapes[variant];
    const size_t groups = (n + shape->width - 1) / shape->width;
    struct guarded scales = guarded_make(groups, n % 2);
    set->fp4_encode(shape, in, n, scales.data, out);
    results[0] = digest(scales.data, groups);
    results[1] = (float)guarded_intact(&scales);
    guarded_free(&scales);
}

/* Multiples of a quarter of a step, with 6 or more of them in each group: middles of all numbers.
 */
static const char *fp4_ties(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    float x[256];
    uint8_t ours[256], theirs[256], scales[2][64];
    for (int i = 0; i < 256; i++) x[i] = (float)(i % 29 - 14) * 0.25f;
    for (int i = 0; i < 256; i += 5) x[i] = i % 2 ? 6 : -6;
    for (int s = 0; s < SHAPES; s++) {
        const size_t groups = (256 + shapes[s].width - 1) / shapes[s].width;
        set->fp4_encode(&shapes[s], x, 256, scales[0], ours);
        generic->fp4_encode(&shapes[s], x, 256, scales[1], theirs);
        if (memcmp(ours, theirs, sizeof ours) || memcmp(scales[0], scales[1], groups))
            return complain("codes of middles differ (shape %d)", s);
    }
    return NULL;
}

/* The same beside middles of steps of any mantissa. */
static const char *near_middles(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    for (uint32_t i = 0; i < 4096; i++) {
        const struct kv_fp4_shape shape = {KV_FP4_E4M3, 16, some_divisor(i)};
        const uint8_t scale = (uint8_t)(1 + i % 126);
        const float step = kv_minifloat_of(&kv_e4m3, scale) * shape.unit;
        float x[16];
        uint8_t ours[16], theirs[16], scales[2];
        for (int k = 0; k < 16; k++) {
            static const float middles[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5};
            const float middle = middles[(i / 5 + (uint32_t)k / 5) % 7] * step;
            x[k] = kv_float_of_bits(kv_bits_of_float(middle) + (uint32_t)(k % 5 - 2));
        }
        x[i % 16] = -6 * step;
        set->fp4_encode(&shape, x, 16, &scales[0], ours);
        generic->fp4_encode(&shape, x, 16, &scales[1], theirs);
        if (memcmp(ours, theirs, sizeof ours) || scales[0] != scales[1])
            return complain("codes beside middles differ (step %.9g)", (double)step);
    }
    return NULL;
}

const char *check_fp4_encode(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4,
                                    .out_size = 1,
                                    .kinds = ALL_KINDS,
                                    .variants = SHAPES,
                                    .call = call_fp4_encode};
    const char *why = fp4_ties(generic, set);
    if (!why) why = near_middles(generic, set);
    return why ? why : check_elements(generic, set, &adapter);
}

/* From some column on; scales up to the largest that encode makes. */
static void call_fp4_decode(const struct kv_kernels *set, const void *in, void *out, size_t n,
                            uint32_t variant, float *results)
{
    const struct kv_fp4_shape *shape = &shapes[variant];
    const uint8_t *bytes = in;
    const size_t first = n % 3 ? n * 7 % 45 : 0, groups = (first + n) / shape->width + 1;
    struct guarded scales = guarded_make(groups, 0), codes = guarded_make(n, 0);
    for (size_t i = 0; i < n; i++) codes.data[i] = bytes[i] & 15;
    for (size_t g = 0; g < groups; g++)
        scales.data[g] =
            (uint8_t)(n ? bytes[g % n] : 0) % (shape->scale == KV_FP4_E4M3 ? 127 : 253);
    set->fp4_decode(shape, scales.data, first, codes.data, n, out);
    guarded_free(&scales);
    guarded_free(&codes);
}

const char *check_fp4_decode(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {
        .in_size = 1, .out_size = 4, .variants = SHAPES, .below = 256, .call = call_fp4_decode};
    return check_elements(generic, set, &adapter);
}
