/* The kernels of every SIMD set, written once over a vocabulary of vectors.
 *
 * A set's one .c file includes its words (simd_avx2.h, simd_avx512.h, simd_neon.h: LANES, load and
 * the like), then this file, and exports its table. KERNEL(name) appends the set's name, so that
 * profiles tell the sets apart. Contracts are in kernels.h: "exact" entries use add and mul only,
 * in the order of the generic set; only the others fuse and reassociate. */
#ifndef KVBENCH_METHODS_KERNELS_BODIES_H
#define KVBENCH_METHODS_KERNELS_BODIES_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "methods/kernels/exp.h"
#include "methods/kernels/inlining.h"
#include "methods/kernels/kernels.h"
#include "methods/kernels/sets.h"

enum { PANEL = TILE_VECS * LANES };
enum { LINE = 16 }; /* floats of a cache's line */

/* -- conversions ----------------------------------------------------------------------------- */

static void KERNEL(widen_half)(const uint16_t *in, float *out, size_t n)
{
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        UNROLLED for (uint32_t k = 0; k < 4 * LANES; k += LANES)
            store(out + i + k, load_half(in + i + k));
    for (; i + LANES <= n; i += LANES) store(out + i, load_half(in + i));
    if (i == n) return;
    uint16_t rest[LANES] = {0};
    memcpy(rest, in + i, (n - i) * sizeof *in);
    store_part(out + i, n - i, load_half(rest));
}

static void KERNEL(widen_bfloat)(const uint16_t *in, float *out, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) store(out + i, load_bfloat(in + i));
    if (i == n) return;
    uint16_t rest[LANES] = {0};
    memcpy(rest, in + i, (n - i) * sizeof *in);
    store_part(out + i, n - i, load_bfloat(rest));
}

static void KERNEL(narrow_half)(const float *in, uint16_t *out, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) store_half(out + i, load(in + i));
    if (i == n) return;
    uint16_t rest[LANES];
    store_half(rest, load_part(in + i, n - i));
    memcpy(out + i, rest, (n - i) * sizeof *out);
}

static void KERNEL(narrow_bfloat)(const float *in, uint16_t *out, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) store_bfloat(out + i, load(in + i));
    if (i == n) return;
    uint16_t rest[LANES];
    store_bfloat(rest, load_part(in + i, n - i));
    memcpy(out + i, rest, (n - i) * sizeof *out);
}

/* -- the register tile ----------------------------------------------------------------------- */

/* c [rows][vecs * LANES] = factor * (a b), or c * factors + a b, over `depth` in ascending order: a element is
 * one chain of fused multiply-adds whatever the tile's shape, so that a row's result does not
 * depend on its neighbours. */
struct product {
    const float *a, *b;                    /* [rows][depth], [depth][>= vecs * LANES] */
    float *c;
    size_t a_stride, b_stride, c_stride;   /* floats from row to row */
    size_t depth;
    float factor;
    const float *factors;                  /* [rows], of c's rows; NULL: 1 */
    const float *ahead;                    /* to be fetched, `apart` floats a tile, while c is computed */
    size_t apart;
};

#if HAS_LANE_FACTORS
/* LANES steps of depth at once: one load a row serves them all, where multiplying by a lane of a
 * vector costs no instruction of its own. */
ALWAYS_INLINE void multiply_lanes(const struct product *p, uint32_t rows, uint32_t vecs,
                                  const float *a, const float *b, vec sums[TILE_ROWS][TILE_VECS])
{
    vec factors[TILE_ROWS];
    UNROLLED for (uint32_t r = 0; r < rows; r++) factors[r] = load(a + r * p->a_stride);
    UNROLLED for (uint32_t k = 0; k < LANES; k++) {
        vec columns[TILE_VECS];
        UNROLLED for (uint32_t w = 0; w < vecs; w++)
            columns[w] = load(b + k * p->b_stride + w * LANES);
        UNROLLED for (uint32_t r = 0; r < rows; r++)
            UNROLLED for (uint32_t w = 0; w < vecs; w++)
                sums[r][w] = fused_lane(columns[w], factors[r], k, sums[r][w]);
    }
}
#endif

/* v by a factor; 0, whatever v is, where that is 0. */
ALWAYS_INLINE vec shrunk(vec v, vec factor)
{
    return unless_below(mul(v, factor), factor, spread(FLT_MIN));
}

ALWAYS_INLINE void multiply_tile(const struct product *p, uint32_t rows, uint32_t vecs, int adding)
{
    const float *a = p->a, *b = p->b;
    const size_t a_stride = p->a_stride, b_stride = p->b_stride, c_stride = p->c_stride;
    float *const c = p->c;
    static const float ones[6] = {1, 1, 1, 1, 1, 1};
    const float *const factors = p->factors ? p->factors : ones;
    vec sums[TILE_ROWS][TILE_VECS];
    UNROLLED for (uint32_t r = 0; r < rows; r++)
        UNROLLED for (uint32_t w = 0; w < vecs; w++)
            sums[r][w] = adding ? shrunk(load(c + r * c_stride + w * LANES), spread(factors[r]))
                                : zeros_apart();
    const float *const end = a + p->depth;
#if HAS_LANE_FACTORS
    for (; end - a >= LANES; a += LANES, b += LANES * b_stride)
        multiply_lanes(p, rows, vecs, a, b, sums);
#endif
#if HAS_FOUR_STEPS
    const size_t steps = p->depth / 4 * 4;
    if (rows == TILE_ROWS && vecs == TILE_VECS && steps) {
        vec begin[TILE_ROWS][TILE_VECS];
        if (adding) memcpy(begin, sums, sizeof begin);
        multiply_four_steps(a, a_stride, b, b_stride, steps, adding ? begin : NULL, sums);
        a += steps, b += steps * b_stride;
    }
#endif
    for (; a != end; a++, b += b_stride) {
        vec columns[TILE_VECS];
        UNROLLED for (uint32_t w = 0; w < vecs; w++) columns[w] = load(b + w * LANES);
        UNROLLED for (uint32_t r = 0; r < rows; r++) {
            const vec row = spread(a[r * a_stride]);
            UNROLLED for (uint32_t w = 0; w < vecs; w++)
                sums[r][w] = fused(row, columns[w], sums[r][w]);
        }
    }
    const vec factor = spread(p->factor);
    UNROLLED for (uint32_t r = 0; r < rows; r++)
        UNROLLED for (uint32_t w = 0; w < vecs; w++)
            store(c + r * c_stride + w * LANES, adding ? sums[r][w] : mul(factor, sums[r][w]));
}

/* Sums that the next tile adds to: they come from far when many rows take turns. */
ALWAYS_INLINE void prefetch_sums(const struct product *p, uint32_t rows, uint32_t vecs)
{
    UNROLLED for (uint32_t r = 0; r < TILE_ROWS; r++)
        UNROLLED for (uint32_t c = 0; c < vecs * LANES; c += LINE)
            if (r < rows) __builtin_prefetch(p->c + (TILE_ROWS + r) * p->c_stride + c, 1);
}

/* Where a whole tile takes nearly all registers it is a function of its own: beside the loop over rows
 * gcc 12 keeps addresses in vector registers, and a column of the tile in memory. */
#if TILES_APART
#define WHOLE_TILE static __attribute__((noinline))
#else
#define WHOLE_TILE ALWAYS_INLINE
#endif

