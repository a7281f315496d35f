/* Checks of entries that map an array to an array element by element, or to one number: all of them
 * are one driver with an adapter a kernel. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/half.h"
#include "methods/kernels/block_tables.h"
#include "tests/kernels/elementwise.h"

static size_t out_bytes(const struct adapter *adapter, size_t n, uint32_t variant)
{
    return adapter->out_bits ? (n * (variant + 1) + 7) / 8 : n * adapter->out_size;
}

static size_t in_bytes(const struct adapter *adapter, size_t n, uint32_t variant)
{
    return adapter->in_size ? n * adapter->in_size : (n * (variant + 1) + 7) / 8;
}

static void fill_input(const struct adapter *adapter, uint8_t *data, size_t n, uint32_t variant,
                       int kind)
{
    if (adapter->kinds) fill_floats((float *)(void *)data, n, (enum input_kind)kind, (uint32_t)n);
    else fill_bytes(data, in_bytes(adapter, n, variant), adapter->below, (uint32_t)(n + variant));
    /* Codes may not exceed their bits; the generic kernel masks, the contract does not ask it. */
    if (adapter->out_bits)
        for (size_t i = 0; i < n; i++) data[i] &= (uint8_t)((1u << (variant + 1)) - 1);
}

static const char *check_once(const struct kv_kernels *generic, const struct kv_kernels *set,
                              const struct adapter *adapter, size_t n, uint32_t variant, int kind,
                              size_t slack)
{
    const size_t bytes = out_bytes(adapter, n, variant);
    const size_t step = adapter->in_size ? adapter->in_size : 1;
    struct guarded in = guarded_make(in_bytes(adapter, n, variant), slack % (64 / step) * step);
    const size_t out_step = adapter->out_size ? adapter->out_size : 1;
    struct guarded out = guarded_make(bytes, (slack * 7) % (64 / out_step) * out_step);
    struct guarded expected = guarded_make(bytes, 0);
    float results[RESULTS] = {0}, expected_results[RESULTS] = {0};
    const char *complaint = NULL;

    fill_input(adapter, in.data, n, variant, kind);
    if (adapter->in_place) memcpy(out.data, in.data, bytes);
    if (adapter->in_place) memcpy(expected.data, in.data, bytes);
    adapter->call(set, in.data, out.data, n, variant, results);
    if (!guarded_intact(&out) || !guarded_intact(&in)) complaint = complain("wrote outside");
    else if (adapter->judge) complaint = adapter->judge(in.data, out.data, n, variant, results);
    else {
        adapter->call(generic, in.data, expected.data, n, variant, expected_results);
        if (memcmp(out.data, expected.data, bytes) ||
            memcmp(results, expected_results, sizeof results))
            complaint = complain("bits differ from generic");
    }
    guarded_free(&in);
    guarded_free(&out);
    guarded_free(&expected);
    return complaint;
}

/* All lengths flush against the unmapped page, then all alignments for some lengths. */
const char *check_elements(const struct kv_kernels *generic, const struct kv_kernels *set,
                           const struct adapter *adapter)
{
    static char text[400];
    const int kinds = adapter->kinds ? adapter->kinds : 1;
    for (int kind = 0; kind < kinds; kind++)
        for (uint32_t variant = 0; variant < adapter->variants; variant++)
            for (size_t n = (size_t)adapter->from_one; n < LENGTHS; n++)
                for (size_t slack = 0; slack < (n % 25 == 14 ? 64 : 1); slack++) {
                    if (!is_due()) continue;
                    const char *why = check_once(generic, set, adapter, n, variant, kind, slack);
                    if (!why) continue;
                    const char *name = adapter->kinds ? kind_names[kind] : "bytes";
                    strcpy(text, why);
                    return complain("%.100s (n %zu, variant %u, alignment %zu, %s)", text, n,
                                    variant, slack, name);
                }
    return NULL;
}

/* -- conversions ------------------------------------------------------------------------------- */

static void call_widen_half(const struct kv_kernels *set, const void *in, void *out, size_t n,
                            uint32_t variant, float *results)
{
    set->widen_half(in, out, n);
}

static void call_widen_bfloat(const struct kv_kernels *set, const void *in, void *out, size_t n,
                              uint32_t variant, float *results)
{
    set->widen_bfloat(in, out, n);
}

static void call_narrow_half(const struct kv_kernels *set, const void *in, void *out, size_t n,
                             uint32_t variant, float *results)
{
    set->narrow_half(in, out, n);
}

static void call_narrow_bfloat(const struct kv_kernels *set, const void *in, void *out, size_t n,
                               uint32_t variant, float *results)
{
    set->narrow_bfloat(in, out, n);
}

static void call_narrow_finite(const struct kv_kernels *set, const void *in, void *out, size_t n,
                               uint32_t variant, float *results)
{
    set->narrow_finite(in, out, n);
}

static const char *same_or_nan(const uint32_t *a, const uint32_t *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++) {
        const int nans = (a[i] & 0x7fffffffu) > 0x7f800000u && (b[i] & 0x7fffffffu) > 0x7f800000u;
        if (a[i] != b[i] && !nans)
            return complain("%s: %08x, generic %08x", what, (unsigned)a[i], (unsigned)b[i]);
    }
    return NULL;
}

/* Every 16-bit word. */
static const char *widen_all(void (*tested)(const uint16_t *, float *, size_t),
                             void (*generic)(const uint16_t *, float *, size_t))
{
    for (uint32_t first = 0; first < 65536; first += 256) {
        uint16_t words[256];
        uint32_t ours[256], theirs[256];
        for (uint32_t i = 0; i < 256; i++) words[i] = (uint16_t)(first + i);
        tested(words, (float *)(void *)ours, 256);
        generic(words, (float *)(void *)theirs, 256);
        const char *why = same_or_nan(ours, theirs, 256, "word");
        if (why) return why;
    }
    return NULL;
}

/* Floats of every exponent with random last bits, and the neighbourhood of every tie. */
static const char *narrow_all(void (*tested)(const float *, uint16_t *, size_t),
                              void (*generic)(const float *, uint16_t *, size_t), int nan_exponent)
{
    for (uint32_t high = 0; high < 65536; high += 16) {
        uint32_t bits[64];
        uint16_t ours[64], theirs[64];
        fill_bytes((uint8_t *)bits, sizeof bits, 256, high);
        for (uint32_t i = 0; i < 64; i++) {
            const uint32_t near[4] = {bits[i] & 0xffffu, 0x8000u, 0x7fffu, (bits[i] & 7u) << 13};
            bits[i] = (high + i / 4) << 16 | near[i % 4];
        }
        tested((const float *)(const void *)bits, ours, 64);
        generic((const float *)(const void *)bits, theirs, 64);
        for (uint32_t i = 0; i < 64; i++) {
            const int nan = (bits[i] & 0x7fffffffu) > 0x7f800000u;
            const int ours_nan = (ours[i] & 0x7fff) > nan_exponent;
            if (nan ? !ours_nan : ours[i] != theirs[i])
                return complain("float %08x: %04x, generic %04x", (unsigned)bits[i], ours[i],
                                theirs[i]);
        }
    }
    return NULL;
}

