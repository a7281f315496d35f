/* The definition of every kernel: plain loops in the documented order, one rounding an operation
 * (no contraction, no vectoriser: see meson.build), hence the same bits on every CPU. */
#include <math.h>
#include <string.h>

#include "harness/base/half.h"
#include "harness/base/sums.h"
#include "methods/kernels/angle.h"
#include "methods/kernels/exp.h"
#include "methods/kernels/generic/blocks.h"
#include "methods/kernels/generic/minifloats.h"
#include "methods/kernels/kernels.h"
#include "methods/kernels/sets.h"

enum { PANEL = 8 };

/* -- conversions ----------------------------------------------------------------------------- */

static void widen_half_generic(const uint16_t *in, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = kv_half_to_float(in[i]);
}

static void widen_bfloat_generic(const uint16_t *in, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = kv_bfloat_to_float(in[i]);
}

static void narrow_half_generic(const float *in, uint16_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = kv_float_to_half(in[i]);
}

static void narrow_finite_generic(const float *in, uint16_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = kv_float_to_half(in[i]);
        out[i] = (uint16_t)(half - ((half & 0x7fff) == 0x7c00));
    }
}

static void narrow_bfloat_generic(const float *in, uint16_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = kv_float_to_bfloat(in[i]);
}

/* -- attention ------------------------------------------------------------------------------- */

static void pack_keys_generic(const float *keys, uint32_t n, uint32_t dim, float *panels)
{
    for (uint32_t first = 0; first < n; first += PANEL)
        for (uint32_t c = 0; c < dim; c++)
            for (uint32_t j = first; j < first + PANEL; j++)
                *panels++ = j < n ? keys[(size_t)j * dim + c] : 0.0f;
}

static void logits_generic(const float *queries, uint32_t rows, uint32_t dim, const float *panels,
                           uint32_t columns, float scale, float *logits, uint32_t stride)
{
    for (uint32_t r = 0; r < rows; r++) {
        const float *query = queries + (size_t)r * dim;
        for (uint32_t first = 0; first < columns; first += PANEL) {
            const float *panel = panels + (size_t)first * dim;
            float sums[PANEL] = {0};
            for (uint32_t c = 0; c < dim; c++)
                for (uint32_t j = 0; j < PANEL; j++) sums[j] += query[c] * panel[c * PANEL + j];
            for (uint32_t j = 0; j < PANEL; j++)
                logits[(size_t)r * stride + first + j] = scale * sums[j];
        }
    }
}

static void accumulate_generic(const float *weights, uint32_t rows, uint32_t stride,
                               const float *values, uint32_t n, uint32_t dim, const float *factors,
                               float *outputs, uint32_t apart)
{
    for (uint32_t r = 0; r < rows; r++) {
        float *output = outputs + (size_t)r * apart;
        for (uint32_t c = 0; factors && c < dim; c++)
            output[c] = factors[r] > 0 ? output[c] * factors[r] : 0.0f;
        for (uint32_t j = 0; j < n; j++) {
            const float weight = weights[(size_t)r * stride + j];
            const float *value = values + (size_t)j * dim;
            for (uint32_t c = 0; c < dim; c++) output[c] += weight * value[c];
        }
    }
}