WHOLE_TILE void KERNEL(multiply_whole)(const struct product *p)
{
    multiply_tile(p, TILE_ROWS, TILE_VECS, 0);
}

WHOLE_TILE void KERNEL(add_whole)(const struct product *p)
{
    multiply_tile(p, TILE_ROWS, TILE_VECS, 1);
}

/* All rows of a product, TILE_ROWS at a time. */
ALWAYS_INLINE void multiply_rows(struct product p, uint32_t rows, uint32_t vecs, int adding)
{
    for (; rows >= TILE_ROWS; rows -= TILE_ROWS) {
        if (adding) prefetch_sums(&p, rows - TILE_ROWS, vecs);
        for (size_t c = 0; !adding && c < p.apart; c += LINE) __builtin_prefetch(p.ahead + c);
        if (vecs < TILE_VECS) multiply_tile(&p, TILE_ROWS, vecs, adding);
        else if (adding) KERNEL(add_whole)(&p);
        else KERNEL(multiply_whole)(&p);
        p.a += TILE_ROWS * p.a_stride;
        p.c += TILE_ROWS * p.c_stride;
        if (p.apart) p.ahead += p.apart;
        if (p.factors) p.factors += TILE_ROWS;
    }
    _Static_assert(TILE_ROWS == 5 || TILE_ROWS == 6, "one case for each number of rows left");
    switch (rows) {
    case 1: multiply_tile(&p, 1, vecs, adding); break;
    case 2: multiply_tile(&p, 2, vecs, adding); break;
    case 3: multiply_tile(&p, 3, vecs, adding); break;
    case 4: multiply_tile(&p, 4, vecs, adding); break;
    case 5:
        if (TILE_ROWS > 5) multiply_tile(&p, TILE_ROWS - 1, vecs, adding);
        break;
    default: break;
    }
}

/* A product whose columns are `vecs` vectors. */
ALWAYS_INLINE void multiply_strip(const struct product *p, uint32_t rows, uint32_t vecs, int adding)
{
    _Static_assert(TILE_VECS <= 4, "one case for each number of vectors");
    switch (vecs) {
    case 1: multiply_rows(*p, rows, 1, adding); break;
    case 2: multiply_rows(*p, rows, 2, adding); break;
#if WIDE_TILES
    case 3: multiply_rows(*p, rows, 3, adding); break;
    case 4: multiply_rows(*p, rows, 4, adding); break;
#endif
    default: break;
    }
}

/* -- attention ------------------------------------------------------------------------------- */

/* LANES keys from row `first` (zeros past n) into one column group of a panel. */
ALWAYS_INLINE void pack_group(const float *keys, uint32_t n, uint32_t dim, uint32_t first,
                              float *group)
{
    for (uint32_t c = 0; c < dim; c += LANES) {
        const uint32_t width = dim - c < LANES ? dim - c : LANES;
        vec block[LANES];
        UNROLLED for (uint32_t i = 0; i < LANES; i++) {
            const float *key = keys + (size_t)(first + i) * dim + c;
            block[i] = first + i >= n   ? zeros()
                       : width == LANES ? load(key)
                                        : load_part(key, width);
        }
        transpose(block);
        UNROLLED for (uint32_t i = 0; i < LANES; i++)
            if (i < width) store(group + (size_t)(c + i) * PANEL, block[i]);
    }
}

static void KERNEL(pack_keys)(const float *keys, uint32_t n, uint32_t dim, float *panels)
{
    for (uint32_t first = 0; first < n; first += PANEL, panels += (size_t)PANEL * dim)
        for (uint32_t g = 0; g < PANEL; g += LANES)
            pack_group(keys, n, dim, first + g, panels + g);
}

/* Rows come in blocks: those behind these ones are likely next, and are fetched bit by bit. */
static void KERNEL(logits)(const float *queries, uint32_t rows, uint32_t dim, const float *panels,
                           uint32_t columns, float scale, float *logits, uint32_t stride)
{
    const size_t passes = (columns + PANEL - 1) / PANEL, block = rows * (size_t)dim;
    const float *const next = queries + block;
    for (uint32_t first = 0; first < columns; first += PANEL) {
        const struct product p = {.a = queries, .a_stride = dim, .depth = dim,
                                  .b = panels + (size_t)first * dim, .b_stride = PANEL,
                                  .c = logits + first, .c_stride = stride, .factor = scale,
                                  .ahead = next + first / PANEL * (block / passes),
                                  .apart = TILE_ROWS * dim / passes};
        const bool whole = PANEL <= 16 || columns - first >= PANEL; /* columns come in sixteens */
        multiply_strip(&p, rows, whole ? TILE_VECS : (columns - first) / LANES, 0);
    }
}

/* Columns of values that one pass of accumulate works on, copied so that they lie together (rows of
 * a power of two apart would fall into few sets of the L1 cache), padded with 0. */
static void KERNEL(copy_strip)(const float *values, uint32_t dim, uint32_t depth, uint32_t width,
                               float *strip)
{
    for (uint32_t j = 0; j < depth; j++, values += dim, strip += PANEL) {
        uint32_t c = 0;
        for (; c + LANES <= width; c += LANES) store(strip + c, load(values + c));
        if (c < width) store(strip + c, load_part(values + c, width - c));
    }
}

/* A strip whose width is no multiple of LANES: outputs pass through a padded copy. */
static void KERNEL(add_ragged_strip)(struct product p, uint32_t rows, uint32_t width)
{
    float padded[TILE_ROWS * PANEL];
    float *outputs = p.c;
    const size_t stride = p.c_stride;
    for (uint32_t r = 0; r < rows; r += TILE_ROWS) {
        const uint32_t n = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;
        memset(padded, 0, sizeof padded);
        for (uint32_t i = 0; i < n; i++)
            memcpy(padded + i * PANEL, outputs + (r + i) * stride, width * sizeof *padded);
        p.c = padded;
        p.c_stride = PANEL;
        multiply_strip(&p, n, (width + LANES - 1) / LANES, 1);
        for (uint32_t i = 0; i < n; i++)
            memcpy(outputs + (r + i) * stride, padded + i * PANEL, width * sizeof *padded);
        p.a += TILE_ROWS * p.a_stride;
        if (p.factors) p.factors += TILE_ROWS;
    }
}

static void KERNEL(accumulate)(const float *weights, uint32_t rows, uint32_t stride,
                               const float *values, uint32_t n, uint32_t dim, const float *factors,
                               float *outputs, uint32_t apart)
{
    float strip[STRIP_DEPTH * PANEL] __attribute__((aligned(64)));
    for (uint32_t j = 0; j < n; j += STRIP_DEPTH)
        for (uint32_t c = 0; c < dim; c += PANEL) {
            const uint32_t depth = n - j < STRIP_DEPTH ? n - j : STRIP_DEPTH;
            const uint32_t width = dim - c < PANEL ? dim - c : PANEL;
            const float *columns = values + (size_t)j * dim + c;
            struct product p = {.a = weights + j, .a_stride = stride, .depth = depth,
                                .b = columns, .b_stride = dim, .c = outputs + c, .c_stride = apart,
                                .factors = j ? NULL : factors};
            /* Copying pays from about four passes on, if at all. */
            if ((COPIES_STRIPS && dim > PANEL && rows > 4 * TILE_ROWS) || width % LANES) {
                KERNEL(copy_strip)(columns, dim, depth, width, strip);
                p.b = strip;
                p.b_stride = PANEL;
            }
            if (width % LANES) KERNEL(add_ragged_strip)(p, rows, width);
            else multiply_strip(&p, rows, width / LANES, 1);
        }
}