const char *check_widen_half(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    /* Bytes below 124 make finite halves: exponent bits 11110 at most. */
    const struct adapter adapter = {.in_size = 2, .out_size = 4, .variants = 1, .below = 124,
                                    .call = call_widen_half};
    const char *why = widen_all(set->widen_half, generic->widen_half);
    return why ? why : check_elements(generic, set, &adapter);
}

const char *check_widen_bfloat(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 2, .out_size = 4, .variants = 1, .below = 127,
                                    .call = call_widen_bfloat};
    const char *why = widen_all(set->widen_bfloat, generic->widen_bfloat);
    return why ? why : check_elements(generic, set, &adapter);
}

const char *check_narrow_half(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 2, .kinds = ALL_KINDS, .variants = 1,
                                    .call = call_narrow_half};
    const char *why = narrow_all(set->narrow_half, generic->narrow_half, 0x7c00);
    return why ? why : check_elements(generic, set, &adapter);
}

const char *check_narrow_finite(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 2, .kinds = ALL_KINDS, .variants = 1,
                                    .call = call_narrow_finite};
    const char *why = narrow_all(set->narrow_finite, generic->narrow_finite, 0x7c00);
    return why ? why : check_elements(generic, set, &adapter);
}

const char *check_narrow_bfloat(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 2, .kinds = ALL_KINDS, .variants = 1,
                                    .call = call_narrow_bfloat};
    const char *why = narrow_all(set->narrow_bfloat, generic->narrow_bfloat, 0x7f80);
    return why ? why : check_elements(generic, set, &adapter);
}

/* -- softmax ----------------------------------------------------------------------------------- */

static float shift_of(const float *x, size_t n, uint32_t variant)
{
    float shift = 0.5f;
    for (size_t i = 0; variant && i < n; i++) shift = x[i] > shift ? x[i] : shift;
    return variant == 2 ? shift + 3.25f : shift;
}

static float unit_of(uint32_t variant) { return variant == 3 ? 0.7f : 1.0f; }

static void call_exp_sum(const struct kv_kernels *set, const void *in, void *out, size_t n,
                         uint32_t variant, float *results)
{
    results[0] = set->exp_sum(out, n, unit_of(variant), shift_of(in, n, variant));
}

static const char *judge_exp_sum(const void *in, const void *out, size_t n, uint32_t variant,
                                 const float *results)
{
    const float *x = in, *e = out;
    const float shift = shift_of(x, n, variant);
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const float product = x[i] * unit_of(variant), y = product - shift;
        const double exact = y < -60 * 0.69314718055994531 ? 0 : exp(fmin((double)y, 88));
        /* Where the product is rounded, or is not, y may differ, and fall on the other side of the cut. */
        const bool rounds = variant == 3 && isfinite(y);
        const double rounding = rounds ? fabs((double)product) + fabs((double)shift) : 0;
        if (fabs((double)e[i] - exact) > (4 + rounding) * FLT_EPSILON * exact + (rounds ? 0x1p-59 : 0))
            return complain("exp(%g): %.9g, exact %.9g", (double)y, (double)e[i], exact);
        sum += (double)e[i];
    }
    /* Terms near e^88 overflow the sum beyond FLT_MAX; the contract's callers have y <= 0. */
    if (sum > FLT_MAX) return NULL;
    if (fabs((double)results[0] - sum) > ((double)n / 16 + 5) * FLT_EPSILON * sum)
        return complain("sum %.9g, exact %.9g", (double)results[0], sum);
    return NULL;
}

/* 64 zeros (weights of masked columns) in front must not change the sum's bits. */
static const char *exp_sum_ignores_whole_steps(const struct kv_kernels *set)
{
    float x[364], y[364];
    for (size_t n = 0; n <= 300; n += 13) {
        fill_floats(x, 300, NORMAL, 7);
        for (size_t i = 0; i < 64; i++) y[i] = -INFINITY;
        memcpy(y + 64, x, 300 * sizeof *x);
        if (set->exp_sum(x, n, 1.0f, 2.5f) != set->exp_sum(y, n + 64, 1.0f, 2.5f))
            return complain("64 masked columns in front change the sum (n %zu)", n);
    }
    return NULL;
}

const char *check_exp_sum(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 4, .in_place = 1, .kinds = ALL_KINDS,
                                    .variants = 4, .call = call_exp_sum, .judge = judge_exp_sum};
    const char *why = exp_sum_ignores_whole_steps(set);
    return why ? why : check_elements(generic, set, &adapter);
}

static void call_max(const struct kv_kernels *set, const void *in, void *out, size_t n,
                     uint32_t variant, float *results)
{
    results[0] = set->max(in, n);
}

const char *check_max(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .kinds = ALL_KINDS, .variants = 1,
                                    .call = call_max};
    return check_elements(generic, set, &adapter);
}

static void call_scale(const struct kv_kernels *set, const void *in, void *out, size_t n,
                       uint32_t variant, float *results)
{
    set->scale(out, n, variant ? 0.0f : 0.37f);
}

const char *check_scale(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 4, .in_place = 1,
                                    .kinds = FINITE_KINDS, .variants = 2, .call = call_scale};
    return check_elements(generic, set, &adapter);
}

static void call_add_wide(const struct kv_kernels *set, const void *in, void *out, size_t n,
                          uint32_t variant, float *results)
{
    static const float factors[] = {1.0f, 0.3f, 0.0f, 1.7f, 0.9f, 1e-3f};
    static const uint32_t rows[] = {1, 4, 6};
    double *sums = out;
    for (size_t i = 0; i < n; i++) sums[i] = 0.1 * (double)i - 3;
    const size_t stride = n / rows[variant];
    set->add_wide(in, rows[variant], stride, stride - (stride > 3 && variant == 2), factors, sums);
}

