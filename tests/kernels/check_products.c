/* Checks of the kernels with two dimensions: packing, logits, accumulation, transforms. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/status.h"
#include "tests/kernels/checkkern.h"

static const uint32_t dims[] = {1, 2, 3, 5, 8, 15, 16, 17, 24, 64, 72, 80, 96, 128, 192, 256};
static const uint32_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 11, 12, 24, 31};

/* What a product or sum may lose beside its rounding: at most half the smallest subnormal. */
#define LEAST 0x1p-149

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct guarded make_floats(size_t n, size_t slack) { return guarded_make(4 * n, 4 * slack); }

/* Panels by the definition in kernels.h. */
static float panel_element(const float *keys, uint32_t n, uint32_t dim, uint32_t panel, size_t at)
{
    const size_t first = at / ((size_t)panel * dim) * panel, inside = at % ((size_t)panel * dim);
    const size_t key = first + inside % panel;
    return key < n ? keys[key * dim + inside / panel] : 0.0f;
}

const char *check_pack_keys(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const char *why = NULL;
    for (size_t d = 0; d < COUNT(dims) && !why; d++)
        for (uint32_t n = 0; n < 140 && !why; n += n < 70 ? 1 : 9) {
            if (!is_due()) continue;
            const uint32_t panel = set->panel, dim = dims[d];
            const size_t size = (size_t)(n + panel - 1) / panel * panel * dim;
            struct guarded keys = make_floats((size_t)n * dim, n % 16 == 7 ? 5 : 0);
            struct guarded panels = make_floats(size, n % 16 == 9 ? 3 : 0);
            fill_floats(floats_of(&keys), (size_t)n * dim, OUTLIER, n);
            set->pack_keys(floats_of(&keys), n, dim, floats_of(&panels));
            if (!guarded_intact(&panels)) why = complain("wrote outside (n %u, dim %u)", n, dim);
            for (size_t i = 0; i < size && !why; i++)
                if (floats_of(&panels)[i] != panel_element(floats_of(&keys), n, dim, panel, i))
                    why = complain("n %u, dim %u: element %zu", n, dim, i);
            guarded_free(&keys);
            guarded_free(&panels);
        }
    return why;
}

static const char *judge_logits(const float *queries, const float *keys, const float *logits,
                                const uint32_t shape[4], float scale, double least)
{
    const uint32_t rows = shape[0], dim = shape[1], n = shape[2], stride = shape[3];
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t j = 0; j < n; j++) {
            double sum = 0, size = 0;
            for (uint32_t c = 0; c < dim; c++) {
                const double term = (double)queries[r * dim + c] * (double)keys[j * dim + c];
                sum += term;
                size += fabs(term);
            }
            const double error = fabs((double)logits[r * stride + j] - (double)scale * sum);
            if (!(error <= (dim + 2) * (FLT_EPSILON * (double)scale * size + least)))
                return complain("row %u of %u, key %u, dim %u: error %.3g of %.3g", r, rows, j, dim,
                                error, (double)scale * size);
        }
    return NULL;
}

static const char *check_logits_once(const struct kv_kernels *set, uint32_t rows, uint32_t dim,
                                     uint32_t n, enum input_kind kind)
{
    const uint32_t least = set->panel < 16 ? set->panel : 16;
    const uint32_t columns = (n + least - 1) / least * least, stride = columns + 3;
    const uint32_t packed = (n + set->panel - 1) / set->panel * set->panel;
    const float scale = 0.088388f;
    struct guarded queries = make_floats((size_t)rows * dim, rows % 3);
    struct guarded keys = make_floats((size_t)n * dim, 0);
    struct guarded panels = make_floats((size_t)packed * dim, rows % 2);
    struct guarded logits = make_floats((size_t)(rows - 1) * stride + columns, rows % 5);
    const size_t bytes = logits.bytes;
    fill_floats(floats_of(&queries), (size_t)rows * dim, kind, rows);
    fill_floats(floats_of(&keys), (size_t)n * dim, kind, n);
    set->pack_keys(floats_of(&keys), n, dim, floats_of(&panels));
    memset(logits.data, 0x5c, bytes);
    set->logits(floats_of(&queries), rows, dim, floats_of(&panels), columns, scale,
                floats_of(&logits), stride);
    const uint32_t shape[4] = {rows, dim, n, stride};
    const char *why = guarded_intact(&logits) ? NULL : complain("wrote outside");
    if (!why)
        why = judge_logits(floats_of(&queries), floats_of(&keys), floats_of(&logits), shape, scale, LEAST);
    for (uint32_t r = 0; r + 1 < rows && !why; r++)   /* between the rows */
        for (size_t i = 4 * ((size_t)r * stride + columns); i < 4 * (size_t)(r + 1) * stride; i++)
            if (logits.data[i] != 0x5c) why = complain("wrote between rows");
    guarded_free(&queries);
    guarded_free(&keys);
    guarded_free(&panels);
    guarded_free(&logits);
    return why;
}