/* 2^n for -126 <= n <= 127. */
static float power_of_two(int n)
{
    const uint32_t bits = (uint32_t)(n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* Nearest integer, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no fraction bits. */
static float nearest(float x)
{
    const float magic = 0x1.8p23f;
    return (x + magic) - magic;
}

/* r + r^2 P(r) = exp(r) - 1, and n; see exp.h. */
static float reduced_expm1(float y, int *n)
{
    const float whole = nearest(y * KV_EXP_INV_LN2);
    const float r = (y - whole * KV_EXP_LN2_HIGH) - whole * KV_EXP_LN2_LOW;
    float p = KV_EXP_P4;
    p = p * r + KV_EXP_P3;
    p = p * r + KV_EXP_P2;
    p = p * r + KV_EXP_P1;
    p = p * r + KV_EXP_P0;
    *n = (int)whole;
    return p * (r * r) + r;
}

/* exp(y), or 0 where that is too small. */
static float weight_of(float y)
{
    int power;
    if (y < KV_EXP_LOWEST) return 0.0f;
    const float q = reduced_expm1(y < KV_EXP_HIGHEST ? y : KV_EXP_HIGHEST, &power);
    return (q + 1.0f) * power_of_two(power);
}

static float exp_sum_generic(float *x, size_t n, float unit, float shift)
{
    double sum = 0;   /* exact enough that the order does not matter to a float */
    for (size_t i = 0; i < n; i++) {
        x[i] = weight_of(x[i] * unit - shift);
        sum += (double)x[i];
    }
    return (float)sum;
}

static float max_generic(const float *x, size_t n)
{
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    return max + 0.0f;   /* -0 becomes +0 */
}

/* Row r's softmax moves on to the largest of n more logits. */
static void move_on(const struct kv_softmax *softmax, uint32_t r, const float *x, size_t n)
{
    float *largest = &softmax->largest[r], *factor = &softmax->factors[r];
    const float here = max_generic(x, n) * softmax->unit, old = *largest;
    if (here > old) *largest = here;
    *factor = old;
    if (old == -INFINITY) *factor = 0.0f;
    else exp_sum_generic(factor, 1, 1.0f, *largest);
}

static void soften_generic(float *x, uint32_t rows, uint32_t stride, uint32_t n,
                           const struct kv_softmax *softmax)
{
    for (uint32_t r = 0; r < rows; r++, x += stride) {
        move_on(softmax, r, x, n);
        softmax->added[r] = 0;
        if (softmax->largest[r] == -INFINITY) memset(x, 0, n * sizeof *x);   /* -inf minus -inf is no number */
        else softmax->added[r] = exp_sum_generic(x, n, softmax->unit, softmax->largest[r]);
    }
}

/* Row r, whose softmaxes have moved on. */
static void weigh_beside(float *x, const float *y, size_t n, uint32_t r, const struct kv_softmax *softmax,
                         const struct kv_beside *beside)
{
    const float top = softmax->largest[r], beside_top = beside->softmax.largest[r], unit = softmax->unit;
    double sums[2] = {0, 0};
    float shift = 0, marked[2] = {0, 0};
    for (size_t i = 0; i < n; i++) {
        const float gap = x[i] - y[i], other = beside_top > -INFINITY ? weight_of(y[i] * unit - beside_top) : 0.0f;
        x[i] = top > -INFINITY ? weight_of(x[i] * unit - top) : 0.0f;
        if (x[i] > 0) shift += x[i] * gap;
        for (uint32_t k = 0; beside->marked && k < 2; k++) marked[k] += (k ? other : x[i]) * beside->marked[i];
        sums[0] += (double)x[i], sums[1] += (double)other;
    }
    softmax->added[r] = (float)sums[0], beside->softmax.added[r] = (float)sums[1];
    beside->shifts[r] = shift * unit;
    for (uint32_t k = 0; beside->marked && k < 2; k++) beside->marked_sums[k][r] = marked[k];
}

static void soften_beside_generic(float *x, uint32_t rows, uint32_t stride, uint32_t n,
                                  const struct kv_softmax *softmax, const struct kv_beside *beside)
{
    const float *y = beside->logits;
    for (uint32_t r = 0; r < rows; r++, x += stride, y += beside->stride) {
        move_on(softmax, r, x, n);
        move_on(&beside->softmax, r, y, n);
        weigh_beside(x, y, n, r, softmax, beside);
    }
}

static void scale_generic(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++) x[i] *= factor;
}

static void add_wide_generic(const float *x, uint32_t rows, size_t stride, size_t n, const float *factors,
                             double *sums)
{
    for (uint32_t r = 0; r < rows; r++, x += stride)
        for (size_t i = 0; i < n; i++) sums[i] += (double)(x[i] * factors[r]);
}

/* tanh z = m / (m + 2) with m = exp(2z) - 1 = 2^n q + (2^n - 1): no cancellation near 0. */
static void spread_out_generic(const float *close, const uint16_t *places, size_t n, float rest,
                               float *out)
{
    for (size_t first = 0; first < n; first += 16) {
        for (size_t i = 0; i < 16; i++) out[first + i] = rest;
        for (uint32_t left = places[first / 16]; left; left &= left - 1)
            out[first + (uint32_t)__builtin_ctz(left)] = *close++;
    }
}

static void close_up_generic(const float *x, const uint16_t *places, size_t n, float *close)
{
    for (size_t first = 0; first < n; first += 16)
        for (uint32_t left = places[first / 16]; left; left &= left - 1)
            *close++ = x[first + (uint32_t)__builtin_ctz(left)];
}

static uint32_t hide_generic(const int32_t *begin, const int32_t *end, int32_t token, size_t n,
                             float *x, float *beside)
{
    uint32_t seen = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t visible = (begin[i] <= token) & (token < end[i]);
        x[i] = visible ? x[i] : -INFINITY;
        if (beside) beside[i] = visible ? beside[i] : -INFINITY;
        seen += visible;
    }
    return seen;
}