/* Exact numbers are the same in another order. */
static void call_add_errors(const struct kv_kernels *set, const void *in, void *out, size_t n,
                            uint32_t variant, float *results)
{
    struct guarded turned = guarded_make(n * sizeof(float), n % 2 * sizeof(float));
    float *exact = (float *)(void *)turned.data;
    double sums[2][8];
    for (size_t i = 0; i < n; i++) memcpy(exact + i, (const float *)in + (n - 1 - i), sizeof *exact);
    for (int i = 0; i < 16; i++) sums[i / 8][i % 8] = variant ? 0.1 * i : 0;
    set->add_errors(in, exact, n, sums[0], sums[1]);
    results[0] = digest((const uint8_t *)sums[0], sizeof sums[0]);
    results[1] = digest((const uint8_t *)sums[1], sizeof sums[1]);
    guarded_free(&turned);
}

const char *check_add_errors(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .kinds = FINITE_KINDS, .variants = 2, .call = call_add_errors};
    return check_elements(generic, set, &adapter);
}

/* Rows are the same numbers, each from its own place on. */
/* Numbers of n lines for add_products: floats, or what is none. */
static struct guarded product_lines(uint32_t n, bool floats, int kind, uint32_t seed)
{
    const size_t all = (size_t)n * KV_PRODUCT_LINE;
    float *drawn = malloc((all + 1) * sizeof *drawn);
    struct guarded lines = guarded_make(all * sizeof(double), 8 * (seed % 8));
    double *x = (double *)(void *)lines.data;
    fill_floats(drawn, all, (enum input_kind)kind, seed);
    for (size_t i = 0; i < all; i++) x[i] = floats ? (double)drawn[i] : (double)drawn[i] / 3;
    free(drawn);
    return lines;
}

static const char *check_products(const struct kv_kernels *generic, const struct kv_kernels *set, uint32_t n,
                                  bool floats, int kind, size_t stride)
{
    const size_t bytes = ((KV_PRODUCT_LINE - 1) * stride + KV_PRODUCT_LINE) * sizeof(double);
    struct guarded x = product_lines(n, floats, kind, 2 * n), y = product_lines(n, floats, kind, 2 * n + 1);
    struct guarded sums[2] = {guarded_make(bytes, 0), guarded_make(bytes, 24)};
    const struct kv_kernels *const sets[2] = {generic, set};
    const char *complaint = NULL;
    for (int s = 0; s < 2; s++) {
        double *at = (double *)(void *)sums[s].data;
        for (size_t i = 0; i < bytes / sizeof *at; i++) at[i] = 0.1 * (double)i - 3;
        sets[s]->add_products((const double *)(const void *)x.data, (const double *)(const void *)y.data, n, floats,
                              at, stride);
        if (!guarded_intact(&sums[s])) complaint = complain("wrote outside");
    }
    if (!complaint && memcmp(sums[0].data, sums[1].data, bytes)) complaint = complain("bits differ from generic");
    guarded_free(&x), guarded_free(&y), guarded_free(&sums[0]), guarded_free(&sums[1]);
    return complaint;
}

const char *check_add_products(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const uint32_t lines[] = {0, 1, 2, 7, 64};
    const char *complaint = NULL;
    for (int i = 0; i < 5; i++)
        for (int kind = 0; kind < FINITE_KINDS; kind++)
            for (int floats = 0; floats < 2 && !complaint; floats++)
                complaint = check_products(generic, set, lines[i], floats, kind, i % 2 ? KV_PRODUCT_LINE : 45);
    return complaint;
}

/* Five rows of n, of which two turns share one and one comes again. */
static void call_turn_rows(const struct kv_kernels *set, const void *in, void *out, size_t n, uint32_t variant,
                           float *results)
{
    enum { ROWS = 5 };
    const struct kv_pair_turn turns[] = {{0.8, 0.6, 3}, {0.28, -0.96, 2}, {-1, 1e-9, 0}, {0.1, 0.3, 3}};
    struct guarded spread = guarded_make(ROWS * n * sizeof(double), 0);
    double *rows = (double *)(void *)spread.data, *sums = out;
    for (size_t i = 0; i < n; i++) {
        float value;
        memcpy(&value, (const float *)in + i, sizeof value);
        for (size_t r = 0; r < ROWS; r++) rows[r * n + (i + r) % n] = (double)value / 3 + (double)r;
    }
    set->turn_rows(turns, 4, rows, n, n);
    for (size_t i = 0; i < n; i++) {
        sums[i] = 0;
        for (size_t r = 0; r < ROWS; r++) sums[i] += (double)(2 * r + 1) * rows[r * n + i];
    }
    guarded_free(&spread);
}

const char *check_turn_rows(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 8, .kinds = FINITE_KINDS, .variants = 1,
                                    .call = call_turn_rows};
    return check_elements(generic, set, &adapter);
}

const char *check_add_wide(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 8, .kinds = FINITE_KINDS, .variants = 3,
                                    .call = call_add_wide};
    return check_elements(generic, set, &adapter);
}

static const float caps[] = {50.0f, 1.5f, 0x1p-3f};

static void call_softcap(const struct kv_kernels *set, const void *in, void *out, size_t n,
                         uint32_t variant, float *results)
{
    set->softcap(out, n, caps[variant]);
}

static const char *judge_softcap(const void *in, const void *out, size_t n, uint32_t variant,
                                 const float *results)
{
    const float *x = in, *y = out;
    for (size_t i = 0; i < n; i++) {
        const double cap = (double)caps[variant], exact = cap * tanh((double)x[i] / cap);
        /* 2^-140: arguments below the normal range lose bits whatever one does. */
        if (fabs((double)y[i] - exact) > 16 * FLT_EPSILON * fabs(exact) + 0x1p-140)
            return complain("cap %g of %g: %.9g, exact %.9g", cap, (double)x[i], (double)y[i],
                            exact);
    }
    return NULL;
}

const char *check_softcap(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 4, .in_place = 1, .kinds = ALL_KINDS,
                                    .variants = 3, .call = call_softcap, .judge = judge_softcap};
    return check_elements(generic, set, &adapter);
}

/* The vector with itself, shifted by the variant where it wraps: one input array is enough. */
static void call_dot(const struct kv_kernels *set, const void *in, void *out, size_t n,
                     uint32_t variant, float *results)
{
    const float *x = in;
    results[0] = set->dot(x, x + n / 2, n - n / 2);
}