/* r = y - n ln 2 in place of y, and 2^n; exp_series: 1 + r P(r). See exp.h. `many` vectors go step
 * by step beside each other: a step waits for the one before it, and a core that looks few
 * instructions ahead would find nothing else to do. */
ALWAYS_INLINE void exp_reduce(vec *y, vec *powers, uint32_t many)
{
    const vec magic = spread(KV_EXP_MAGIC);
    vec n[EXP_VECS];
    UNROLLED for (uint32_t k = 0; k < many; k++) n[k] = fused(y[k], spread(KV_EXP_INV_LN2), magic);
    UNROLLED for (uint32_t k = 0; k < many; k++) powers[k] = power_of_two_in(n[k]);
    UNROLLED for (uint32_t k = 0; k < many; k++) n[k] = sub(n[k], magic);
    UNROLLED for (uint32_t k = 0; k < many; k++) y[k] = fused_minus(n[k], spread(KV_EXP_LN2), y[k]);
}

ALWAYS_INLINE void exp_series(const vec *r, vec *sums, uint32_t many)
{
    static const float lower[] = {KV_EXP_P2, KV_EXP_P1, KV_EXP_P0, 1.0f};
    UNROLLED for (uint32_t k = 0; k < many; k++) sums[k] =
        fused(spread(KV_EXP_P4), r[k], spread(KV_EXP_P3));
    UNROLLED for (uint32_t i = 0; i < sizeof lower / sizeof *lower; i++)
        UNROLLED for (uint32_t k = 0; k < many; k++) sums[k] =
            fused(sums[k], r[k], spread(lower[i]));
}

/* What exponentials are taken of: x unit + begin, rounded once. */
struct exp_line {
    vec unit, begin;
};

ALWAYS_INLINE struct exp_line less(vec shift) { return (struct exp_line){spread(1.0f), sub(zeros(), shift)}; }

/* Their arguments, at most KV_EXP_HIGHEST where they may be above 0. */
ALWAYS_INLINE void exp_arguments(const vec *x, struct exp_line line, bool below, vec *y, uint32_t many)
{
    UNROLLED for (uint32_t k = 0; k < many; k++) y[k] = fused(x[k], line.unit, line.begin);
    if (below) return;
    UNROLLED for (uint32_t k = 0; k < many; k++) y[k] = smaller(y[k], spread(KV_EXP_HIGHEST));
}

#if !ROOTS
/* Exponentials, or 0 where the argument is too low, in place of x. There both r, which may be no number,
 * and the power become 0. below: no argument is above 0, but for a rounding. */
ALWAYS_INLINE void exp_or_zero(vec *x, struct exp_line line, bool below, uint32_t many)
{
    const vec lowest = spread(KV_EXP_LOWEST);
    vec y[EXP_VECS], powers[EXP_VECS], series[EXP_VECS];
    exp_arguments(x, line, below, y, many);
    UNROLLED for (uint32_t k = 0; k < many; k++) x[k] = y[k];
    exp_reduce(x, powers, many);
    UNROLLED for (uint32_t k = 0; k < many; k++)
    {
        x[k] = unless_below(x[k], y[k], lowest);
        powers[k] = unless_below(powers[k], y[k], lowest);
    }
    exp_series(x, series, many);
    UNROLLED for (uint32_t k = 0; k < many; k++) x[k] = mul(x[k], powers[k]);
    UNROLLED for (uint32_t k = 0; k < many; k++) x[k] = fused(series[k], x[k], powers[k]);
}
#else
/* S of exp.h, which r R is multiplied by. */
ALWAYS_INLINE void root_series(const vec *r, vec *sums, uint32_t many)
{
    static const float fourth[] = {KV_EXP_QUARTER3, KV_EXP_QUARTER2, KV_EXP_QUARTER1, 1.0f},
                       thirty_second[] = {0.5f, KV_EXP_ROOT_LINEAR};
    const float *const lower = ROOTS == 4 ? fourth : thirty_second;
    _Static_assert(ROOTS == 4 || ROOTS == 32, "a series for each number of roots");
    UNROLLED for (uint32_t k = 0; k < many; k++) sums[k] = fused(spread(lower[0]), r[k], spread(lower[1]));
    UNROLLED for (uint32_t i = 2; i < (ROOTS == 4 ? 4 : 2); i++)
        UNROLLED for (uint32_t k = 0; k < many; k++) sums[k] = fused(sums[k], r[k], spread(lower[i]));
}

/* The same by the table of roots; n counts in parts of ROOTS. */
ALWAYS_INLINE void exp_or_zero(vec *x, struct exp_line line, bool below, uint32_t many)
{
    const vec lowest = spread(KV_EXP_LOWEST), magic = spread(KV_EXP_ROOT_MAGIC(ROOTS));
    vec y[EXP_VECS], n[EXP_VECS], roots[EXP_VECS], series[EXP_VECS];
    exp_arguments(x, line, below, y, many);
    UNROLLED for (uint32_t k = 0; k < many; k++) n[k] = fused(y[k], spread(KV_EXP_INV_LN2), magic);
    UNROLLED for (uint32_t k = 0; k < many; k++) roots[k] = root_of_two_in(n[k]);
    UNROLLED for (uint32_t k = 0; k < many; k++) n[k] = sub(n[k], magic);
    UNROLLED for (uint32_t k = 0; k < many; k++) x[k] = fused_minus(n[k], spread(KV_EXP_LN2), y[k]);
    root_series(x, series, many);
    UNROLLED for (uint32_t k = 0; k < many; k++) x[k] = mul(x[k], roots[k]);
    UNROLLED for (uint32_t k = 0; k < many; k++) x[k] = fused(series[k], x[k], roots[k]);
    UNROLLED for (uint32_t k = 0; k < many; k++) x[k] =
        scaled_unless_below(x[k], n[k], y[k], lowest);
}
#endif

/* `many` vectors from x on become exponentials and enter a sum each. */
ALWAYS_INLINE void exp_vectors(float *x, struct exp_line line, bool below, uint32_t many, vec *sums)
{
    vec e[EXP_VECS];
    UNROLLED for (uint32_t k = 0; k < many; k++) e[k] = load(x + k * LANES);
    exp_or_zero(e, line, below, many);
    UNROLLED for (uint32_t k = 0; k < many; k++)
    {
        store(x + k * LANES, e[k]);
        sums[k] = add(sums[k], e[k]);
    }
}

/* Fewer than four vectors, behind whole fours. Vector k of four enters sum k mod EXP_SUMS. */
ALWAYS_INLINE void exp_rest(float *x, size_t n, struct exp_line line, bool below, vec sums[4])
{
    switch (n / LANES) {
    case 1: exp_vectors(x, line, below, 1, sums); break;
    case 3: exp_vectors(x + 2 * LANES, line, below, 1, sums + 2 % EXP_SUMS); /* fall through */
    case 2: exp_vectors(x, line, below, 2, sums); break;
    default: break;
    }
}

ALWAYS_INLINE void exp_four(float *x, struct exp_line line, bool below, vec sums[4])
{
    UNROLLED for (uint32_t k = 0; k < 4; k += EXP_VECS)
        exp_vectors(x + k * LANES, line, below, EXP_VECS, sums + k % EXP_SUMS);
}