static void softcap_generic(float *x, size_t n, float cap)
{
    for (size_t i = 0; i < n; i++) {
        const float z = x[i] / cap, t = 2.0f * fabsf(z);
        int power;
        const float q = reduced_expm1(t < KV_TANH_HIGHEST ? t : KV_TANH_HIGHEST, &power);
        const float two = power_of_two(power), m = two * q + (two - 1.0f);
        x[i] = copysignf(cap * (m / (m + 2.0f)), z);
    }
}

static float dot_generic(const float *a, const float *b, size_t n)
{
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* The value of one code; sign's is that of bit row % 4. */
static float stripe_value(const struct kv_stripes *stripes, const uint8_t *stripe, uint32_t row,
                          uint32_t column)
{
    const uint32_t group = stripes->format == KV_STRIPE_SIGN ? 4 : kv_stripe_rows(stripes->format);
    const uint8_t *codes = stripe + kv_stripe_bytes(stripes->format, row / group * group);
    const uint32_t nibble = codes[column % 32] >> (column < 32 ? 0 : 4) & 15;
    switch (stripes->format) {
    case KV_STRIPE_HALF:
        return kv_kept_half(codes + 2 * (size_t)column);
    case KV_STRIPE_BYTE:
        return (float)codes[4 * column + row % 4];
    case KV_STRIPE_NIBBLE:
        return (float)(codes[4 * column + row % 8 / 2] >> 4 * (row % 2) & 15);
    case KV_STRIPE_BOOK:
        return stripes->table[nibble];
    default:
        return nibble >> row % 4 & 1 ? 1.0f : -1.0f;
    }
}

static void stripes_generic(const struct kv_stripes *stripes, const float *x, float *sums)
{
    const size_t bytes = kv_stripes_apart(stripes);
    for (uint32_t i = 0; i < stripes->n; i++)
        for (uint32_t r = 0; r < stripes->depth; r++)
            for (uint32_t c = 0; c < KV_STRIPE; c++)
                sums[(size_t)i * KV_STRIPE + c] +=
                    x[r] * stripe_value(stripes, stripes->codes + i * bytes, r, c);
}

/* -- quantizers ------------------------------------------------------------------------------ */

static void min_max_generic(const float *x, size_t n, float *min, float *max)
{
    float low = x[0], high = x[0];
    for (size_t i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *min = low + 0.0f;   /* -0 becomes +0, so that the order of equal zeros does not matter */
    *max = high + 0.0f;
}

static void grid_encode_generic(const float *x, size_t n, float minimum, float scale,
                                uint32_t levels, uint8_t *codes)
{
    const float top = (float)(levels - 1);
    for (size_t i = 0; i < n; i++) {
        float q = scale == 0.0f ? 0.0f : (x[i] - minimum) / scale;
        q = q > 0.0f ? q : 0.0f;   /* clamping first is the same: the limits are integers */
        q = q < top ? q : top;
        codes[i] = (uint8_t)nearest(q);
    }
}

/* The grid of values between `low` and `high`: minimum, and scale or infinity, which gives 0. */
static void make_grid_generic(const struct kv_grid_shape *shape, float low, float high,
                              uint8_t *kept, float grid[2])
{
    const float most = (float)((1u << (shape->bits - (shape->symmetric != 0))) - 1u);
    const float size = !shape->symmetric ? high - low : high > -low ? high : 0.0f - low;
    const float scale = kv_keep_half(kept, size / most);
    grid[0] = shape->symmetric ? 0.0f : kv_keep_half(kept + 2, low);
    grid[1] = scale != 0 ? scale : INFINITY;
}

static uint8_t grid_code_generic(const struct kv_grid_shape *shape, const float grid[2], float x)
{
    const float zero = shape->symmetric ? (float)(1u << (shape->bits - 1)) : 0.0f;
    const float top = (float)((1u << shape->bits) - 1u) - zero;
    float q = (x - grid[0]) / grid[1];
    q = q > -zero ? q : -zero;
    q = q < top ? q : top;
    return (uint8_t)(nearest(q) + zero);
}

static void grid_row_generic(const float *x, size_t n, uint32_t width,
                             const struct kv_grid_shape *shape, uint8_t *kept, uint8_t *codes)
{
    for (size_t first = 0; first < n; first += width, kept += shape->symmetric ? 2 : 4) {
        const size_t end = n - first < width ? n : first + width;
        float low, high, grid[2];
        min_max_generic(x + first, end - first, &low, &high);
        make_grid_generic(shape, low, high, kept, grid);
        for (size_t i = first; i < end; i++) codes[i] = grid_code_generic(shape, grid, x[i]);
    }
}

static void grid_columns_generic(const float *rows, uint32_t n_rows, uint32_t n,
                                 const struct kv_grid_shape *shape, uint8_t *kept, uint8_t *codes)
{
    for (uint32_t c = 0; c < n; c++, kept += shape->symmetric ? 2 : 4) {
        float low = rows[c], high = rows[c], grid[2];
        for (size_t i = c; i < (size_t)n_rows * n; i += n) {
            low = rows[i] < low ? rows[i] : low;
            high = rows[i] > high ? rows[i] : high;
        }
        make_grid_generic(shape, low + 0.0f, high + 0.0f, kept, grid);
        for (size_t i = c; i < (size_t)n_rows * n; i += n)
            codes[i] = grid_code_generic(shape, grid, rows[i]);
    }
}

static void grid_decode_generic(const uint8_t *codes, size_t n, float minimum, float scale,
                                float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = (float)codes[i] * scale + minimum;
}

static void channel_encode_generic(const float *x, size_t n, const float *minima,
                                   const float *scales, uint32_t levels, uint8_t *codes)
{
    for (size_t i = 0; i < n; i++)
        grid_encode_generic(x + i, 1, minima[i], scales[i], levels, codes + i);
}

static void channel_quotients_generic(const float *x, size_t n, const float *centers,
                                      const float *reaches, float *out, uint8_t *outside)
{
    for (size_t i = 0; i < n; i++) {
        const float distance = x[i] - centers[i];
        out[i] = (reaches[i] > 0 ? distance / reaches[i] : 0.0f) + 0.0f;
        outside[i] = fabsf(distance) > reaches[i];
    }
}

static void channel_decode_generic(const uint8_t *codes, size_t n, const float *minima,
                                   const float *scales, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = (float)codes[i] * scales[i] + minima[i];
}

static void polar_generic(const double *x, const double *y, size_t n, double *radii, double *angles)
{
    for (size_t i = 0; i < n; i++) {
        radii[i] = sqrt(x[i] * x[i] + y[i] * y[i]);
        if (angles) angles[i] = kv_angle_of(y[i], x[i]);
    }
}

static void polar_floats_generic(const float *x, const float *y, size_t n, float *radii,
                                 float *angles)
{
    for (size_t i = 0; i < n; i++) {
        const double a = (double)x[i], b = (double)y[i];
        radii[i] = (float)sqrt(a * a + b * b);
        angles[i] = (float)kv_angle_of(b, a);
    }
}

/* Signs fold; a + b +- |a - b| is twice the larger, and the smaller. */
static void near_angles_generic(const double *x, const double *y, size_t n, float *angles,
                                float *sizes)
{
    const float pi = (float)KV_PI;
    for (size_t i = 0; i < n; i++) {
        const float a = (float)x[i], b = (float)y[i], across = fabsf(a), up = fabsf(b);
        const float both = across + up, apart = fabsf(across - up);
        const float t = (both - apart) / (both + apart + KV_NEAR_TINY), t2 = t * t;
        float sum = kv_near_series[0];
        for (int k = 1; k < KV_NEAR_TERMS; k++) sum = sum * t2 + kv_near_series[k];
        float angle = pi / 4 + copysignf(pi / 4 - t * sum, up - across);
        angle = pi / 2 - copysignf(pi / 2 - angle, a);
        angles[i] = pi - copysignf(pi - angle, b);
        sizes[i] = both;
    }
}

static void bucket_generic(const float *x, size_t n, const float *thresholds,
                           uint32_t n_thresholds, uint8_t *codes)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t code = 0;
        for (uint32_t t = 0; t < n_thresholds; t++) code += thresholds[t] < x[i];
        codes[i] = (uint8_t)code;
    }
}