const char *check_logits(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const char *why = NULL;
    for (int kind = 0; kind < FINITE_KINDS; kind++)
        for (size_t d = 0; d < COUNT(dims); d++)
            for (size_t r = 0; r < COUNT(row_counts); r++) {
                const uint32_t n = 1 + (uint32_t)(37 * r + 11 * d) % 150;
                if (!is_due()) continue;
                why = check_logits_once(set, row_counts[r], dims[d], n, (enum input_kind)kind);
                if (why) return why;
            }
    return NULL;
}

struct sum_shape { uint32_t rows, dim, n, stride, apart; };

/* Of a row; some shapes have none. */
static float factor_of(uint32_t r) { return r % 5 == 4 ? 0.0f : r % 3 ? 0.75f / (float)r : 1.0f; }
static int has_factors(struct sum_shape s) { return s.n % 2; }

static const char *judge_accumulate(const float *weights, const float *values, const float *before,
                                    const float *outputs, struct sum_shape s, double least)
{
    for (uint32_t r = 0; r < s.rows; r++)
        for (uint32_t c = 0; c < s.dim; c++) {
            const float factor = has_factors(s) ? factor_of(r) : 1.0f;
            double sum = factor > 0 ? (double)factor * (double)before[r * s.apart + c] : 0;
            double size = fabs(sum);
            for (uint32_t j = 0; j < s.n; j++) {
                const double term = (double)weights[r * s.stride + j] *
                                    (double)values[(size_t)j * s.dim + c];
                sum += term;
                size += fabs(term);
            }
            const double error = fabs((double)outputs[r * s.apart + c] - sum);
            if (!(error <= (s.n + 2) * (FLT_EPSILON * size + least)))
                return complain("row %u of %u, column %u of %u, n %u: error %.3g of %.3g", r,
                                s.rows, c, s.dim, s.n, error, size);
        }
    return NULL;
}

/* What lies between rows of outputs stays what it is. */
static const char *judge_gaps(const float *before, const float *outputs, struct sum_shape s)
{
    const size_t gap = s.apart - s.dim;
    for (size_t r = 1; r < s.rows; r++)
        if (memcmp(before + r * s.apart - gap, outputs + r * s.apart - gap, gap * sizeof *before))
            return complain("wrote between rows %zu and %zu of %u", r - 1, r, s.rows);
    return NULL;
}

/* How rows meet values: accumulate, or ready_sums behind `first` lines that have no weights. */
enum sums { PLAIN, READY };

static void sum_ready(const struct kv_kernels *set, struct sum_shape s, const float *weights, const float *values,
                      const float *factors, float *outputs)
{
    const uint32_t first = s.n % 3 * 32;
    const size_t size = (size_t)(first + s.n + 31) / 32 * ((s.dim + 31) / 32) * set->ready_cell;
    float *lines = calloc((size_t)(first + s.n) * s.dim + 1, sizeof *lines);
    float *ready = aligned_alloc(64, size * sizeof *ready + 64);
    for (size_t i = 0; i < (size_t)first * s.dim; i++) lines[i] = 1e9f;
    memcpy(lines + (size_t)first * s.dim, values, (size_t)s.n * s.dim * sizeof *lines);
    set->ready_values(lines, first + s.n, s.dim, ready);
    set->ready_sums(weights, s.rows, s.stride, ready, first, s.n, s.dim, factors, outputs);
    free(lines);
    free(ready);
}

static const char *check_accumulate_once(const struct kv_kernels *set, struct sum_shape s,
                                         enum input_kind kind, enum sums how)
{
    const size_t n_weights = s.n ? (size_t)(s.rows - 1) * s.stride + s.n : 0;
    const size_t n_outputs = (size_t)(s.rows - 1) * s.apart + s.dim;
    struct guarded weights = make_floats(n_weights, s.rows % 3);
    struct guarded values = make_floats((size_t)s.n * s.dim, s.rows % 2);
    struct guarded outputs = make_floats(n_outputs, s.rows % 5);
    struct guarded before = make_floats(n_outputs, 0), factors = make_floats(s.rows, 0);
    fill_floats(floats_of(&weights), n_weights, kind, s.rows);
    fill_floats(floats_of(&values), (size_t)s.n * s.dim, kind, s.dim);
    fill_floats(floats_of(&before), n_outputs, kind, s.n);
    memcpy(outputs.data, before.data, outputs.bytes);
    for (uint32_t r = 0; r < s.rows; r++) {
        floats_of(&factors)[r] = factor_of(r);
        for (uint32_t c = 0; has_factors(s) && factor_of(r) == 0 && c < s.dim; c++)
            floats_of(&outputs)[r * s.apart + c] = NAN;
    }
    const float *by = has_factors(s) ? floats_of(&factors) : NULL;
    if (how == READY) sum_ready(set, s, floats_of(&weights), floats_of(&values), by, floats_of(&outputs));
    else
        set->accumulate(floats_of(&weights), s.rows, s.stride, floats_of(&values), s.n, s.dim, by,
                        floats_of(&outputs), s.apart);
    const char *why = guarded_intact(&outputs) ? judge_gaps(floats_of(&before), floats_of(&outputs), s)
                                               : complain("wrote outside");
    if (!why)
        why = judge_accumulate(floats_of(&weights), floats_of(&values), floats_of(&before),
                               floats_of(&outputs), s, how == READY ? (double)set->ready_least : LEAST);
    guarded_free(&weights);
    guarded_free(&values);
    guarded_free(&outputs);
    guarded_free(&before);
    guarded_free(&factors);
    return why;
}