ALWAYS_INLINE float sum_of_four(const vec sums[4])
{
    return sum_lanes(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

static float KERNEL(exp_sum)(float *x, size_t n, float unit, float shift)
{
    const struct exp_line line = {spread(unit), spread(0.0f - shift)};
    vec sums[4] = {zeros(), zeros(), zeros(), zeros()};
    for (; n >= 4 * LANES; n -= 4 * LANES, x += 4 * LANES) exp_four(x, line, false, sums);
    exp_rest(x, n, line, false, sums);
    if (n % LANES) {
        const size_t whole = n / LANES * LANES;
        vec e = load_part(x + whole, n - whole);
        exp_or_zero(&e, line, false, 1);
        float terms[LANES]; /* a part loads faster than it stores */
        store(terms, e);
        UNROLLED for (uint32_t k = 0; k < 4; k++) /* the others would add exp(-shift) */
            if (k == n / LANES) sums[k % EXP_SUMS] = add(sums[k % EXP_SUMS], load_part(terms, n - whole));
        for (size_t i = whole; i < n; i++) x[i] = terms[i - whole];
    }
    return sum_of_four(sums);
}

static float KERNEL(max)(const float *x, size_t n)
{
    float max = -INFINITY;
    size_t i = 0;
    if (n >= LANES) {
        const vec last = load(x + n - LANES);   /* may overlap */
        vec most[4] = {last, last, last, last};
        for (; i + 4 * LANES <= n; i += 4 * LANES)
            UNROLLED for (uint32_t k = 0; k < 4; k++)
                most[k] = larger(most[k], load(x + i + k * LANES));
        for (; i + LANES <= n; i += LANES) most[0] = larger(most[0], load(x + i));
        max = max_lanes(larger(larger(most[0], most[1]), larger(most[2], most[3])));
        i = n;
    }
    for (; i < n; i++) max = x[i] > max ? x[i] : max;
    return max + 0.0f;
}

/* The softmaxes of rows move on to the largest logits that `factors` holds. */
ALWAYS_INLINE void move_softmaxes(const struct kv_softmax *softmax, uint32_t rows)
{
    float *largest = softmax->largest, *factors = softmax->factors;
    for (uint32_t r = 0; r < rows; r += LANES) {
        const uint32_t some = rows - r < LANES ? rows - r : LANES;
        const vec old = load_part(largest + r, some), now = load_part(factors + r, some);
        vec factor = old;
        exp_or_zero(&factor, less(now), true, 1);
        store_part(largest + r, some, now);
        store_part(factors + r, some, factor);
    }
}

/* Weights of a row and their sum; the largest of a later row's logits beside it: that the exponentials
 * of one row wait for its own would leave a core idle that looks no row ahead. */
ALWAYS_INLINE float soften_row(float *x, uint32_t n, struct exp_line line, const float *later, float *most)
{
    vec sums[4] = {zeros(), zeros(), zeros(), zeros()}, top = load(later);
    for (; n >= 4 * LANES; n -= 4 * LANES, x += 4 * LANES, later += 4 * LANES) {
        exp_four(x, line, true, sums);
        UNROLLED for (uint32_t k = 0; k < 4; k++) top = larger(top, load(later + k * LANES));
    }
    exp_rest(x, n, line, true, sums);
    for (uint32_t i = 0; i < n; i += LANES) top = larger(top, load(later + i));
    *most = max_lanes(top);
    return sum_of_four(sums);
}

/* Row r's shift, which moves on only where it must, goes into `factors`; what its weights are exponentials of. */
ALWAYS_INLINE struct exp_line move_to(const struct kv_softmax *softmax, uint32_t r, float most)
{
    const float old = softmax->largest[r], here = most * softmax->unit, now = here > old + KV_SOFT_SLACK ? here : old;
    softmax->factors[r] = now;
    return (struct exp_line){spread(softmax->unit), spread(now > -INFINITY ? -now : 0.0f)};
}

static void KERNEL(soften)(float *x, uint32_t rows, uint32_t stride, uint32_t n,
                           const struct kv_softmax *softmax)
{
    float most = KERNEL(max)(x, n), next = rows > 1 ? KERNEL(max)(x + stride, n) : most;
    for (uint32_t r = 0; r < rows; r++, x += stride) {
        const struct exp_line line = move_to(softmax, r, most);
        most = next;
        softmax->added[r] =
            soften_row(x, n, line, r + 2 < rows ? x + 2 * (size_t)stride : x, &next);
    }
    move_softmaxes(softmax, rows);
}

/* Of a row and the one beside it. */
struct beside_sums {
    vec weights[4], others[4], marked[2], shift;
};

/* `many` vectors of both, whose sums begin at the k-th. */
ALWAYS_INLINE void weigh_both(float *x, const float *y, const struct exp_line lines[2], const float *marked,
                              uint32_t many, uint32_t k, struct beside_sums *sums)
{
    vec a[EXP_VECS], b[EXP_VECS], gap[EXP_VECS];
    UNROLLED for (uint32_t i = 0; i < many; i++)
    {
        a[i] = load(x + i * LANES), b[i] = load(y + i * LANES);
        gap[i] = sub(a[i], b[i]);
    }
    exp_or_zero(a, lines[0], true, many);
    exp_or_zero(b, lines[1], true, many);
    UNROLLED for (uint32_t i = 0; i < many; i++)
    {
        store(x + i * LANES, a[i]);
        sums->weights[(k + i) % EXP_SUMS] = add(sums->weights[(k + i) % EXP_SUMS], a[i]);
        sums->others[(k + i) % EXP_SUMS] = add(sums->others[(k + i) % EXP_SUMS], b[i]);
        sums->shift = fused(unless_below(gap[i], a[i], spread(FLT_MIN)), a[i], sums->shift);
    }
    UNROLLED for (uint32_t i = 0; marked && i < many; i++)
    {
        const vec mark = load(marked + i * LANES);
        sums->marked[0] = fused(mark, a[i], sums->marked[0]);
        sums->marked[1] = fused(mark, b[i], sums->marked[1]);
    }
}

ALWAYS_INLINE void weigh_row_both(float *x, const float *y, uint32_t n, const struct exp_line lines[2],
                                  const float *marked, struct beside_sums *sums)
{
    UNROLLED for (uint32_t k = 0; k < 4; k++) sums->weights[k] = sums->others[k] = zeros();
    sums->shift = sums->marked[0] = sums->marked[1] = zeros();
    for (; n >= 4 * LANES; n -= 4 * LANES, x += 4 * LANES, y += 4 * LANES, marked += marked ? 4 * LANES : 0)
        UNROLLED for (uint32_t k = 0; k < 4; k += EXP_VECS)
            weigh_both(x + k * LANES, y + k * LANES, lines, marked ? marked + k * LANES : marked, EXP_VECS, k, sums);
    UNROLLED for (uint32_t k = 0; k < 3; k++)
        if (n > k * LANES)
            weigh_both(x + k * LANES, y + k * LANES, lines, marked ? marked + k * LANES : marked, 1, k, sums);
}

enum { BESIDE_AHEAD = 8 };   /* rows beside that are prefetched: mostly what is kept for many, out of L2 */

ALWAYS_INLINE bool all_marked(const float *marked, uint32_t n)
{
    vec least = load(marked);
    for (uint32_t i = LANES; i < n; i += LANES) least = smaller(least, load(marked + i));
    return min_lanes(least) > 0;
}

/* The largest logits of a row's successor are found before its weights are: neither waits for the other. */
static void KERNEL(soften_beside)(float *x, uint32_t rows, uint32_t stride, uint32_t n,
                                  const struct kv_softmax *softmax, const struct kv_beside *beside)
{
    const bool all = beside->marked && all_marked(beside->marked, n);
    const float *y = beside->logits, *marked = all ? NULL : beside->marked;
    float most = KERNEL(max)(x, n), others_most = KERNEL(max)(y, n);
    for (uint32_t r = 0; r < rows; r++, x += stride, y += beside->stride) {
        const struct exp_line lines[2] = {move_to(softmax, r, most), move_to(&beside->softmax, r, others_most)};
        struct beside_sums sums;
        for (uint32_t i = 0; r + BESIDE_AHEAD < rows && i < n; i += 16)
            __builtin_prefetch(y + BESIDE_AHEAD * (size_t)beside->stride + i, 0, 3);
        if (r + 1 < rows) most = KERNEL(max)(x + stride, n), others_most = KERNEL(max)(y + beside->stride, n);
        weigh_row_both(x, y, n, lines, marked, &sums);
        softmax->added[r] = sum_of_four(sums.weights);
        beside->softmax.added[r] = sum_of_four(sums.others);
        beside->shifts[r] = sum_lanes(sums.shift) * softmax->unit;
        for (uint32_t k = 0; marked && k < 2; k++) beside->marked_sums[k][r] = sum_lanes(sums.marked[k]);
    }
    for (uint32_t k = 0; all && k < 2; k++)
        memcpy(beside->marked_sums[k], k ? beside->softmax.added : softmax->added, rows * sizeof(float));
    move_softmaxes(softmax, rows);
    move_softmaxes(&beside->softmax, rows);
}

static void KERNEL(scale)(float *x, size_t n, float factor)
{
    const vec by = spread(factor);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) store(x + i, mul(load(x + i), by));
    if (i < n) store_part(x + i, n - i, mul(load_part(x + i, n - i), by));
}

/* Rows whose products enter a column's sum while it is in a register. */
enum { WIDE_ROWS = 4 };

ALWAYS_INLINE void add_wide_rows(const float *x, uint32_t rows, size_t stride, size_t n, const float *factors,
                                 double *sums)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec products[WIDE_ROWS];
        UNROLLED for (uint32_t r = 0; r < rows; r++) products[r] = mul(load(x + r * stride + i), spread(factors[r]));
        UNROLLED for (uint32_t r = 0; r < rows; r++) add_doubles(sums + i, products[r]);
    }
    for (; i < n; i++)
        for (uint32_t r = 0; r < rows; r++) sums[i] += (double)(x[r * stride + i] * factors[r]);
}