static const char *judge_dot(const void *in, const void *out, size_t n, uint32_t variant,
                             const float *results)
{
    const float *a = in, *b = a + n / 2;
    double sum = 0, size = 0;
    for (size_t i = 0; i < n - n / 2; i++) {
        sum += (double)a[i] * (double)b[i];
        size += fabs((double)a[i] * (double)b[i]);
    }
    if (fabs((double)results[0] - sum) > (double)n * (FLT_EPSILON * size + 0x1p-149))
        return complain("%.9g, exact %.9g", (double)results[0], sum);
    return NULL;
}

const char *check_dot(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .kinds = FINITE_KINDS, .variants = 1,
                                    .call = call_dot, .judge = judge_dot};
    return check_elements(generic, set, &adapter);
}

/* -- quantizers -------------------------------------------------------------------------------- */

static void call_min_max(const struct kv_kernels *set, const void *in, void *out, size_t n,
                         uint32_t variant, float *results)
{
    set->min_max(in, n, &results[0], &results[1]);
}

const char *check_min_max(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .from_one = 1, .kinds = ALL_KINDS, .variants = 1,
                                    .call = call_min_max};
    return check_elements(generic, set, &adapter);
}

static void call_grid_encode(const struct kv_kernels *set, const void *in, void *out, size_t n,
                             uint32_t variant, float *results)
{
    static const struct { float minimum, scale; uint32_t levels; } grids[] = {
        {-1.5f, 0.25f, 16}, {-4, 0.0314f, 256}, {0, 0, 4}, {-0.3f, 0.6f, 2},
        {1.375f, 0x1p-140f, 8}};
    set->grid_encode(in, n, grids[variant].minimum, grids[variant].scale, grids[variant].levels,
                     out);
}

const char *check_grid_encode(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 1, .kinds = ALL_KINDS, .variants = 5,
                                    .call = call_grid_encode};
    /* Every tie and its neighbours: quarters of a step from -2 to 18. */
    float ties[240];
    uint8_t ours[240], theirs[240];
    for (int i = 0; i < 240; i++) {
        const float tie = (float)(i / 3) * 0.25f - 2.0f;
        ties[i] = i % 3 ? nextafterf(tie, i % 3 == 1 ? -INFINITY : INFINITY) : tie;
    }
    set->grid_encode(ties, 240, 0, 1, 16, ours);
    generic->grid_encode(ties, 240, 0, 1, 16, theirs);
    if (memcmp(ours, theirs, sizeof ours)) return complain("ties differ from generic");
    return check_elements(generic, set, &adapter);
}

/* Widths short and long, and grids; what is kept lies at odd addresses and is part of the result. */
static const struct {
    uint32_t width;
    struct kv_grid_shape shape;
} grid_cases[] = {{64, {4, 0}}, {5, {2, 1}}, {32, {8, 0}}, {16, {8, 1}}, {300, {1, 0}},
                {128, {3, 0}}, {32, {4, 1}}, {64, {8, 1}}, {128, {2, 1}}};

float digest(const uint8_t *bytes, size_t n)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum = sum * 31 + bytes[i];
    return (float)(sum & 0xffffff);
}

static void call_grid_row(const struct kv_kernels *set, const void *in, void *out, size_t n,
                          uint32_t variant, float *results)
{
    const uint32_t width = grid_cases[variant].width;
    const struct kv_grid_shape *shape = &grid_cases[variant].shape;
    const size_t bytes = (n + width - 1) / width * (shape->symmetric ? 2 : 4);
    struct guarded kept = guarded_make(bytes, n % 2);
    set->grid_row(in, n, width, shape, kept.data, out);
    results[0] = digest(kept.data, bytes);
    results[1] = (float)guarded_intact(&kept);
    guarded_free(&kept);
}

/* Values on the middles of codes and beside them: a grid from 0 to 15 in steps of 1. */
static const char *grid_ties(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct kv_grid_shape shape = {4, 0};
    float x[256];
    uint8_t ours[256], theirs[256], kept[2][1024];
    for (int i = 0; i < 256; i++) {
        const float tie = (float)(i % 30) * 0.5f;
        x[i] = i % 3 ? nextafterf(tie, i % 3 == 1 ? 0.0f : 15.0f) : tie;
    }
    for (int i = 0; i < 256; i += 32) x[i] = 0, x[i + 31] = 15;
    for (uint32_t columns = 0; columns < 2; columns++) {
        if (columns) {
            set->grid_columns(x, 4, 64, &shape, kept[0], ours);
            generic->grid_columns(x, 4, 64, &shape, kept[1], theirs);
        } else {
            set->grid_row(x, 256, 32, &shape, kept[0], ours);
            generic->grid_row(x, 256, 32, &shape, kept[1], theirs);
        }
        if (memcmp(ours, theirs, sizeof ours) || memcmp(kept[0], kept[1], columns ? 256 : 32))
            return complain("codes of middles differ");
    }
    return NULL;
}

const char *check_grid_row(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 1, .from_one = 1, .kinds = ALL_KINDS,
                                    .variants = sizeof grid_cases / sizeof *grid_cases,
                                    .call = call_grid_row};
    const char *why = grid_ties(generic, set);
    return why ? why : check_elements(generic, set, &adapter);
}

/* n values are rows of a few channels: all numbers of channels up to n with few rows occur. */
static void call_grid_columns(const struct kv_kernels *set, const void *in, void *out, size_t n,
                              uint32_t variant, float *results)
{
    const uint32_t rows = 1 + variant % 3 * 2, columns = (uint32_t)n / rows;
    const struct kv_grid_shape *shape = &grid_cases[variant].shape;
    const size_t bytes = (size_t)columns * (shape->symmetric ? 2 : 4);
    struct guarded kept = guarded_make(bytes, n % 2);
    memset(out, 0, n);
    set->grid_columns(in, rows, columns, shape, kept.data, out);
    results[0] = digest(kept.data, bytes);
    results[1] = (float)guarded_intact(&kept);
    guarded_free(&kept);
}

const char *check_grid_columns(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 1, .from_one = 1, .kinds = ALL_KINDS,
                                    .variants = sizeof grid_cases / sizeof *grid_cases,
                                    .call = call_grid_columns};
    return check_elements(generic, set, &adapter);
}

/* n values are n / 32 blocks, in turn of all formats; the bytes lie against a page. */
static void call_encode_blocks(const struct kv_kernels *set, const void *in, void *out, size_t n,
                               uint32_t variant, float *results)
{
    const size_t bytes = n / KV_BLOCK * kv_block_shape((enum kv_block_format)variant).bytes;
    struct guarded blocks = guarded_make(bytes, n % 2);
    set->encode_blocks((enum kv_block_format)variant, in, n / KV_BLOCK, blocks.data);
    results[0] = digest(blocks.data, bytes);
    results[1] = (float)guarded_intact(&blocks);
    guarded_free(&blocks);
}

