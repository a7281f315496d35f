/* Floats as sums of three bfloats, in the tiles that AMX multiplies.
 *
 * x = h + m + l exactly: h is x rounded to 8 bits, m the rest so rounded, l what is left, 8 bits at most.
 * A product of two floats is then nine of bfloats, each exact in a float; m l, l m and l l, together below
 * 2^-24 of it, are left out, and so is every part that a whole cell has not: halves have two, bfloats one.
 * Sums are made in floats, some terms at a time, so that fewer roundings meet the whole sum than in a
 * chain of multiply-adds: errors of 64 terms were seen to be .4 of a chain's. Tiles take subnormal
 * operands and results for 0; KV_AMX_LEAST is what a product may lose by that.
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

/* Which bits a cell's second and third parts have. */
struct parts_seen {
    vec_int second, third;
};

/* x + half of a bfloat's last place: its upper half is x rounded. */
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

ALWAYS_INLINE vec_int merged(vec_int a, vec b, vec c)
{
    return _mm512_ternarylogic_epi32(a, as_bits(b), as_bits(c), 0xfe);
}

/* Steps k and k + 16 of sixteen rows or columns; to: their line of the first part's tile. */
ALWAYS_INLINE void split_pair(vec a, vec b, float *to, struct parts_seen *seen)
{
    const vec_int high_a = rounded(a), high_b = rounded(b);
    a = without(a, high_a), b = without(b, high_b);
    const vec_int middle_a = rounded(a), middle_b = rounded(b);
    seen->second = merged(seen->second, a, b);
    a = without(a, middle_a), b = without(b, middle_b);
    seen->third = merged(seen->third, a, b);
    _mm512_store_si512(to, upper_pairs(high_a, high_b));
    _mm512_store_si512(to + 2 * (size_t)TILE_FLOATS, upper_pairs(middle_a, middle_b));
    _mm512_store_si512(to + 4 * (size_t)TILE_FLOATS, upper_pairs(as_bits(a), as_bits(b)));
}

/* -0, which a rest never is unless the part before it is all there is, counts as 0. */
ALWAYS_INLINE void count_parts(struct cell *cell, const struct parts_seen *seen)
{
    const vec_int magnitudes = _mm512_set1_epi32(0x7fffffff);
    const bool second = _mm512_test_epi32_mask(seen->second, magnitudes);
    const bool third = _mm512_test_epi32_mask(seen->third, magnitudes);
    cell->parts = third ? 3 : second ? 2 : 1;
}

ALWAYS_INLINE vec load_some(const float *p, uint32_t n)
{
    return n >= LANES ? load(p) : load_part(p, n);
}

/* `rows` <= 32 rows of `depth` <= 32 steps, `stride` floats apart, times a factor. */
ALWAYS_INLINE void split_rows(const float *x, size_t stride, uint32_t rows, uint32_t depth, float factor,
                              struct cell *cell)
{
    struct parts_seen seen = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    const __mmask16 early = first_lanes(depth < LANES ? depth : LANES);
    const __mmask16 later = first_lanes(depth > LANES ? depth - LANES : 0);
    for (uint32_t r = 0; r < rows; r++, x += stride)
        split_pair(mul(_mm512_maskz_loadu_ps(early, x), spread(factor)),
                   mul(_mm512_maskz_loadu_ps(later, x + LANES), spread(factor)), cell->part[0][0] + r * LANES,
                   &seen);
    count_parts(cell, &seen);
}

/* The same of weights, which nearly always have all parts. */
ALWAYS_INLINE void split_weights(const float *x, size_t stride, uint32_t rows, uint32_t depth, struct cell *cell)
{
    struct parts_seen unused = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    const __mmask16 early = first_lanes(depth < LANES ? depth : LANES);
    const __mmask16 later = first_lanes(depth > LANES ? depth - LANES : 0);
    for (uint32_t r = 0; r < rows; r++, x += stride)
        split_pair(_mm512_maskz_loadu_ps(early, x), _mm512_maskz_loadu_ps(later, x + LANES),
                   cell->part[0][0] + r * LANES, &unused);
    cell->parts = PARTS;
}

/* `columns` <= 32 columns of n <= 32 steps, which lie `stride` floats apart. */
ALWAYS_INLINE void split_columns(const float *x, size_t stride, uint32_t n, uint32_t columns,
                                 struct cell *cell)
{
    struct parts_seen seen = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (uint32_t half = 0; half < 2; half++) {
        const uint32_t first = half * LANES, some = columns > first ? columns - first : 0;
        for (uint32_t k = 0; k < LANES; k++) {
            const float *at = x + k * stride + first;
            split_pair(k < n && some ? load_some(at, some) : zeros(),
                       k + LANES < n && some ? load_some(at + LANES * stride, some) : zeros(),
                       cell->part[0][half] + k * LANES, &seen);
        }
    }
    count_parts(cell, &seen);
}

#endif