static void KERNEL(add_wide)(const float *x, uint32_t rows, size_t stride, size_t n, const float *factors,
                             double *sums)
{
    for (; rows >= WIDE_ROWS; rows -= WIDE_ROWS, x += WIDE_ROWS * stride, factors += WIDE_ROWS)
        add_wide_rows(x, WIDE_ROWS, stride, n, factors, sums);
    for (; rows; rows--, x += stride, factors++) add_wide_rows(x, 1, stride, n, factors, sums);
}

ALWAYS_INLINE vec cap_logits(vec x, vec cap)
{
    const vec z = divide(x, cap), magnitude_z = magnitude(z);
    const vec twice_z = smaller(add(magnitude_z, magnitude_z), spread(KV_TANH_HIGHEST));
    vec power, series, r = twice_z;
    exp_reduce(&r, &power, 1);
    exp_series(&r, &series, 1);
    const vec m = fused(power, mul(r, series), sub(power, spread(1.0f)));
    return with_sign(mul(cap, divide(m, add(m, spread(2.0f)))), z);
}

static void KERNEL(softcap)(float *x, size_t n, float cap)
{
    const vec limit = spread(cap);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) store(x + i, cap_logits(load(x + i), limit));
    if (i < n) store_part(x + i, n - i, cap_logits(load_part(x + i, n - i), limit));
}

static float KERNEL(dot)(const float *a, const float *b, size_t n)
{
    vec sums[4] = {zeros(), zeros(), zeros(), zeros()};
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        UNROLLED for (uint32_t k = 0; k < 4; k++)
            sums[k] = fused(load(a + i + k * LANES), load(b + i + k * LANES), sums[k]);
    for (uint32_t k = 0; i < n; i += LANES, k++) {
        const size_t left = n - i < LANES ? n - i : LANES;
        sums[k] = fused(load_part(a + i, left), load_part(b + i, left), sums[k]);
    }
    return sum_lanes(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

/* -- quantizers ------------------------------------------------------------------------------ */

ALWAYS_INLINE void extremes(const float *x, size_t n, float *min, float *max)
{
    float low = x[0], high = x[0];
    size_t i = 0;
    if (n >= LANES) {
        vec lows = load(x + n - LANES), highs = lows, lows2 = lows, highs2 = lows;
        for (; i + 2 * LANES <= n; i += 2 * LANES) {
            const vec v = load(x + i), w = load(x + i + LANES);
            lows = smaller(lows, v);
            highs = larger(highs, v);
            lows2 = smaller(lows2, w);
            highs2 = larger(highs2, w);
        }
        if (i + LANES <= n) {
            lows = smaller(lows, load(x + i));
            highs = larger(highs, load(x + i));
        }
        low = min_lanes(smaller(lows, lows2));
        high = max_lanes(larger(highs, highs2));
        i = n;
    }
    for (; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *min = low + 0.0f;
    *max = high + 0.0f;
}

static void KERNEL(min_max)(const float *x, size_t n, float *min, float *max)
{
    extremes(x, n, min, max);
}

static void KERNEL(grid_encode)(const float *x, size_t n, float minimum, float scale,
                                uint32_t levels, uint8_t *codes)
{
    if (scale == 0.0f) {
        memset(codes, 0, n);
        return;
    }
    const vec low = spread(minimum), step = spread(scale), top = spread((float)(levels - 1));
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec q = larger(divide(sub(load(x + i), low), step), zeros());
        store_codes(codes + i, smaller(q, top));
    }
    if (i == n) return;
    uint8_t rest[LANES];
    const vec q = larger(divide(sub(load_part(x + i, n - i), low), step), zeros());
    store_codes(rest, smaller(q, top));
    memcpy(codes + i, rest, n - i);
}

static void KERNEL(grid_decode)(const uint8_t *codes, size_t n, float minimum, float scale,
                                float *out)
{
    const vec low = spread(minimum), step = spread(scale);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) store(out + i, add(mul(load_codes(codes + i), step), low));
    if (i == n) return;
    uint8_t rest[LANES] = {0};
    memcpy(rest, codes + i, n - i);
    store_part(out + i, n - i, add(mul(load_codes(rest), step), low));
}

/* Of `many` vectors how many thresholds are below; each threshold serves them all. */
ALWAYS_INLINE void count_thresholds(const vec *v, uint32_t many, const float *thresholds,
                                    uint32_t n_thresholds, vec_int *count)
{
    UNROLLED for (uint32_t k = 0; k < many; k++) count[k] = no_counts();
    for (uint32_t t = 0; t < n_thresholds; t++) {
        const vec threshold = spread(thresholds[t]);
        UNROLLED for (uint32_t k = 0; k < many; k++)
            count[k] = count_above(count[k], v[k], threshold);
    }
}

static void KERNEL(bucket_linear)(const float *x, size_t n, const float *thresholds,
                                  uint32_t n_thresholds, uint8_t *codes)
{
    vec v[4];
    vec_int count[4];
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        UNROLLED for (uint32_t k = 0; k < 4; k++) v[k] = load(x + i + k * LANES);
        count_thresholds(v, 4, thresholds, n_thresholds, count);
        UNROLLED for (uint32_t k = 0; k < 4; k++) store_counts(codes + i + k * LANES, count[k]);
    }
    for (; i < n; i += LANES) {
        const size_t width = n - i < LANES ? n - i : LANES;
        uint8_t rest[LANES];
        v[0] = load_part(x + i, width);
        count_thresholds(v, 1, thresholds, n_thresholds, count);
        store_counts(rest, count[0]);
        memcpy(codes + i, rest, width);
    }
}