const char *check_accumulate(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    for (int kind = 0; kind < FINITE_KINDS; kind++)
        for (size_t d = 0; d < COUNT(dims); d++)
            for (size_t r = 0; r < COUNT(row_counts); r++) {
                const uint32_t n = (uint32_t)(61 * r + 29 * d) % 300;
                const struct sum_shape shape = {row_counts[r], dims[d], n, n + (uint32_t)d % 7,
                                                dims[d] + (uint32_t)r % 3};
                if (!is_due()) continue;
                const char *why = check_accumulate_once(set, shape, (enum input_kind)kind, PLAIN);
                if (why) return why;
            }
    return NULL;
}

/* -- what is made ready for many rows ----------------------------------------------------------- */

static const uint32_t many_rows[] = {1, 5, 16, 31, 32, 33, 64, 97};

/* The set over those below it, whose panels it takes; false where it makes nothing ready. */
static bool fill_ready(struct kv_kernels *all, const struct kv_kernels *set)
{
    struct kv_error err;
    return set->ready_cell && kv_kernels_fill(all, set->isa, &err) == KV_OK;
}

/* As halves are: of 16 bits, which a product with one of 17 does not have. */
static void shorten(float *x, size_t n)
{
    uint32_t word;
    for (size_t i = 0; i < n; i++) {
        memcpy(&word, x + i, 4);
        word &= 0xffffff00u;
        memcpy(x + i, &word, 4);
    }
}

/* Logits of columns first .. columns - 1, n of them keys. */
static const char *check_ready_once(const struct kv_kernels *set, uint32_t rows, uint32_t dim, uint32_t n,
                                    enum input_kind kind)
{
    const uint32_t columns = (n + 15) / 16 * 16, first = n > 80 ? 32 : 0, stride = columns + 3;
    const uint32_t packed = (n + 63) / 64 * 64, left = columns - first;
    const float scales[] = {0.088388f, 0.09375f, 0.125f}, scale = scales[(rows + n) % 3];
    struct guarded queries = make_floats((size_t)rows * dim, rows % 3), keys = make_floats((size_t)n * dim, 0);
    struct guarded logits = make_floats((size_t)(rows - 1) * stride + left, rows % 5);
    float *panels = calloc((size_t)packed * dim, sizeof *panels);
    float *ready = aligned_alloc(64, (size_t)packed / 32 * ((dim + 31) / 32) * set->ready_cell * sizeof *ready);
    fill_floats(floats_of(&queries), (size_t)rows * dim, kind, rows);
    fill_floats(floats_of(&keys), (size_t)n * dim, kind, n);
    if (dim % 2) shorten(floats_of(&queries), (size_t)rows * dim);
    set->pack_keys(floats_of(&keys), n, dim, panels);
    set->ready_keys(panels, packed, dim, ready);
    memset(logits.data, 0x5c, logits.bytes);
    set->ready_logits(floats_of(&queries), rows, dim, ready, first, left, scale, floats_of(&logits), stride);
    const uint32_t shape[4] = {rows, dim, n - first, stride};
    const char *why = guarded_intact(&logits) ? NULL : complain("wrote outside");
    if (!why)
        why = judge_logits(floats_of(&queries), floats_of(&keys) + (size_t)first * dim, floats_of(&logits), shape,
                           scale, (double)set->ready_least);
    for (uint32_t r = 0; r + 1 < rows && !why; r++)
        for (size_t i = 4 * ((size_t)r * stride + left); i < 4 * (size_t)(r + 1) * stride; i++)
            if (logits.data[i] != 0x5c) why = complain("wrote between rows");
    free(panels);
    free(ready);
    guarded_free(&queries);
    guarded_free(&keys);
    guarded_free(&logits);
    return why;
}