/* Of iq4_nl, and the number above it. */
static float threshold_beside(int i)
{
    const float threshold = kv_thresholds_iq4_nl[i / 2];
    return i % 2 ? nextafterf(threshold, INFINITY) : threshold;
}

/* Ties of 8-bit codes, both signs of one size, zeros of both signs, thresholds where d is 1. */
static const char *odd_blocks(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    float x[8 * KV_BLOCK];
    uint8_t ours[8 * 34], theirs[8 * 34];
    for (int i = 0; i < 8 * KV_BLOCK; i++) {
        const float tie = (float)(i % 127) + 0.5f;
        x[i] = i % 3 ? nextafterf(tie, i % 3 == 1 ? 0.0f : 200.0f) : tie;
        if (i % 2) x[i] = -x[i];
        if (i % KV_BLOCK == 20) x[i] = i < 128 ? 127.0f : -127.0f;
        if (i % KV_BLOCK == 21) x[i] = i % 64 < 32 ? 127.0f : -127.0f;
        if (i / KV_BLOCK == 3) x[i] = i % 3 ? 0.0f : -0.0f;
        if (i / KV_BLOCK == 5) x[i] = i % KV_BLOCK < 30 ? threshold_beside(i % KV_BLOCK) : -127.0f;
        if (i / KV_BLOCK == 6) x[i] = i % 2 ? 3e38f : -3e38f;
        if (i / KV_BLOCK == 7) x[i] = (i % 2 ? 1e-39f : -2e-39f) * (float)(i % 5);
    }
    for (int format = 0; format < KV_BLOCK_FORMATS; format++) {
        const size_t bytes = 8 * kv_block_shape((enum kv_block_format)format).bytes;
        set->encode_blocks((enum kv_block_format)format, x, 8, ours);
        generic->encode_blocks((enum kv_block_format)format, x, 8, theirs);
        for (size_t i = 0; i < bytes; i++)
            if (ours[i] != theirs[i])
                return complain("odd blocks of format %d differ in byte %zu", format, i);
    }
    return NULL;
}

/* The table that is written out, field by field. */
static const char *block_cells(void)
{
    const struct kv_cells *written = &kv_cells_iq4_nl;
    struct kv_cells made;
    kv_cells_prepare(&made, kv_thresholds_iq4_nl, 15, 1);
    const int same = made.unit == written->unit && made.steps == written->steps &&
                     !memcmp(made.base, written->base, sizeof made.base) &&
                     !memcmp(made.low, written->low, sizeof made.low) &&
                     !memcmp(made.high, written->high, sizeof made.high) &&
                     !memcmp(made.sums, written->sums, sizeof made.sums);
    return same ? NULL : complain("cells of iq4_nl are not those of its thresholds");
}

const char *check_encode_blocks(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .kinds = ALL_KINDS, .variants = KV_BLOCK_FORMATS,
                                    .call = call_encode_blocks};
    const char *why = block_cells();
    if (!why) why = odd_blocks(generic, set);
    return why ? why : check_elements(generic, set, &adapter);
}

/* Whatever the bytes are, halves are finite: those that the cache holds. */
static void call_decode_blocks(const struct kv_kernels *set, const void *in, void *out, size_t n,
                               uint32_t variant, float *results)
{
    const struct kv_block_shape shape = kv_block_shape((enum kv_block_format)variant);
    const size_t bytes = n / KV_BLOCK * shape.bytes;
    struct guarded blocks = guarded_make(bytes, n % 2);
    for (size_t i = 0; i < bytes; i++) blocks.data[i] = ((const uint8_t *)in)[i % n];
    for (size_t b = 0; b < n / KV_BLOCK; b++)
        for (size_t half = 0; half < (shape.minimum ? 2u : 1u); half++)
            blocks.data[b * shape.bytes + 2 * half + 1] &= 0xbb;
    memset(out, 0, 4 * n);
    set->decode_blocks((enum kv_block_format)variant, blocks.data, n / KV_BLOCK, out);
    guarded_free(&blocks);
}

const char *check_decode_blocks(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 1, .out_size = 4, .from_one = 1,
                                    .variants = KV_BLOCK_FORMATS, .below = 256,
                                    .call = call_decode_blocks};
    return check_elements(generic, set, &adapter);
}

static void call_grid_decode(const struct kv_kernels *set, const void *in, void *out, size_t n,
                             uint32_t variant, float *results)
{
    set->grid_decode(in, n, variant ? -65504.0f : -1.7f, variant ? 513.77f : 0.1f, out);
}

const char *check_grid_decode(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 1, .out_size = 4, .variants = 2, .below = 256,
                                    .call = call_grid_decode};
    return check_elements(generic, set, &adapter);
}

/* Grids of three kinds in turn, one without a width; placed against a page. */
static struct guarded make_channels(size_t n)
{
    struct guarded memory = guarded_make(2 * n * sizeof(float), 0);
    float *minima = (float *)(void *)memory.data, *scales = minima + n;
    for (size_t i = 0; i < n; i++) {
        minima[i] = i % 3 == 1 ? -65504.0f : -1.7f;
        scales[i] = i % 5 == 3 ? 0.0f : i % 3 == 1 ? 513.75f : 0.1f;
    }
    return memory;
}

static void call_channel_encode(const struct kv_kernels *set, const void *in, void *out, size_t n,
                                uint32_t variant, float *results)
{
    struct guarded memory = make_channels(n);
    const float *minima = (const float *)(const void *)memory.data;
    set->channel_encode(in, n, minima, minima + n, variant ? 256 : 4, out);
    guarded_free(&memory);
}

const char *check_channel_encode(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 1, .kinds = FINITE_KINDS,
                                    .variants = 2, .call = call_channel_encode};
    return check_elements(generic, set, &adapter);
}

static void call_channel_quotients(const struct kv_kernels *set, const void *in, void *out,
                                   size_t n, uint32_t variant, float *results)
{
    struct guarded memory = make_channels(n), outside = guarded_make(n, 0);
    const float *centers = (const float *)(const void *)memory.data;
    set->channel_quotients(in, n, centers, centers + n, out, outside.data);
    results[0] = digest(outside.data, n);
    results[1] = (float)guarded_intact(&outside);
    guarded_free(&memory);
    guarded_free(&outside);
}

const char *check_channel_quotients(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 4, .kinds = FINITE_KINDS,
                                    .variants = 1, .call = call_channel_quotients};
    return check_elements(generic, set, &adapter);
}