/* Vector k of n values, zeros past them. */
ALWAYS_INLINE vec load_some(const float *x, size_t n, uint32_t k)
{
    const size_t at = k * LANES, left = at < n ? n - at : 0;
    return left >= LANES ? load(x + at) : load_part(left ? x + at : x, left);
}

/* Signs of four vectors are whole bytes in every set. */
ALWAYS_INLINE uint64_t four_signs(const vec v[4])
{
    uint64_t word = 0;
    UNROLLED for (uint32_t k = 0; k < 4; k++)
        word |= (uint64_t)lanes_above(v[k], zeros()) << k * LANES;
    return word;
}

static void KERNEL(sign_bits)(const float *x, size_t n, uint8_t *bits)
{
    enum { MANY = 4 * LANES };
    vec v[4];
    for (; n >= MANY; n -= MANY, x += MANY, bits += MANY / 8) {
        UNROLLED for (uint32_t k = 0; k < 4; k++) v[k] = load(x + k * LANES);
        const uint64_t word = four_signs(v);
        memcpy(bits, &word, MANY / 8);
    }
    if (!n) return;
    for (uint32_t k = 0; k < 4; k++) v[k] = load_some(x, n, k);
    const uint64_t word = four_signs(v);
    for (size_t b = 0; 8 * b < n; b++) bits[b] = (uint8_t)(word >> 8 * b);
}

#if HAS_PICK
/* Binary search: after level l the index of the threshold to ask next is the code's first l bits; a
 * level's thresholds fit a vector. Missing ones are +infinity, above which nothing lies. */
ALWAYS_INLINE void search(const vec *x, vec_int *code, const vec *levels, uint32_t depth,
                          uint32_t many)
{
    UNROLLED for (uint32_t k = 0; k < many; k++)
        code[k] = count_above(no_counts(), x[k], levels[0]);
    UNROLLED for (uint32_t l = 1; l < depth; l++)
        UNROLLED for (uint32_t k = 0; k < many; k++)   /* side by side: each level waits for the last */
            code[k] = count_above(twice(code[k]), x[k], pick_repeated(levels[l], code[k], l));
}

ALWAYS_INLINE void search_all(const float *x, size_t n, const vec *levels, uint32_t depth,
                              uint8_t *codes)
{
    vec level[SEARCH_LEVELS], v[4];
    vec_int code[4];
    UNROLLED for (uint32_t l = 0; l < depth; l++) level[l] = levels[l];
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        UNROLLED for (uint32_t k = 0; k < 4; k++) v[k] = load(x + i + k * LANES);
        search(v, code, level, depth, 4);
        UNROLLED for (uint32_t k = 0; k < 4; k++) store_counts(codes + i + k * LANES, code[k]);
    }
    for (; i < n; i += LANES) {
        const size_t width = n - i < LANES ? n - i : LANES;
        uint8_t rest[LANES];
        v[0] = load_part(x + i, width);
        search(v, code, level, depth, 1);
        store_counts(rest, code[0]);
        memcpy(codes + i, rest, width);
    }
}

/* Threshold ((2 m + 1) << (depth - 1 - l)) - 1 in lane m of level l, repeated. A full tree of them
 * is picked out of two vectors. */
ALWAYS_INLINE void search_tables(const float *thresholds, uint32_t n, uint32_t depth, vec *levels)
{
    if (n + 1 == 1u << depth) {
        const vec low = load_part(thresholds, n < LANES ? n : LANES);
        const vec high = n > LANES ? load_part(thresholds + LANES, n - LANES) : zeros();
        for (uint32_t l = 0; l < depth; l++)
            levels[l] = pick_of_two(low, high, threshold_places(l, depth - 1 - l));
        return;
    }
    for (uint32_t l = 0; l < depth; l++) {
        float table[LANES];
        for (uint32_t i = 0; i < LANES; i++) {
            const uint32_t t = ((2 * (i & ((1u << l) - 1)) + 1) << (depth - 1 - l)) - 1;
            table[i] = t < n ? thresholds[t] : INFINITY;
        }
        levels[l] = load(table);
    }
}

static void KERNEL(bucket)(const float *x, size_t n, const float *thresholds,
                           uint32_t n_thresholds, uint8_t *codes)
{
    uint32_t depth = 1;
    while (depth <= SEARCH_LEVELS && n_thresholds >= 1u << depth) depth++;
    if (depth > SEARCH_LEVELS || n_thresholds <= 2) { /* two make no full tree */
        KERNEL(bucket_linear)(x, n, thresholds, n_thresholds, codes);
        return;
    }
    vec levels[SEARCH_LEVELS];
    search_tables(thresholds, n_thresholds, depth, levels);
    switch (depth) {
    case 1: search_all(x, n, levels, 1, codes); break;
    case 2: search_all(x, n, levels, 2, codes); break;
    case 3: search_all(x, n, levels, 3, codes); break;
    case 4: search_all(x, n, levels, 4, codes); break;
    default: search_all(x, n, levels, SEARCH_LEVELS, codes); break;
    }
}

#endif

/* Whether products with the factor keep the order of all floats: no rounding near 0 or infinity. */
static inline bool is_plain_factor(const struct kv_cells *cells, float factor)
{
    const float by = factor * cells->steps, size = by < 0 ? -by : by;
    return size >= 0x1p-60f && size <= 0x1p60f;
}

/* Whether one table of sums serves; see struct kv_cells. */
static inline bool is_short_cut(const struct kv_cells *cells, float factor)
{
    return cells->n <= KV_SUMMED && is_plain_factor(cells, factor);
}

/* Not within its callers, whose frames it would make larger. */
static __attribute__((noinline)) void KERNEL(plain_cell_codes)(const struct kv_cells *cells,
                                                               const float *x, size_t n,
                                                               float factor, uint8_t *codes)
{
    enum { MANY = 64 };
    float y[MANY];
    for (size_t i = 0; i < n; i += MANY) {
        const size_t width = n - i < MANY ? n - i : MANY;
        memcpy(y, x + i, width * sizeof *y);
        KERNEL(scale)(y, width, factor);
        KERNEL(scale)(y, width, cells->unit);
#if HAS_PICK
        KERNEL(bucket)(y, width, cells->thresholds, cells->n, codes + i);
#else
        KERNEL(bucket_linear)(y, width, cells->thresholds, cells->n, codes + i);
#endif
    }
}

#if HAS_PICK
static uint8_t KERNEL(largest_code)(const uint8_t *codes, size_t n)
{
    uint8_t last = 0;
    for (size_t i = 0; i < n; i++) last = codes[i] > last ? codes[i] : last;
    return last;
}