/* The largest floats are no bfloats, and nearest to infinity: parts stay finite. */
static const char *check_ready_largest(const struct kv_kernels *set)
{
    enum { N = 40, DIM = 33, STRIDE = 64 };
    const size_t floats = (size_t)2 * 2 * set->ready_cell;
    float values[N * DIM], panels[64 * DIM] = {0}, queries[DIM], weights[N], outputs[DIM] = {0}, logits[STRIDE];
    float *ready = aligned_alloc(64, floats * sizeof *ready);
    fill_floats(values, N * DIM, NORMAL, 1);
    fill_floats(queries, DIM, NORMAL, 2);
    for (uint32_t j = 0; j < N; j++) weights[j] = 1.0f / N;
    values[0] = FLT_MAX, values[DIM] = -FLT_MAX, values[2 * DIM + 1] = FLT_MAX / 2, values[39 * DIM + 32] = FLT_MAX;
    set->ready_values(values, N, DIM, ready);
    set->ready_sums(weights, 1, N, ready, 0, N, DIM, NULL, outputs);
    float none[DIM] = {0};
    const struct sum_shape shape = {1, DIM, N, N, DIM};
    const char *why = judge_accumulate(weights, values, none, outputs, shape, (double)set->ready_least);
    set->pack_keys(values, N, DIM, panels);
    set->ready_keys(panels, 64, DIM, ready);
    set->ready_logits(queries, 1, DIM, ready, 0, 48, 0x1p-10f, logits, STRIDE);
    const uint32_t sizes[4] = {1, DIM, N, STRIDE};
    if (!why) why = judge_logits(queries, values, logits, sizes, 0x1p-10f, (double)set->ready_least);
    free(ready);
    return why;
}

const char *check_ready_logits(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    struct kv_kernels all;
    const char *why = NULL;
    for (int kind = 0; kind < FINITE_KINDS && fill_ready(&all, set); kind++)
        for (size_t d = 0; d < COUNT(dims) && !why; d++)
            for (size_t r = 0; r < COUNT(many_rows) && !why; r++) {
                const uint32_t n = 1 + (uint32_t)(37 * r + 11 * d) % 150;
                if (is_due()) why = check_ready_once(&all, many_rows[r], dims[d], n, (enum input_kind)kind);
            }
    return why || !set->ready_cell ? why : check_ready_largest(&all);
}

const char *check_ready_sums(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    struct kv_kernels all;
    const char *why = NULL;
    for (int kind = 0; kind < FINITE_KINDS && fill_ready(&all, set); kind++)
        for (size_t d = 0; d < COUNT(dims) && !why; d++)
            for (size_t r = 0; r < COUNT(many_rows) && !why; r++) {
                const uint32_t n = 1 + (uint32_t)(61 * r + 29 * d) % 300;
                const struct sum_shape shape = {many_rows[r], dims[d], n, n + (uint32_t)d % 7, dims[d]};
                if (is_due()) why = check_accumulate_once(&all, shape, (enum input_kind)kind, READY);
            }
    return why;
}

/* Products tell what was made of keys and of values: nobody else reads it. */
const char *check_ready_keys(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    return check_ready_logits(generic, set);
}

const char *check_ready_values(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    return check_ready_sums(generic, set);
}

/* The value of a code, from the description in kernels.h and not from the generic kernel. */
static double stripe_value(const struct kv_stripes *s, uint32_t stripe, uint32_t r, uint32_t c)
{
    static const uint32_t row_bytes[] = {128, 64, 32, 32, 8};
    static const uint32_t together[] = {1, 4, 8, 1, 4};
    const uint32_t rows = together[s->format], filled = (s->depth + rows - 1) / rows * rows;
    const uint8_t *codes = s->codes + (size_t)stripe * filled * row_bytes[s->format];
    const uint32_t row = r / rows * rows * row_bytes[s->format];
    const uint32_t nibble = c < 32 ? codes[row + c % 32] & 15u : codes[row + c % 32] >> 4;
    switch (s->format) {
    case KV_STRIPE_HALF: {
        const uint32_t half = codes[row + 2 * c] | (uint32_t)codes[row + 2 * c + 1] << 8;
        const int exponent = (int)(half >> 10 & 31);
        const double m = half & 1023,
                     magnitude = exponent ? ldexp(1024 + m, exponent - 25) : ldexp(m, -24);
        return half >> 15 ? -magnitude : magnitude;
    }
    case KV_STRIPE_BYTE:
        return codes[row + 4 * c + r % 4];
    case KV_STRIPE_NIBBLE:
        return codes[row + 4 * c + r % 8 / 2] >> 4 * (r % 2) & 15;
    case KV_STRIPE_BOOK:
        return (double)s->table[nibble];
    default:
        return nibble >> r % 4 & 1 ? 1 : -1;
    }
}