static void cell_codes_generic(const struct kv_cells *cells, const float *x, size_t n, float factor,
                               uint8_t *codes)
{
    for (size_t i = 0; i < n; i++) {
        const float scaled = x[i] * factor, y = scaled * cells->unit;
        bucket_generic(&y, 1, cells->thresholds, cells->n, codes + i);
    }
}

static void lookup_generic(const uint8_t *codes, size_t n, const float *table, float factor,
                           float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = table[codes[i]] * factor;
}

static void pack_bits_generic(const uint8_t *codes, size_t n, uint32_t bits, uint8_t *packed)
{
    uint32_t pending = 0, filled = 0;
    for (size_t i = 0; i < n; i++) {
        pending |= (codes[i] & ((1u << bits) - 1u)) << filled;
        filled += bits;
        if (filled >= 8) {
            *packed++ = (uint8_t)pending;
            pending >>= 8;
            filled -= 8;
        }
    }
    if (filled) *packed = (uint8_t)pending;
}

static void unpack_bits_generic(const uint8_t *packed, size_t n, uint32_t bits, uint8_t *codes)
{
    uint32_t pending = 0, filled = 0;
    for (size_t i = 0; i < n; i++) {
        if (filled < bits) {
            pending |= (uint32_t)*packed++ << filled;
            filled += 8;
        }
        codes[i] = (uint8_t)(pending & ((1u << bits) - 1u));
        pending >>= bits;
        filled -= bits;
    }
}