static void call_channel_decode(const struct kv_kernels *set, const void *in, void *out, size_t n,
                                uint32_t variant, float *results)
{
    struct guarded memory = make_channels(n);
    const float *minima = (const float *)(const void *)memory.data;
    set->channel_decode(in, n, minima, minima + n, out);
    guarded_free(&memory);
}

const char *check_channel_decode(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 1, .out_size = 4, .variants = 1, .below = 256,
                                    .call = call_channel_decode};
    return check_elements(generic, set, &adapter);
}

/* x forwards and y backwards: equal ones, zeros of both signs, all quarters. */
static void call_polar(const struct kv_kernels *set, const void *in, void *out, size_t n,
                       uint32_t variant, float *results)
{
    const float *values = in;
    double *radii = out;
    struct guarded memory = guarded_make(2 * n * sizeof(double), 0);
    double *x = (double *)(void *)memory.data, *y = x + n;
    for (size_t i = 0; i < n; i++) x[i] = (double)values[i], y[i] = (double)values[n - 1 - i];
    set->polar(x, y, n, radii, variant ? NULL : radii + n);   /* variant 1: radii alone */
    for (size_t i = n; variant && i < 2 * n; i++) radii[i] = 0;
    guarded_free(&memory);
}

/* Beside the definition of an angle. */
static const char *whole_circle(const struct kv_kernels *set)
{
    enum { POINTS = 720 };
    double x[POINTS], y[POINTS], radii[POINTS], angles[POINTS];
    const double turn = 8 * atan(1);
    for (int i = 0; i < POINTS; i++) {
        x[i] = (i % 7 + 1) * cos(turn * i / POINTS);
        y[i] = (i % 7 + 1) * sin(turn * i / POINTS);
    }
    set->polar(x, y, POINTS, radii, angles);
    for (int i = 0; i < POINTS; i++) {
        const double angle = atan2(y[i], x[i]), off = angles[i] - (angle < 0 ? angle + turn : angle);
        if (!(angles[i] >= 0 && angles[i] < turn) || !(fabs(off) < 4e-15))
            return complain("point %d: angle %.17g, off by %g", i, angles[i], off);
        if (!(fabs(radii[i] - (i % 7 + 1)) < 8e-15)) return complain("point %d: radius %g", i, radii[i]);
    }
    return NULL;
}

const char *check_polar(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 16, .kinds = FINITE_KINDS,
                                    .variants = 2, .call = call_polar};
    const char *why = whole_circle(set);
    return why ? why : check_elements(generic, set, &adapter);
}

static const uint32_t table_sizes[] = {0, 1, 2, 3, 5, 7, 8, 15, 16, 31, 32, 63, 255};

static void call_bucket(const struct kv_kernels *set, const void *in, void *out, size_t n,
                        uint32_t variant, float *results)
{
    /* Thresholds with repetitions, some equal to input values (0, 1.375), placed against a page. */
    const uint32_t n_thresholds = table_sizes[variant];
    struct guarded memory = guarded_make(n_thresholds * sizeof(float), 0);
    float *thresholds = (float *)(void *)memory.data;
    for (uint32_t t = 0; t < n_thresholds; t++)
        thresholds[t] = t % 5 == 4 ? thresholds[t - 1]
                                   : ((float)t - (float)(n_thresholds / 2)) * 0.34375f;
    set->bucket(in, n, thresholds, n_thresholds, out);
    guarded_free(&memory);
}

const char *check_bucket(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 1, .kinds = ALL_KINDS,
                                    .variants = sizeof table_sizes / sizeof *table_sizes,
                                    .call = call_bucket};
    return check_elements(generic, set, &adapter);
}

/* Tables with and without cells of their own: 4-bit codebook, signs, thresholds that are inputs (0, 1.375)
 * or too near each other, out of range, and none. */
static void make_cells(struct kv_cells *cells, uint32_t variant, float *factor)
{
    static const float book[15] = {-2.4008f, -1.8435f, -1.4371f, -1.0993f, -0.7996f, -0.5224f, -0.2582f, 0,
                                   0.2582f,  0.5224f,  0.7996f,  1.0993f,  1.4371f,  1.8435f,  2.4008f};
    static const float grid[9] = {-3, -1.5f, 0, 1.375f, 1.5f, 2.5f, 1000, 2000, 3000};
    static const float twins[3] = {-1, 1, 1.0000001f}, huge[2] = {-1, 1e20f}, zero[1] = {0};
    static const struct {
        const float *thresholds;
        uint32_t n;
        float unit, factor;
    } tables[] = {{book, 15, 11.3137085f, 0.0813f}, {book, 15, 1, 1}, {grid, 6, 1, 1},  {grid, 9, 0.37f, 2.3f},
                  {twins, 3, 1, 1},                 {huge, 2, 1, 1},  {zero, 1, 1, -1}, {zero, 0, 1, 1}};
    kv_cells_prepare(cells, tables[variant].thresholds, tables[variant].n, tables[variant].unit);
    *factor = tables[variant].factor;
}

static void call_cell_codes(const struct kv_kernels *set, const void *in, void *out, size_t n,
                            uint32_t variant, float *results)
{
    struct kv_cells cells;
    float factor;
    make_cells(&cells, variant, &factor);
    set->cell_codes(&cells, in, n, factor, out);
}

/* Every threshold of the codebook, and the floats around it and around where its short cut rounds. */
static void near_each(const struct kv_cells *cells, float x[15 * 16])
{
    for (int i = 0; i < 15 * 16; i++) {
        const float t = cells->thresholds[i / 16], step = (float)(i % 16 / 2 - 4) / (4 * cells->steps);
        x[i] = nextafterf(t + step, i % 2 ? INFINITY : -INFINITY);
        if (i % 16 == 8) x[i] = t;
    }
}

static const char *near_thresholds(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    struct kv_cells cells;
    float factor, x[15 * 16];
    uint8_t ours[15 * 16], theirs[15 * 16];
    make_cells(&cells, 1, &factor);
    if (!(cells.steps > 0)) return complain("the codebook has no cells");
    near_each(&cells, x);
    set->cell_codes(&cells, x, 15 * 16, 1, ours);
    generic->cell_codes(&cells, x, 15 * 16, 1, theirs);
    return memcmp(ours, theirs, sizeof ours) ? complain("codes near thresholds differ") : NULL;
}

const char *check_cell_codes(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 1, .kinds = ALL_KINDS, .variants = 8,
                                    .call = call_cell_codes};
    const char *why = near_thresholds(generic, set);
    return why ? why : check_elements(generic, set, &adapter);
}