static const char *judge_stripes(const struct kv_stripes *s, const float *x, const float *before,
                                 const float *sums)
{
    for (uint32_t i = 0; i < s->n * KV_STRIPE; i++) {
        double sum = (double)before[i], size = fabs(sum);
        for (uint32_t r = 0; r < s->depth; r++) {
            const double term = (double)x[r] * stripe_value(s, i / KV_STRIPE, r, i % KV_STRIPE);
            sum += term;
            size += fabs(term);
        }
        const double error = fabs((double)sums[i] - sum);
        if (error > (s->depth + 8) * (FLT_EPSILON * size + 0x1p-149))
            return complain("format %d, depth %u, %u stripes, column %u: error %.3g of %.3g",
                            (int)s->format, s->depth, s->n, i, error, sum);
    }
    return NULL;
}

/* How x is made uneven beyond its kind. Whole numbers in one unit (stripes_fixed.h, stripes_whole.h)
 * have parts, rows of their own, or leave to floats what is far below the rest. */
enum unevenness { AS_IT_IS, ONE_FAR_BELOW, SOME_BELOW, MOST_BELOW, UNEVEN };

static void make_uneven(float *x, uint32_t depth, enum unevenness how)
{
    if (how == ONE_FAR_BELOW) x[depth / 2] = 0x1p-120f;
    for (uint32_t r = 0; r < depth && how >= SOME_BELOW; r++)
        if (how == SOME_BELOW ? r % 11 == 3 : r % 4) x[r] *= r % 3 ? 0x1p-13f : 0x1p-25f;
}

/* Stripe by stripe, with what the first call made of x, the same sums come as by one call; before: what they are
 * added to. */
static const char *check_kept(const struct kv_kernels *set, const struct kv_stripes *all, const float *x,
                              float *before, const float *sums)
{
    _Alignas(64) static uint8_t kept[KV_STRIPE_KEPT];
    struct kv_stripes one = *all;
    memset(kept, 0, sizeof kept);
    one.n = 1, one.kept = kept;
    for (uint32_t i = 0; i < all->n; i++, one.codes += kv_stripe_bytes(one.format, one.depth))
        set->stripes(&one, x, before + (size_t)i * KV_STRIPE);
    return memcmp(before, sums, (size_t)all->n * KV_STRIPE * sizeof *sums) ? complain("kept tables differ") : NULL;
}

/* Stripes that lie apart give the same sums as side by side; before: what they are added to. */
static const char *check_apart(const struct kv_kernels *set, const struct kv_stripes *all, const float *x,
                               const float *before, const float *sums)
{
    const size_t bytes = kv_stripe_bytes(all->format, all->depth), apart = bytes + 3 * 128;
    const size_t columns = (size_t)all->n * KV_STRIPE;
    struct guarded codes = guarded_make((all->n - 1) * apart + bytes, 0), again = make_floats(columns, 0);
    struct kv_stripes spread = *all;
    fill_bytes(codes.data, codes.bytes, 256, 9);
    for (uint32_t i = 0; i < all->n; i++) memcpy(codes.data + i * apart, all->codes + i * bytes, bytes);
    memcpy(again.data, before, columns * sizeof *before);
    spread.codes = codes.data, spread.apart = apart;
    set->stripes(&spread, x, floats_of(&again));
    const bool same = !memcmp(again.data, sums, columns * sizeof *sums);
    guarded_free(&codes);
    guarded_free(&again);
    return same ? NULL : complain("stripes apart differ");
}

static const char *check_stripes_once(const struct kv_kernels *set, enum kv_stripe_format format,
                                      uint32_t n, uint32_t depth, enum input_kind kind,
                                      enum unevenness how)
{
    const size_t bytes = n * kv_stripe_bytes(format, depth), columns = (size_t)n * KV_STRIPE;
    struct guarded codes = guarded_make(bytes, n % 3), x = make_floats(depth, n % 2);
    struct guarded sums = make_floats(columns, depth % 5), before = make_floats(columns, 0);
    float table[16];
    fill_floats(table, 16, kind == MAX_HALF ? NORMAL : kind, depth);
    fill_bytes(codes.data, bytes, 256, depth + n);
    if (format == KV_STRIPE_HALF) /* no infinities: exponent 31 becomes 15 */
        for (size_t b = 1; b < bytes; b += 2)
            if ((codes.data[b] & 0x7c) == 0x7c) codes.data[b] &= 0xbf;
    fill_floats(floats_of(&x), depth, kind, depth);
    make_uneven(floats_of(&x), depth, how);
    fill_floats(floats_of(&before), columns, kind, n);
    memcpy(sums.data, before.data, sums.bytes);
    const struct kv_stripes stripes = {format, n, depth, codes.data, table, NULL, 0};
    set->stripes(&stripes, floats_of(&x), floats_of(&sums));
    const char *why = guarded_intact(&sums) ? NULL : complain("wrote outside");
    if (!why) why = judge_stripes(&stripes, floats_of(&x), floats_of(&before), floats_of(&sums));
    if (!why) why = check_apart(set, &stripes, floats_of(&x), floats_of(&before), floats_of(&sums));
    if (!why) why = check_kept(set, &stripes, floats_of(&x), floats_of(&before), floats_of(&sums));
    guarded_free(&codes);
    guarded_free(&x);
    guarded_free(&sums);
    guarded_free(&before);
    return why;
}