static void lookup_packed_generic(const uint8_t *packed, size_t n, uint32_t bits,
                                  const float *table, float factor, float *out)
{
    for (size_t i = 0; i < n; i += 8, packed += bits) {
        uint8_t codes[8];
        const size_t many = n - i < 8 ? n - i : 8;
        unpack_bits_generic(packed, many, bits, codes);
        lookup_generic(codes, many, table, factor, out + i);
    }
}

static void hadamard_row(const float *in, const float *factors, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = factors ? factors[i] * in[i] : in[i];
    for (size_t span = 1; span < n; span *= 2)
        for (size_t first = 0; first < n; first += 2 * span)
            for (size_t i = first; i < first + span; i++) {
                const float a = x[i], b = x[i + span];
                x[i] = a + b;
                x[i + span] = a - b;
            }
}

static void hadamard_generic(const float *x, const float *factors, float *out, size_t n, size_t rows)
{
    for (; rows; rows--, x += n, out += n) hadamard_row(x, factors, out, n);
}

static void rotate_generic(const float *matrix, uint32_t rows, uint32_t columns, const float *x,
                           float *out)
{
    for (uint32_t r = 0; r < rows; r++) out[r] = 0.0f;
    for (uint32_t c = 0; c < columns; c++)
        for (uint32_t r = 0; r < rows; r++) out[r] += matrix[(size_t)c * rows + r] * x[c];
}

