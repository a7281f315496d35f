/* Floats as sums of three bfloats, in the tiles that AMX multiplies.
 *
 * x = h + m + l exactly: h is x cut to 8 bits, m the rest rounded to 8, l what is left, 8 bits at most.
 * A product of two floats is then nine of bfloats, each exact in a float; m l, l m and l l, together at most
 * 2^-22 of it, are left out, and so is every part that a whole cell has not: halves have two, bfloats one.
 * Sums are made in floats, some terms at a time, so that fewer roundings meet the whole sum than in a
 * chain of multiply-adds: errors of 64 terms were seen to be .4 of a chain's. Tiles take subnormal
 * operands and results for 0: a product may lose the smallest normal float.
 *
 * A *cell* is 32 rows (or columns) by 32 steps of depth. A pair of words that the hardware multiplies at
 * once holds steps k and k + 16: vectors are split and interleaved without a shuffle. */
#ifndef KVBENCH_METHODS_KERNELS_X86_BFLOAT_CELLS_H
#define KVBENCH_METHODS_KERNELS_X86_BFLOAT_CELLS_H

#include "methods/kernels/inlining.h"
#include "methods/kernels/x86/simd_avx512.h"

enum { CELL = 32, PARTS = 3, TILE_FLOATS = 16 * LANES };

struct cell {
    float part[PARTS][2][TILE_FLOATS]; /* of each half of the rows: [16][32] words, or [16 pairs][32] */
    uint32_t parts, spare[15];         /* how many are not all 0; at least 1 */
} __attribute__((aligned(64)));

/* x + half of a bfloat's last place: its upper half is x rounded. Not for first parts: the largest floats would
 * round to infinity. */
ALWAYS_INLINE vec_int rounded(vec x)
{
    return _mm512_add_epi32(as_bits(x), _mm512_set1_epi32(0x8000));
}

ALWAYS_INLINE vec without(vec x, vec_int rounded_bits)
{
    return sub(x, as_floats(and_bits(rounded_bits, _mm512_set1_epi32((int)0xffff0000))));
}

/* The upper halves of both, a's in the words of even index. */
ALWAYS_INLINE vec_int upper_pairs(vec_int a, vec_int b)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(a, 16), b);
}

/* Steps k and k + 16 of sixteen rows or columns in so many parts; to: their line of the first part's tile.
 * The last part is what is left, and needs no rounding. */
ALWAYS_INLINE void split_pair(vec a, vec b, uint32_t parts, float *to)
{
    for (uint32_t part = 0; part + 1 < parts; part++, to += 2 * TILE_FLOATS) {
        const vec_int upper_a = part ? rounded(a) : as_bits(a), upper_b = part ? rounded(b) : as_bits(b);
        _mm512_store_si512(to, upper_pairs(upper_a, upper_b));
        a = without(a, upper_a), b = without(b, upper_b);
    }
    _mm512_store_si512(to, upper_pairs(as_bits(a), as_bits(b)));
}

/* bits, and those of two vectors. */
ALWAYS_INLINE vec_int merged(vec_int bits, vec a, vec b)
{
    return _mm512_ternarylogic_epi32(bits, as_bits(a), as_bits(b), 0xfe);
}

/* Of floats that have no other bits: a part holds eight of the 24. */
ALWAYS_INLINE uint32_t parts_of(vec_int bits)
{
    if (_mm512_test_epi32_mask(bits, _mm512_set1_epi32(0xff))) return 3;
    return _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0xffff)) ? 2 : 1;
}

/* What a cell is made of: n <= 32 lines, `stride` floats apart, of at most 32 floats each. Lines are rows
 * and floats their steps of depth, or the other way round. */
struct patch {
    const float *x;
    size_t stride;
    uint32_t n;
    __mmask16 early, later; /* floats that are there, of the first sixteen and of the others */
};

ALWAYS_INLINE struct patch patch_of(const float *x, size_t stride, uint32_t n, uint32_t width)
{
    return (struct patch){x, stride, n, first_lanes(width < LANES ? width : LANES),
                          first_lanes(width > LANES ? width - LANES : 0)};
}

/* Sixteen floats of a line; 0 where there is none. */
ALWAYS_INLINE vec half_line(const struct patch *patch, uint32_t line, uint32_t half)
{
    const __mmask16 there = half ? patch->later : patch->early;
    return _mm512_maskz_loadu_ps(line < patch->n ? there : 0, patch->x + line * patch->stride + half * LANES);
}

/* Lines are rows; `factor` NULL: 1. */
ALWAYS_INLINE void split_rows_in(const struct patch *rows, const float *factor, uint32_t parts, struct cell *cell)
{
    float *to = cell->part[0][0];
    for (uint32_t r = 0; r < rows->n; r++, to += LANES) {
        const vec a = half_line(rows, r, 0), b = half_line(rows, r, 1);
        if (factor) split_pair(mul(a, spread(*factor)), mul(b, spread(*factor)), parts, to);
        else split_pair(a, b, parts, to);
    }
    cell->parts = parts;
}

/* A power of two leaves a row's bits as they are; another factor may need all. One row of floats tells enough. */
static uint32_t parts_of_rows(const struct patch *rows, float factor)
{
    const vec_int mantissa = _mm512_set1_epi32(0x7fffff);
    if (_mm512_test_epi32_mask(as_bits(spread(factor)), mantissa)) return PARTS;
    vec_int bits = merged(_mm512_setzero_si512(), half_line(rows, 0, 0), half_line(rows, 0, 1));
    for (uint32_t r = 1; r < rows->n && (r > 1 || parts_of(bits) < PARTS); r++)
        bits = merged(bits, half_line(rows, r, 0), half_line(rows, r, 1));
    return parts_of(bits);
}

ALWAYS_INLINE void split_rows(const struct patch *rows, float factor, struct cell *cell)
{
    switch (parts_of_rows(rows, factor)) {
    case 1: split_rows_in(rows, &factor, 1, cell); break;
    case 2: split_rows_in(rows, &factor, 2, cell); break;
    default: split_rows_in(rows, &factor, PARTS, cell); break;
    }
}

/* Weights nearly always have all parts. */
ALWAYS_INLINE void split_weights(const struct patch *rows, struct cell *cell)
{
    split_rows_in(rows, NULL, PARTS, cell);
}

/* Lines are steps of depth. */
ALWAYS_INLINE void split_columns_in(const struct patch *steps, uint32_t parts, struct cell *cell)
{
    for (uint32_t half = 0; half < 2; half++)
        for (uint32_t k = 0; k < LANES; k++)
            split_pair(half_line(steps, k, half), half_line(steps, k + LANES, half), parts,
                       cell->part[0][half] + k * LANES);
    cell->parts = parts;
}

ALWAYS_INLINE void split_columns(const struct patch *steps, struct cell *cell)
{
    vec_int bits = _mm512_setzero_si512();
    for (uint32_t k = 0; k < CELL; k++)
        bits = merged(bits, half_line(steps, k, 0), half_line(steps, k, 1));
    switch (parts_of(bits)) {
    case 1: split_columns_in(steps, 1, cell); break;
    case 2: split_columns_in(steps, 2, cell); break;
    default: split_columns_in(steps, PARTS, cell); break;
    }
}

#endif