static const char *check_stripe_depths(const struct kv_kernels *set, enum kv_stripe_format format,
                                       enum input_kind kind)
{
    static const uint32_t depths[] = {4, 8, 64, 80, 128, 260, 780, 1056, 2088, 1, 7, 33, 1023};
    for (size_t d = 0; d < COUNT(depths) - (format == KV_STRIPE_SIGN ? 4 : 0); d++)
        for (uint32_t n = 1; n <= 3; n++)
            for (size_t i = 0; i < 2; i++) {
                const size_t how = i ? 1 + (n + d + (size_t)kind) % (UNEVEN - 1) : AS_IT_IS;
                if (!is_due()) continue;
                const char *why = check_stripes_once(set, format, n, depths[d], kind,
                                                     (enum unevenness)how);
                if (why) return why;
            }
    return NULL;
}

/* One infinite or undefined x: a sum is infinite, or not a number, where the definition's is. */
static const char *check_stripes_beyond(const struct kv_kernels *generic,
                                        const struct kv_kernels *set, enum kv_stripe_format format,
                                        float beyond)
{
    enum { DEPTH = 136 };
    float x[DEPTH], table[16], sums[KV_STRIPE] = {0}, expected[KV_STRIPE] = {0};
    uint8_t codes[128 * DEPTH];
    fill_floats(x, DEPTH, NORMAL, 3);
    fill_floats(table, 16, NORMAL, 4);
    fill_bytes(codes, sizeof codes, format == KV_STRIPE_HALF ? 64 : 256, 5);
    x[DEPTH / 2] = beyond;
    const struct kv_stripes stripes = {format, 1, DEPTH, codes, table, NULL, 0};
    generic->stripes(&stripes, x, expected);
    set->stripes(&stripes, x, sums);
    for (uint32_t c = 0; c < KV_STRIPE; c++)
        if (isnan(expected[c]) ? !isnan(sums[c]) : isinf(expected[c]) && sums[c] != expected[c])
            return complain("format %d, x %g: %g, expected %g", (int)format, (double)beyond,
                            (double)sums[c], (double)expected[c]);
    return NULL;
}

const char *check_stripes(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const char *why = NULL;
    for (int format = 0; format < KV_STRIPE_FORMATS && !why; format++) {
        const enum kv_stripe_format at = (enum kv_stripe_format)format;
        for (int kind = 0; kind < FINITE_KINDS && !why; kind++)
            why = check_stripe_depths(set, at, (enum input_kind)kind);
        if (!why) why = check_stripes_beyond(generic, set, at, INFINITY);
        if (!why) why = check_stripes_beyond(generic, set, at, NAN);
    }
    return why;
}

const char *check_rotate(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const char *why = NULL;
    for (int kind = 0; kind < FINITE_KINDS; kind++)
        for (size_t a = 0; a < COUNT(dims) && !why; a++)
            for (size_t b = 0; b < COUNT(dims) && !why; b++) {
                if (!is_due()) continue;
                const uint32_t rows = dims[a], columns = dims[b];
                struct guarded matrix = make_floats((size_t)rows * columns, b % 3);
                struct guarded x = make_floats(columns, a % 3);
                struct guarded out = make_floats(rows, b % 5), expected = make_floats(rows, 0);
                fill_floats(floats_of(&matrix), (size_t)rows * columns, NORMAL, rows);
                fill_floats(floats_of(&x), columns, (enum input_kind)kind, columns);
                set->rotate(floats_of(&matrix), rows, columns, floats_of(&x), floats_of(&out));
                generic->rotate(floats_of(&matrix), rows, columns, floats_of(&x),
                                floats_of(&expected));
                if (!guarded_intact(&out)) why = complain("wrote outside");
                else if (memcmp(out.data, expected.data, out.bytes))
                    why = complain("%u x %u: bits differ from generic", rows, columns);
                guarded_free(&matrix);
                guarded_free(&x);
                guarded_free(&out);
                guarded_free(&expected);
            }
    return why;
}