static void project_signs_generic(const struct kv_projections *p, const float *x, uint32_t n,
                                  uint8_t *signs, size_t apart)
{
    for (; n; n--, x += p->columns, signs += apart)
        for (uint32_t r = 0; r < p->rows; r += 8) {
            const uint32_t many = p->rows - r < 8 ? p->rows - r : 8;
            float sums[8] = {0};
            uint32_t byte = 0;
            for (uint32_t c = 0; c < p->columns; c++)
                for (uint32_t k = 0; k < many; k++)
                    sums[k] += p->matrix[(size_t)c * p->stride + r + k] * x[c];
            for (uint32_t k = 0; k < many; k++) byte |= (uint32_t)(sums[k] > 0) << k;
            signs[r / 8] = (uint8_t)byte;
        }
}

static float sum_squares_generic(const float *x, size_t n)
{
    float s[8] = {0};
    for (size_t i = 0; i < n; i++) s[i % 8] += x[i] * x[i];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

static double sum_magnitudes_generic(const float *x, size_t n)
{
    double s[4] = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++) s[j] += (double)fabsf(x[i + j]);
    for (; i < n; i++) s[0] += (double)fabsf(x[i]);
    return (s[0] + s[1]) + (s[2] + s[3]);
}

static double sum_wide_generic(const float *x, const float *factors, size_t n)
{
    double s[8] = {0};
    for (size_t i = 0; i < n; i++) s[i % 8] += (double)x[i] * (factors ? (double)factors[i] : 1.0);
    return kv_sum_of_eight(s);
}

static void add_errors_generic(const float *x, const float *exact, size_t n, double errors[8], double squares[8])
{
    for (size_t i = 0; i < n; i++) {
        const double wanted = (double)exact[i], error = (double)x[i] - wanted;
        errors[i % 8] += error * error;
        squares[i % 8] += wanted * wanted;
    }
}

static void add_products_generic(const double *x, const double *y, uint32_t n, bool exact_products, double *sums,
                                 size_t stride)
{
    (void)exact_products;
    for (uint32_t i = 0; i < n; i++, x += KV_PRODUCT_LINE, y += KV_PRODUCT_LINE)
        for (uint32_t r = 0; r < KV_PRODUCT_LINE; r++)
            for (uint32_t c = 0; c < KV_PRODUCT_LINE; c++) sums[r * stride + c] += x[r] * y[c];
}

static void turn_rows_generic(const struct kv_pair_turn *turns, uint32_t n_turns, double *rows, size_t apart, size_t n)
{
    for (uint32_t t = 0; t < n_turns; t++) {
        double *a = rows + turns[t].row * apart, *b = a + apart;
        for (size_t i = 0; i < n; i++) {
            const double x = a[i], y = b[i];
            a[i] = turns[t].cosine * x - turns[t].sine * y;
            b[i] = turns[t].sine * x + turns[t].cosine * y;
        }
    }
}

static void pack_cells_generic(const struct kv_cells *cells, const struct kv_cell_rows *rows,
                               uint8_t *packed)
{
    const float *x = rows->x;
    for (uint32_t r = 0; r < rows->n_rows; r++, x += rows->n, packed += rows->apart)
        for (uint32_t i = 0; i < rows->n; i += 8) {
            uint8_t codes[8];
            const uint32_t some = rows->n - i < 8 ? rows->n - i : 8;
            cell_codes_generic(cells, x + i, some, rows->factors[r], codes);
            pack_bits_generic(codes, some, rows->bits, packed + i / 8 * rows->bits);
        }
}

static void sign_bits_generic(const float *x, size_t n, uint8_t *bits)
{
    for (size_t i = 0; i < n; i += 8) {
        const size_t many = n - i < 8 ? n - i : 8;
        uint32_t byte = 0;
        for (size_t k = 0; k < many; k++) byte |= (uint32_t)(x[i + k] > 0) << k;
        bits[i / 8] = (uint8_t)byte;
    }
}

static void hadamard_squares_generic(const float *x, const float *factors, float *out, size_t n, size_t rows,
                                     float *squares)
{
    hadamard_generic(x, factors, out, n, rows);
    for (size_t r = 0; r < rows; r++) squares[r] = sum_squares_generic(x + r * n, n);
}