/* Of a table whose entry `last` may be read. Products with the factor are the same before and after
 * the choice. */
ALWAYS_INLINE void look_up_codes(const uint8_t *codes, size_t n, const float *table, uint32_t last,
                                 float factor, float *out)
{
    size_t i = 0;
    const vec by = spread(factor);
    if (n && last < 2 * LANES) {
        const uint32_t upper = last < LANES ? 0 : last + 1 - LANES;
        const vec low = mul(load_part(table, last + 1 - upper), by);
        const vec high = upper ? mul(load_part(table + LANES, upper), by) : zeros();
#if HAS_CODE_WORDS
        float both[2 * LANES];
        store(both, low);
        store(both + LANES, high);
        const struct byte_table bytes = split_table(both);
        for (; i + TABLE_CODES <= n; i += TABLE_CODES) look_up(&bytes, codes + i, out + i);
#endif
        for (; !upper && i + LANES <= n; i += LANES)
            store(out + i, pick(low, load_indices(codes + i)));
        for (; i + LANES <= n; i += LANES)
            store(out + i, pick_of_two(low, high, load_indices(codes + i)));
    }
    for (; i < n; i++) out[i] = table[codes[i]] * factor;
}

/* The table's length is not told, so the largest code decides how much of it may be read. */
static void KERNEL(lookup)(const uint8_t *codes, size_t n, const float *table, float factor,
                           float *out)
{
    look_up_codes(codes, n, table, KERNEL(largest_code)(codes, n), factor, out);
}
#else
ALWAYS_INLINE void look_up_codes(const uint8_t *codes, size_t n, const float *table, uint32_t last,
                                 float factor, float *out)
{
    (void)last;
    for (size_t i = 0; i < n; i++) out[i] = table[codes[i]] * factor;
}
#endif

static void KERNEL(pack_bits)(const uint8_t *codes, size_t n, uint32_t bits, uint8_t *packed)
{
    const uint8_t *end = packed + (n * bits + 7) / 8;
#if HAS_CODE_WORDS
    /* Full words where there is room: later ones overwrite the upper bytes. */
    for (; n >= 8 * CODE_WORDS && end - packed >= (CODE_WORDS - 1) * (ptrdiff_t)bits + 8;
         n -= 8 * CODE_WORDS, codes += 8 * CODE_WORDS) {
        uint64_t words[CODE_WORDS];
        gather_words(codes, bits, words);
        UNROLLED for (uint32_t k = 0; k < CODE_WORDS; k++, packed += bits)
            memcpy(packed, &words[k], 8);
    }
#endif
    for (; n; codes += 8) {
        const size_t width = n < 8 ? n : 8, bytes = (width * bits + 7) / 8;
        uint64_t word = 0;
        if (width == 8) memcpy(&word, codes, 8);
        else memcpy(&word, codes, width);
        word = gather_bits(word, bits);
        /* A full word where there is room: later groups overwrite its upper bytes. */
        if (end - packed >= 8) memcpy(packed, &word, 8);
        else memcpy(packed, &word, bytes);
        packed += bytes;
        n -= width;
    }
}

static void KERNEL(unpack_bits)(const uint8_t *packed, size_t n, uint32_t bits, uint8_t *codes)
{
    const uint8_t *end = packed + (n * bits + 7) / 8;
#if HAS_CODE_WORDS
    for (; n >= 8 * CODE_WORDS && end - packed >= (CODE_WORDS - 1) * (ptrdiff_t)bits + 8;
         n -= 8 * CODE_WORDS, codes += 8 * CODE_WORDS) {
        uint64_t words[CODE_WORDS];
        UNROLLED for (uint32_t k = 0; k < CODE_WORDS; k++, packed += bits)
            memcpy(&words[k], packed, 8);
        spread_words(words, bits, codes);
    }
#endif
    for (; n; codes += 8) {
        const size_t width = n < 8 ? n : 8, bytes = (width * bits + 7) / 8;
        uint64_t word = 0;
        if (end - packed >= 8) memcpy(&word, packed, 8);
        else memcpy(&word, packed, bytes);
        word = spread_bits(word, bits);
        if (width == 8) memcpy(codes, &word, 8);
        else memcpy(codes, &word, width);
        packed += bytes;
        n -= width;
    }
}

/* Packed codes, some at a time: whole bytes. */
enum { SOME_CODES = 64 };

static void KERNEL(lookup_unpacked)(const uint8_t *packed, size_t n, uint32_t bits,
                                    const float *table, float factor, float *out)
{
    uint8_t codes[SOME_CODES];
    for (size_t i = 0; i < n; i += SOME_CODES, packed += SOME_CODES / 8 * bits) {
        const size_t many = n - i < SOME_CODES ? n - i : SOME_CODES;
        KERNEL(unpack_bits)(packed, many, bits, codes);
        look_up_codes(codes, many, table, (1u << bits) - 1, factor, out + i);
    }
}

/* -- transforms ------------------------------------------------------------------------------ */

struct transform {
    const float *x, *factors;   /* NULL: all 1 */
    float *out;
};

/* Sum and difference. */
ALWAYS_INLINE void meet(vec *a, vec *b)
{
    const vec x = *a, y = *b;
    *a = add(x, y);
    *b = sub(x, y);
}

/* All spans of a block that fits the registers. */
ALWAYS_INLINE void transform_block(struct transform at, int has_factors, uint32_t vecs)
{
    vec v[HADAMARD_VECS];
    UNROLLED for (uint32_t i = 0; i < vecs; i++) {
        const float *x = at.x + i * LANES;
        v[i] = has_factors ? butterfly(mul(load(at.factors + i * LANES), load(x)), 1)
                           : meet_neighbours(x);
        UNROLLED for (uint32_t span = 2; span < LANES; span *= 2) v[i] = butterfly(v[i], span);
    }
    UNROLLED for (uint32_t span = 1; span < vecs; span *= 2)
        UNROLLED for (uint32_t i = 0; i < vecs; i++)
            if (!(i & span)) meet(&v[i], &v[i + span]);
    UNROLLED for (uint32_t i = 0; i < vecs; i++) store(at.out + i * LANES, v[i]);
}

ALWAYS_INLINE void transform_vecs(struct transform at, int has_factors, size_t vecs)
{
    _Static_assert(HADAMARD_VECS <= 16, "one case for each power of two");
    switch (vecs) {
    case 1: transform_block(at, has_factors, 1); break;
    case 2: transform_block(at, has_factors, 2); break;
    case 4: transform_block(at, has_factors, 4); break;
    case 8: transform_block(at, has_factors, 8); break;
    default: transform_block(at, has_factors, HADAMARD_VECS); break;
    }
}

/* Spans `span` and 2 span of 4 span floats in one pass over memory. */
ALWAYS_INLINE void transform_quarters(float *x, size_t span)
{
    for (size_t i = 0; i < span; i += LANES) {
        const vec a = load(x + i), b = load(x + span + i);
        const vec c = load(x + 2 * span + i), d = load(x + 3 * span + i);
        const vec ab = add(a, b), a_b = sub(a, b), cd = add(c, d), c_d = sub(c, d);
        store(x + i, add(ab, cd));
        store(x + span + i, add(a_b, c_d));
        store(x + 2 * span + i, sub(ab, cd));
        store(x + 3 * span + i, sub(a_b, c_d));
    }
}