/* Rows that lie in the plane of a matrix row's own zeros: exact sums around 0, where the order counts. */
static void fill_near_zero(float *x, uint32_t n, const struct kv_projections *p, uint32_t seed)
{
    fill_floats(x, (size_t)n * p->columns, NORMAL, seed);
    for (uint32_t i = 0; i < n; i++) {
        float *row = x + (size_t)i * p->columns, last;
        double sum = 0;
        for (uint32_t c = 0; c + 1 < p->columns; c++)
            sum += (double)p->matrix[(size_t)c * p->stride + i % p->rows] * (double)row[c];
        last = p->matrix[(size_t)(p->columns - 1) * p->stride + i % p->rows];
        row[p->columns - 1] = last != 0 ? (float)(-sum / (double)last) : 0;
    }
}

static const char *check_project_signs_once(const struct kv_kernels *generic,
                                            const struct kv_kernels *set, struct kv_projections p,
                                            uint32_t n, int kind)
{
    const uint32_t bytes = (p.rows + 7) / 8, apart = bytes + n % 3;
    struct guarded matrix = make_floats((size_t)(p.columns - 1) * p.stride + p.rows, n % 5);
    struct guarded x = make_floats((size_t)n * p.columns, n % 3);
    struct guarded out = guarded_make((size_t)(n - 1) * apart + bytes, n % 7);
    struct guarded expected = guarded_make((size_t)(n - 1) * apart + bytes, 0);
    float *square = floats_of(&matrix);
    const size_t size = (size_t)(p.columns - 1) * p.stride + p.rows;
    fill_floats(square, size, NORMAL, p.rows);
    p.matrix = square;
    for (uint32_t r = 0; r < p.rows; r++) {
        double sum = 0;
        for (uint32_t c = 0; c < p.columns; c++)
            sum += (double)square[(size_t)c * p.stride + r] * (double)square[(size_t)c * p.stride + r];
        if (sqrt(sum) * 1.0001 > (double)p.reach) p.reach = (float)(sqrt(sum) * 1.0001);
    }
    if (kind < ALL_KINDS) fill_floats(floats_of(&x), (size_t)n * p.columns, (enum input_kind)kind, n);
    else fill_near_zero(floats_of(&x), n, &p, n);
    memset(out.data, 0x5c, out.bytes);
    memset(expected.data, 0x5c, out.bytes);
    set->project_signs(&p, floats_of(&x), n, out.data, apart);
    generic->project_signs(&p, floats_of(&x), n, expected.data, apart);
    const char *why = guarded_intact(&out) ? NULL : complain("wrote outside");
    if (!why && memcmp(out.data, expected.data, out.bytes))
        why = complain("%u rows by %u x %u, kind %d: bits differ from generic", n, p.rows, p.columns, kind);
    guarded_free(&matrix);
    guarded_free(&x);
    guarded_free(&out);
    guarded_free(&expected);
    return why;
}

/* Signs are those of rotate, whose sums have an order of their own. */
static const char *signs_of_rotate(const struct kv_kernels *set)
{
    enum { N = 96 };
    static float matrix[N * N];
    float x[N], sums[N];
    uint8_t signs[N / 8];
    const struct kv_projections p = {matrix, N, N, N, 12};
    fill_floats(matrix, N * N, NORMAL, 5);
    fill_near_zero(x, 1, &p, 3);
    set->rotate(matrix, N, N, x, sums);
    set->project_signs(&p, x, 1, signs, 0);
    for (uint32_t r = 0; r < N; r++)
        if ((signs[r / 8] >> r % 8 & 1) != (sums[r] > 0)) return complain("sign %u is not rotate's", r);
    return NULL;
}

const char *check_project_signs(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const char *why = signs_of_rotate(set);
    for (int kind = 0; kind <= ALL_KINDS && !why; kind++) /* the last: fill_near_zero */
        for (size_t a = 0; a < COUNT(dims) && !why; a++)
            for (size_t b = 0; b < COUNT(dims) && !why; b++) {
                if (!is_due()) continue;
                const uint32_t n = row_counts[(a + 3 * b) % COUNT(row_counts)] + (a == b ? 20 : 0);
                const struct kv_projections p = {NULL, dims[a], dims[b], dims[a] + (uint32_t)b % 4, 0};
                why = check_project_signs_once(generic, set, p, n, kind);
            }
    return why;
}

const char *check_hadamard(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const char *why = NULL;
    for (int kind = 0; kind < FINITE_KINDS; kind++)
        for (size_t n = 2; n <= 4096 && !why; n *= 2)
            for (size_t slack = 0; slack < 16 && !why; slack++) {
                if (!is_due()) continue;
                const size_t rows = 1 + slack % 3;
                struct guarded out = make_floats(rows * n, slack), expected = make_floats(rows * n, 0);
                struct guarded factors = make_floats(n, (slack + 5) % 16);
                const float *by = slack % 2 ? floats_of(&factors) : NULL;
                fill_floats(floats_of(&out), rows * n, (enum input_kind)kind, 1);
                fill_floats(floats_of(&factors), n, NORMAL, 2);
                generic->hadamard(floats_of(&out), by, floats_of(&expected), n, rows);
                set->hadamard(floats_of(&out), by, floats_of(&out), n, rows);
                if (!guarded_intact(&out)) why = complain("wrote outside (n %zu)", n);
                else if (memcmp(out.data, expected.data, out.bytes))
                    why = complain("%zu rows of %zu: bits differ from generic", rows, n);
                guarded_free(&out);
                guarded_free(&expected);
                guarded_free(&factors);
            }
    return why;
}