static double peak_generic(size_t rounds)
{
    float sums[8];
    volatile float start = 0x1p-20f;   /* each reading is another number to the compiler */
    const float factor = start;
    for (int k = 0; k < 8; k++) sums[k] = start;
    for (size_t i = 0; i < rounds; i++)
        for (int k = 0; k < 8; k++) sums[k] = sums[k] * factor + factor;
    for (int k = 1; k < 8; k++) sums[0] += sums[k];
    start = sums[0];
    return 16.0 * (double)rounds;
}

static double isolating_peak_generic(size_t rounds)
{
    float sums[8];
    volatile float start = 0x1p-20f, word = -0x1p-20f;
    const float factor = start;
    for (int k = 0; k < 8; k++) sums[k] = start;
    for (size_t i = 0; i < rounds; i++)
        for (int k = 0; k < 8; k++) sums[k] += fabsf(word) * factor;
    for (int k = 1; k < 8; k++) sums[0] += sums[k];
    start = sums[0];
    return 16.0 * (double)rounds;
}

static double look_up_peak_generic(enum kv_look_up way, size_t rounds)
{
    (void)way, (void)rounds;
    return 0;
}

static double coding_peak_generic(const struct kv_coding *coding, const uint16_t *halves, size_t n,
                                  uint8_t *to)
{
    (void)coding, (void)halves, (void)n, (void)to;
    return 0;
}

void kv_kernels_set_generic(struct kv_kernels *kernels)
{
    *kernels = (struct kv_kernels){
        .isa = "generic",
        .panel = PANEL,
        .widen_half = widen_half_generic,
        .widen_bfloat = widen_bfloat_generic,
        .narrow_half = narrow_half_generic,
        .narrow_bfloat = narrow_bfloat_generic,
        .narrow_finite = narrow_finite_generic,
        .pack_keys = pack_keys_generic,
        .logits = logits_generic,
        .accumulate = accumulate_generic,
        .exp_sum = exp_sum_generic,
        .max = max_generic,
        .soften = soften_generic,
        .soften_beside = soften_beside_generic,
        .scale = scale_generic,
        .add_wide = add_wide_generic,
        .spread_out = spread_out_generic,
        .close_up = close_up_generic,
        .hide = hide_generic,
        .softcap = softcap_generic,
        .dot = dot_generic,
        .stripes = stripes_generic,
        .min_max = min_max_generic,
        .grid_encode = grid_encode_generic,
        .grid_row = grid_row_generic,
        .grid_columns = grid_columns_generic,
        .encode_blocks = encode_blocks_generic,
        .decode_blocks = decode_blocks_generic,
        .minifloat_encode = minifloat_encode_generic,
        .minifloat_decode = minifloat_decode_generic,
        .fp4_encode = fp4_encode_generic,
        .fp4_decode = fp4_decode_generic,
        .grid_decode = grid_decode_generic,
        .channel_encode = channel_encode_generic,
        .channel_decode = channel_decode_generic,
        .channel_quotients = channel_quotients_generic,
        .polar = polar_generic,
        .polar_floats = polar_floats_generic,
        .near_angles = near_angles_generic,
        .bucket = bucket_generic,
        .cell_codes = cell_codes_generic,
        .pack_cells = pack_cells_generic,
        .lookup = lookup_generic,
        .lookup_packed = lookup_packed_generic,
        .pack_bits = pack_bits_generic,
        .unpack_bits = unpack_bits_generic,
        .sign_bits = sign_bits_generic,
        .hadamard = hadamard_generic,
        .rotate = rotate_generic,
        .project_signs = project_signs_generic,
        .sum_squares = sum_squares_generic,
        .sum_magnitudes = sum_magnitudes_generic,
        .sum_wide = sum_wide_generic,
        .add_errors = add_errors_generic,
        .add_products = add_products_generic,
        .turn_rows = turn_rows_generic,
        .hadamard_squares = hadamard_squares_generic,
        .peak = peak_generic,
        .issuing_peak = peak_generic,
        .isolating_peak = isolating_peak_generic,
        .look_up_peak = look_up_peak_generic,
        .coding_peak = coding_peak_generic,
    };
}