/* Bits for as many codes as the table has, and more. */
static void call_pack_cells(const struct kv_kernels *set, const void *in, void *out, size_t n,
                            uint32_t variant, float *results)
{
    static const uint8_t tables[8] = {6, 4, 2, 0, 1, 3, 5, 7};
    struct kv_cells cells;
    float factor;
    make_cells(&cells, tables[variant], &factor);
    set->pack_cells(&cells, &(struct kv_cell_rows){in, &factor, 1, (uint32_t)n, variant + 1, 0}, out);
}

/* Several rows with a factor each, whose bytes are apart or, for the last one, at the end. */
static const char *several_rows(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    enum { ROWS = 5, WIDEST = 300 };
    static const float factors[ROWS] = {0.0813f, 0, 1e30f, -0.5f, 0.09f};
    const uint32_t widths[] = {1, 64, 127, 128, 256, WIDEST};
    struct kv_cells cells;
    float factor, x[ROWS * WIDEST];
    const char *why = NULL;
    make_cells(&cells, 0, &factor);
    fill_floats(x, ROWS * WIDEST, NORMAL, 7);
    for (size_t w = 0; !why && w < sizeof widths / sizeof *widths; w++) {
        const uint32_t bytes = (widths[w] + 1) / 2, apart = bytes + 2;
        const struct kv_cell_rows rows = {x, factors, ROWS, widths[w], 4, apart};
        struct guarded ours = guarded_make((ROWS - 1) * apart + bytes, w);
        struct guarded theirs = guarded_make((ROWS - 1) * apart + bytes, 0);
        memset(ours.data, 0xaa, ours.bytes);
        memset(theirs.data, 0xaa, theirs.bytes);
        set->pack_cells(&cells, &rows, ours.data);
        generic->pack_cells(&cells, &rows, theirs.data);
        if (!guarded_intact(&ours)) why = complain("%u columns: wrote outside", widths[w]);
        else if (memcmp(ours.data, theirs.data, ours.bytes))
            why = complain("%u columns: rows differ from generic", widths[w]);
        guarded_free(&ours);
        guarded_free(&theirs);
    }
    return why;
}

/* What cells leave in doubt, in steps of packed codes as well. */
static const char *packed_near_thresholds(const struct kv_kernels *generic,
                                          const struct kv_kernels *set)
{
    enum { N = 15 * 16 };
    struct kv_cells cells;
    float factor, x[N];
    uint8_t ours[N / 2], theirs[N / 2];
    make_cells(&cells, 1, &factor);
    near_each(&cells, x);
    const struct kv_cell_rows rows = {x, &factor, 1, N, 4, 0};
    set->pack_cells(&cells, &rows, ours);
    generic->pack_cells(&cells, &rows, theirs);
    return memcmp(ours, theirs, sizeof ours) ? complain("packed codes near thresholds differ") : NULL;
}

const char *check_pack_cells(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_bits = 1, .kinds = ALL_KINDS, .variants = 8,
                                    .call = call_pack_cells};
    const char *why = packed_near_thresholds(generic, set);
    if (!why) why = several_rows(generic, set);
    return why ? why : check_elements(generic, set, &adapter);
}

/* The table ends with the largest code that occurs, against a page. */
static void call_lookup(const struct kv_kernels *set, const void *in, void *out, size_t n,
                        uint32_t variant, float *results)
{
    static const uint32_t limits[] = {1, 2, 4, 7, 8, 9, 15, 16, 17, 32, 256};
    const uint8_t *bytes = in;
    uint8_t codes[LENGTHS];
    uint32_t size = 0;
    for (size_t i = 0; i < n; i++) {
        codes[i] = (uint8_t)(bytes[i] % limits[variant]);
        size = codes[i] >= size ? codes[i] + 1u : size;
    }
    struct guarded memory = guarded_make(size * sizeof(float), 0);
    fill_floats((float *)(void *)memory.data, size, OUTLIER, 3);
    set->lookup(codes, n, (const float *)(const void *)memory.data, 0.7f, out);
    guarded_free(&memory);
}

const char *check_lookup(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 1, .out_size = 4, .variants = 11, .below = 256,
                                    .call = call_lookup};
    return check_elements(generic, set, &adapter);
}

/* Every code may occur; the table ends at a page. */
static void call_lookup_packed(const struct kv_kernels *set, const void *in, void *out, size_t n,
                               uint32_t variant, float *results)
{
    const uint32_t bits = variant + 1;
    struct guarded memory = guarded_make(sizeof(float) << bits, 0);
    fill_floats((float *)(void *)memory.data, (size_t)1 << bits, OUTLIER, 3);
    set->lookup_packed(in, n, bits, (const float *)(const void *)memory.data, 0.7f, out);
    guarded_free(&memory);
}

const char *check_lookup_packed(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.out_size = 4, .variants = 8, .below = 256,
                                    .call = call_lookup_packed};
    return check_elements(generic, set, &adapter);
}

static void call_pack_bits(const struct kv_kernels *set, const void *in, void *out, size_t n,
                           uint32_t variant, float *results)
{
    set->pack_bits(in, n, variant + 1, out);
}

const char *check_pack_bits(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 1, .out_bits = 1, .variants = 8, .below = 256,
                                    .call = call_pack_bits};
    return check_elements(generic, set, &adapter);
}

static void call_unpack_bits(const struct kv_kernels *set, const void *in, void *out, size_t n,
                             uint32_t variant, float *results)
{
    set->unpack_bits(in, n, variant + 1, out);
}

const char *check_unpack_bits(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.out_size = 1, .variants = 8, .below = 256,
                                    .call = call_unpack_bits};
    return check_elements(generic, set, &adapter);
}

static void call_sum_squares(const struct kv_kernels *set, const void *in, void *out, size_t n,
                             uint32_t variant, float *results)
{
    results[0] = set->sum_squares(in, n);
}

const char *check_sum_squares(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .kinds = FINITE_KINDS, .variants = 1,
                                    .call = call_sum_squares};
    return check_elements(generic, set, &adapter);
}

static void call_sum_magnitudes(const struct kv_kernels *set, const void *in, void *out, size_t n,
                                uint32_t variant, float *results)
{
    const double sum = set->sum_magnitudes(in, n);
    memcpy(results, &sum, sizeof sum);
}

const char *check_sum_magnitudes(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .kinds = ALL_KINDS, .variants = 1,
                                    .call = call_sum_magnitudes};
    return check_elements(generic, set, &adapter);
}