const char *check_hadamard_squares(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const char *why = NULL;
    for (int kind = 0; kind < FINITE_KINDS; kind++)
        for (size_t n = 2; n <= 4096 && !why; n *= 2)
            for (size_t slack = 0; slack < 4 && !why; slack++) {
                if (!is_due()) continue;
                const size_t rows = 1 + slack;
                struct guarded x = make_floats(rows * n, slack), out = make_floats(rows * n, (slack + 3) % 16);
                struct guarded factors = make_floats(n, (slack + 5) % 16), squares = make_floats(rows, slack);
                struct guarded expected = make_floats(rows * n, 0);
                const float *by = slack % 2 ? floats_of(&factors) : NULL;
                fill_floats(floats_of(&x), rows * n, (enum input_kind)kind, 1);
                fill_floats(floats_of(&factors), n, NORMAL, 2);
                generic->hadamard(floats_of(&x), by, floats_of(&expected), n, rows);
                set->hadamard_squares(floats_of(&x), by, floats_of(&out), n, rows, floats_of(&squares));
                if (!guarded_intact(&out) || !guarded_intact(&squares)) why = complain("wrote outside (n %zu)", n);
                else if (memcmp(out.data, expected.data, out.bytes))
                    why = complain("%zu rows of %zu: bits differ from generic", rows, n);
                for (size_t r = 0; r < rows && !why; r++) {
                    const float theirs = generic->sum_squares(floats_of(&x) + r * n, n);
                    if (memcmp(floats_of(&squares) + r, &theirs, sizeof theirs))
                        why = complain("n %zu: squares %a, expected %a", n, floats_of(&squares)[r], theirs);
                }
                guarded_free(&x);
                guarded_free(&out);
                guarded_free(&expected);
                guarded_free(&factors);
                guarded_free(&squares);
            }
    return why;
}

/* Only that it comes back and counts in proportion. */
static const char *check_yardstick(double (*peak)(size_t rounds))
{
    const double one = peak(1), ten = peak(10);
    return one > 0 && ten == 10 * one ? NULL : complain("counts %g and %g", one, ten);
}

const char *check_peak(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    return check_yardstick(set->peak);
}

const char *check_issuing_peak(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    return check_yardstick(set->issuing_peak);
}

const char *check_isolating_peak(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    return check_yardstick(set->isolating_peak);
}

/* Likewise; generic has no ways. */
const char *check_look_up_peak(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    for (int way = 0; way < KV_LOOK_UPS; way++) {
        const double one = set->look_up_peak((enum kv_look_up)way, 1);
        const double ten = set->look_up_peak((enum kv_look_up)way, 10);
        const int none = set->look_up_peak == generic->look_up_peak;
        if (none ? one != 0 || ten != 0 : !(one > 0 && ten == 10 * one))
            return complain("way %d counts %g and %g", way, one, ten);
    }
    return NULL;
}

/* Whole batches count, and no byte outside theirs is touched. */
static const char *check_coding_batch(const struct kv_kernels *set, size_t n, uint32_t bytes,
                                      int none)
{
    const struct kv_coding coding = {5, 3, 66, bytes, n / 4 % 2}; /* n: 100, 256, 412, 568 */
    const size_t whole = none ? 0 : n / KV_CODING * KV_CODING;
    struct guarded halves = guarded_make(n * sizeof(uint16_t), 2);
    struct guarded to = guarded_make(n / KV_CODING * bytes, bytes % 64);
    const double values = set->coding_peak(&coding, (const uint16_t *)(const void *)halves.data, n, to.data);
    const char *why = NULL;
    if (set->coding_peak(&coding, NULL, n, to.data) != values) why = complain("n %zu: no halves", n);
    else if (values != (double)whole) why = complain("n %zu: counts %g", n, values);
    else if (!guarded_intact(&to)) why = complain("n %zu, %u bytes: wrote outside", n, bytes);
    guarded_free(&halves);
    guarded_free(&to);
    return why;
}

const char *check_coding_peak(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    const int none = set->coding_peak == generic->coding_peak;
    const char *why = NULL;
    for (uint32_t bytes = 1; !why && bytes < 600; bytes = bytes * 3 + 1)
        for (size_t n = 100; !why && n < 600; n += 156)
            why = check_coding_batch(set, n, bytes, none);
    return why;
}