ALWAYS_INLINE void transform_halves(float *x, size_t span)
{
    for (size_t i = 0; i < span; i += LANES) {
        const vec a = load(x + i), b = load(x + span + i);
        store(x + i, add(a, b));
        store(x + span + i, sub(a, b));
    }
}

static void KERNEL(hadamard_small)(struct transform at, size_t n)
{
    float *x = at.out;
    for (size_t i = 0; i < n; i++) x[i] = at.factors ? at.factors[i] * at.x[i] : at.x[i];
    for (size_t span = 1; span < n; span *= 2)
        for (size_t i = 0; i < n; i++)
            if (!(i & span)) {
                const float a = x[i], b = x[i + span];
                x[i] = a + b;
                x[i + span] = a - b;
            }
}

/* Spans from `span` on, which is at least LANES. */
static void KERNEL(wide_spans)(float *x, size_t n, size_t span)
{
    for (; 4 * span <= n; span *= 4)
        for (size_t i = 0; i < n; i += 4 * span) transform_quarters(x + i, span);
    if (span < n) transform_halves(x, span);
}

static void KERNEL(hadamard_row)(const float *x, const float *factors, float *out, size_t n)
{
    struct transform at = {x, factors, out};
    if (n < LANES) {
        KERNEL(hadamard_small)(at, n);
        return;
    }
    const size_t vecs = n < HADAMARD_VECS * LANES ? n / LANES : HADAMARD_VECS;
    size_t span = vecs * LANES;
    for (size_t i = 0; i < n; i += span, at.x += span, at.out += span) {
        if (!factors) {
            transform_vecs(at, 0, vecs);
            continue;
        }
        at.factors = factors + i;
        transform_vecs(at, 1, vecs);
    }
    KERNEL(wide_spans)(out, n, span);
}

static void KERNEL(hadamard)(const float *x, const float *factors, float *out, size_t n, size_t rows)
{
    for (; rows; rows--, x += n, out += n) KERNEL(hadamard_row)(x, factors, out, n);
}

/* Four vectors of rows at a time, each its own chain over the columns. */
ALWAYS_INLINE void rotate_vectors(const float *matrix, uint32_t rows, uint32_t columns,
                                  const float *x, float *out)
{
    vec sums[4] = {zeros(), zeros(), zeros(), zeros()};
    for (uint32_t c = 0; c < columns; c++, matrix += rows) {
        const vec factor = spread(x[c]);
        UNROLLED for (uint32_t k = 0; k < 4; k++)
            sums[k] = add(sums[k], mul(load(matrix + k * LANES), factor));
    }
    UNROLLED for (uint32_t k = 0; k < 4; k++) store(out + k * LANES, sums[k]);
}

static void KERNEL(rotate)(const float *matrix, uint32_t rows, uint32_t columns, const float *x,
                           float *out)
{
    uint32_t r = 0;
    for (; r + 4 * LANES <= rows; r += 4 * LANES)
        rotate_vectors(matrix + r, rows, columns, x, out + r);
#if HAS_HALF_ROTATION
    for (; r + 2 * LANES <= rows; r += 2 * LANES)
        rotate_halves(matrix + r, rows, columns, x, out + r);
#endif
    for (; r < rows; r += LANES) {
        const uint32_t width = rows - r < LANES ? rows - r : LANES;
        vec sum = zeros();
        for (uint32_t c = 0; c < columns; c++)
            sum = add(sum, mul(load_part(matrix + (size_t)c * rows + r, width), spread(x[c])));
        store_part(out + r, width, sum);
    }
}

static float KERNEL(sum_squares)(const float *x, size_t n);

#if LANES_DIVIDE_8
/* The 8 partial sums of the contract are 8 / LANES vectors. */
static float KERNEL(sum_squares)(const float *x, size_t n)
{
    enum { VECS = 8 / LANES };
    vec sums[VECS];
    float s[8], rest[8] = {0};
    UNROLLED for (uint32_t k = 0; k < VECS; k++) sums[k] = zeros();
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        UNROLLED for (uint32_t k = 0; k < VECS; k++) {
            const vec v = load(x + i + k * LANES);
            sums[k] = add(sums[k], mul(v, v));
        }
    if (i < n) {
        memcpy(rest, x + i, (n - i) * sizeof *rest);   /* adding 0 changes no sum of squares */
        UNROLLED for (uint32_t k = 0; k < VECS; k++) {
            const vec v = load(rest + k * LANES);
            sums[k] = add(sums[k], mul(v, v));
        }
    }
    UNROLLED for (uint32_t k = 0; k < VECS; k++) store(s + k * LANES, sums[k]);
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}
#endif

static void KERNEL(hadamard_squares)(const float *x, const float *factors, float *out, size_t n, size_t rows,
                                     float *squares)
{
    KERNEL(hadamard)(x, factors, out, n, rows);
    for (size_t r = 0; r < rows; r++) squares[r] = KERNEL(sum_squares)(x + r * n, n);
}

/* Loads, each an instruction, of a step of the whole tile: vectors of columns, and factors, one or LANES at a time. */
enum { TILE_SUMS = TILE_ROWS * TILE_VECS,
       TILE_LOADS = TILE_VECS + (HAS_LANE_FACTORS ? (TILE_ROWS + LANES - 1) / LANES : TILE_ROWS) };

/* Multiply-adds of as many sums as the tile has, and `others` instructions that do nothing, evenly among them. */
ALWAYS_INLINE double multiply_in_registers(size_t rounds, uint32_t others)
{
    volatile float start = 0x1p-20f;   /* each reading is another number to the compiler */
    const vec factor = spread(start);
    vec sums[TILE_SUMS];
    UNROLLED for (uint32_t k = 0; k < TILE_SUMS; k++) sums[k] = spread(start);
    for (size_t i = 0; i < rounds; i++)
        UNROLLED for (uint32_t k = 0; k < TILE_SUMS; k++) {
            sums[k] = fused(factor, factor, sums[k]);
            if ((k + 1) * others / TILE_SUMS > k * others / TILE_SUMS) __asm__ volatile("nop");
        }
    UNROLLED for (uint32_t k = 1; k < TILE_SUMS; k++) sums[0] = add(sums[0], sums[k]);
    start = sum_lanes(sums[0]);
    return 2.0 * TILE_SUMS * LANES * (double)rounds;
}

static double KERNEL(peak)(size_t rounds)
{
    return multiply_in_registers(rounds, 0);
}

static double KERNEL(issuing_peak)(size_t rounds)
{
    return multiply_in_registers(rounds, TILE_LOADS);
}

static double KERNEL(isolating_peak)(size_t rounds)
{
    volatile float start = 0x1p-20f;
    const vec factor = spread(start);
    vec words = spread(-start), sums[TILE_SUMS];
    UNROLLED for (uint32_t k = 0; k < TILE_SUMS; k++) sums[k] = spread(start);
    for (size_t i = 0; i < rounds; i++)
        UNROLLED for (uint32_t k = 0; k < TILE_SUMS; k++) {
            words = as_if_changed(words);
            sums[k] = fused(magnitude(words), factor, sums[k]);
        }
    UNROLLED for (uint32_t k = 1; k < TILE_SUMS; k++) sums[0] = add(sums[0], sums[k]);
    start = sum_lanes(sums[0]);
    return 2.0 * TILE_SUMS * LANES * (double)rounds;
}

#endif