/* Factors are the same numbers in another order. */
static void call_sum_wide(const struct kv_kernels *set, const void *in, void *out, size_t n,
                          uint32_t variant, float *results)
{
    struct guarded turned = guarded_make(n * sizeof(float), n % 2 * sizeof(float));
    float *factors = (float *)(void *)turned.data;
    for (size_t i = 0; i < n; i++) memcpy(factors + i, (const float *)in + (n - 1 - i), sizeof *factors);
    const double sum = set->sum_wide(in, variant ? factors : NULL, n);
    memcpy(results, &sum, sizeof sum);
    guarded_free(&turned);
}

const char *check_sum_wide(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .kinds = FINITE_KINDS, .variants = 2,
                                    .call = call_sum_wide};
    return check_elements(generic, set, &adapter);
}

static void call_sign_bits(const struct kv_kernels *set, const void *in, void *out, size_t n,
                           uint32_t variant, float *results)
{
    set->sign_bits(in, n, out);
}

const char *check_sign_bits(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .kinds = ALL_KINDS, .variants = 1,
                                    .out_bits = 1, .call = call_sign_bits};
    return check_elements(generic, set, &adapter);
}

/* Beside the angle itself, of lengths on both sides of 2^-60: those below are to be told apart. */
static const char *near_circle(const struct kv_kernels *set)
{
    enum { POINTS = 4099 };
    static double x[POINTS], y[POINTS], radii[POINTS], angles[POINTS];
    static float near[POINTS], sizes[POINTS];
    const double turn = 8 * atan(1);
    for (int i = 0; i < POINTS; i++) {
        const double length = ldexp(1 + i % 5, i % 7 * 26 - 65), angle = turn * (i % 16 ? i : i / 512 * 512) / 4096;
        x[i] = length * cos(angle), y[i] = length * sin(angle);
    }
    set->polar(x, y, POINTS, radii, angles);
    set->near_angles(x, y, POINTS, near, sizes);
    for (int i = 0; i < POINTS; i++) {
        const double size = fabs(x[i]) + fabs(y[i]), off = fabs(fabs((double)near[i] - angles[i]) - turn / 2);
        if (!(fabs((double)sizes[i] - size) <= 0x1p-21 * size + 0x1p-120))
            return complain("size of point %d: %g, not %g", i, (double)sizes[i], size);
        if (sizes[i] > KV_LEAST_SIZE && !(fabs(off - turn / 2) < (double)KV_NEAR_ANGLE))
            return complain("point %d: angle %.9g, not %.9g", i, (double)near[i], angles[i]);
    }
    return NULL;
}

static void call_near_angles(const struct kv_kernels *set, const void *in, void *out, size_t n,
                             uint32_t variant, float *results)
{
    const float *values = in;
    struct guarded memory = guarded_make(2 * n * sizeof(double), 0);
    double *x = (double *)(void *)memory.data, *y = x + n;
    for (size_t i = 0; i < n; i++) x[i] = (double)values[i], y[i] = (double)values[n - 1 - i];
    set->near_angles(x, y, n, out, (float *)out + n);
    guarded_free(&memory);
}

static const char *judge_near_angles(const void *in, const void *out, size_t n, uint32_t variant,
                                     const float *results)
{
    const float *values = in, *angles = out, *sizes = angles + n;
    for (size_t i = 0; i < n; i++) {
        const double x = (double)values[i], y = (double)values[n - 1 - i];
        const double turn = 8 * atan(1), angle = atan2(y, x);
        const double off = fabs((double)angles[i] - (angle < 0 ? angle + turn : angle));
        const int told = sizes[i] > KV_LEAST_SIZE && sizes[i] < 0x1p100f;
        if (told && !(off < (double)KV_NEAR_ANGLE) && !(fabs(off - turn) < (double)KV_NEAR_ANGLE))
            return complain("angle %zu: %.9g, off by %g", i, (double)angles[i], off);
        if (fabs(x) + fabs(y) < 0x1p-61 && sizes[i] > KV_LEAST_SIZE)
            return complain("size %zu: %g", i, (double)sizes[i]);
    }
    return NULL;
}

const char *check_near_angles(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 8, .kinds = FINITE_KINDS, .variants = 1,
                                    .call = call_near_angles, .judge = judge_near_angles};
    const char *why = near_circle(generic);
    if (!why) why = near_circle(set);
    return why ? why : check_elements(generic, set, &adapter);
}

static void call_polar_floats(const struct kv_kernels *set, const void *in, void *out, size_t n,
                              uint32_t variant, float *results)
{
    const float *x = in;
    struct guarded memory = guarded_make(n * sizeof(float), 0);
    float *y = (float *)(void *)memory.data;
    for (size_t i = 0; i < n; i++) y[i] = variant ? x[i] * 0.0f : x[n - 1 - i];
    set->polar_floats(x, y, n, out, (float *)out + n);
    guarded_free(&memory);
}

/* Axes, diagonals, what is a last place beside them, and a million points that are none of these. */
static const char *float_circle(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    enum { POINTS = 64 };
    for (uint32_t round = 0; round < 16384; round++) {
        float x[POINTS], y[POINTS], ours[2][POINTS], theirs[2][POINTS];
        for (uint32_t i = 0; i < POINTS; i++) {
            const uint32_t word = (round * POINTS + i) * 2654435761u;
            x[i] = ldexpf((float)(int32_t)word, (int)(word % 9) * 4 - 32);
            y[i] = round % 4 == 3 ? x[i] : (float)(int32_t)(word * 2246822519u + 1);
            if (round % 8 == 7) y[i] = kv_float_of_bits(kv_bits_of_float(y[i]) + i % 3);
            if (round % 16 == 1) y[i] *= 0x1p-80f;
        }
        set->polar_floats(x, y, POINTS, ours[0], ours[1]);
        generic->polar_floats(x, y, POINTS, theirs[0], theirs[1]);
        for (uint32_t i = 0; i < POINTS; i++)
            if (ours[0][i] != theirs[0][i] || ours[1][i] != theirs[1][i])
                return complain("%.9g, %.9g: angle %.9g, generic %.9g", (double)x[i], (double)y[i],
                                (double)ours[1][i], (double)theirs[1][i]);
    }
    return NULL;
}

const char *check_polar_floats(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const struct adapter adapter = {.in_size = 4, .out_size = 8, .kinds = FINITE_KINDS, .variants = 2,
                                    .call = call_polar_floats};
    const char *why = float_circle(generic, set);
    return why ? why : check_elements(generic, set, &adapter);
}
