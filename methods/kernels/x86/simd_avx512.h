/* AVX-512 words for the shared bodies (bodies.h): one vector is 16 floats (F BW CD DQ VL). */
#ifndef KVBENCH_METHODS_KERNELS_X86_SIMD_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_SIMD_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "methods/kernels/x86/block_bytes.h"
#include "methods/kernels/x86/quads.h"

#ifndef KERNEL
#define KERNEL(name) name##_avx512
#endif
#define WIDE(operation) _mm512_##operation

/* 6 x 64: 24 accumulators, 4 columns, 1 row of the 32 registers. Values need no copy: L2 gives a row
 * of them in the time of six rows' products, wherever it lies. */
enum { LANES = 16, TILE_ROWS = 6, TILE_VECS = 4, STRIP_DEPTH = 256, COPIES_STRIPS = 0,
       HADAMARD_VECS = 16, EXP_VECS = 4, EXP_SUMS = 4, SEARCH_LEVELS = 5 };

typedef __m512 vec;
typedef __m512i vec_int;

static inline vec load(const float *p) { return _mm512_loadu_ps(p); }
static inline void store(float *p, vec v) { _mm512_storeu_ps(p, v); }
static inline vec spread(float x) { return _mm512_set1_ps(x); }
static inline vec zeros(void) { return _mm512_setzero_ps(); }

static inline vec as_floats(vec_int v) { return _mm512_castsi512_ps(v); }
static inline vec_int as_bits(vec v) { return _mm512_castps_si512(v); }
static inline vec_int load_bits(const void *p) { return _mm512_loadu_si512(p); }
static inline void store_bits(void *p, vec_int v) { _mm512_storeu_si512(p, v); }
static inline vec_int and_bits(vec_int a, vec_int b) { return _mm512_and_si512(a, b); }
static inline vec_int difference_bits(vec_int a, vec_int b) { return _mm512_xor_si512(a, b); }

/* Bytes first .. n - 1 of those at p, fewer than a vector. */
static inline void store_bytes_part(uint8_t *p, size_t n, size_t first, vec_int v)
{
    _mm512_mask_storeu_epi8(p + first, ((__mmask64)1 << (n - first)) - 1, v);
}

/* 16 bytes, again and again. */
static inline vec_int repeat_bytes(const void *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p));
}

/* Zeros that are no copy of others: a register that is cleared takes no unit's time, one that is copied
 * may. */
static inline vec zeros_apart(void)
{
    vec v;
    __asm__ volatile("vpxord %x0, %x0, %x0" : "=v"(v));
    return v;
}

/* v, of which the compiler knows nothing from here on. */
static inline vec as_if_changed(vec v)
{
    __asm__ volatile("" : "+v"(v));
    return v;
}

static inline vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec divide(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec fused(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }   /* a b + c */

/* c - a b */
static inline vec fused_minus(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }

static inline vec larger(vec a, vec b) { return _mm512_max_ps(a, b); }    /* b when a is NaN */
static inline vec smaller(vec a, vec b) { return _mm512_min_ps(a, b); }

static inline __mmask16 first_lanes(size_t n) { return (__mmask16)((1u << n) - 1); }

/* The first n <= LANES floats; the other lanes 0. */
static inline vec load_part(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}

static inline void store_part(float *p, size_t n, vec v)
{
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
}

static inline vec magnitude(vec v) { return _mm512_abs_ps(v); }

/* |magnitude| with the sign of v. */
static inline vec with_sign(vec positive, vec v)
{
    return _mm512_or_ps(positive, _mm512_and_ps(spread(-0.0f), v));
}

/* 2^n where n + 127 lies in the low bits of t, see exp.h. */
static inline vec power_of_two_in(vec t)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t), 23));
}

/* 2^(j / 32) where j are the five lowest bits of t, see exp.h. */
static inline vec root_of_two_in(vec t)
{
    static const uint32_t roots[32] = {
        0x3f800000, 0x3f82cd87, 0x3f85aac3, 0x3f88980f, 0x3f8b95c2, 0x3f8ea43a, 0x3f91c3d3,
        0x3f94f4f0, 0x3f9837f0, 0x3f9b8d3a, 0x3f9ef532, 0x3fa27043, 0x3fa5fed7, 0x3fa9a15b,
        0x3fad583f, 0x3fb123f6, 0x3fb504f3, 0x3fb8fbaf, 0x3fbd08a4, 0x3fc12c4d, 0x3fc5672a,
        0x3fc9b9be, 0x3fce248c, 0x3fd2a81e, 0x3fd744fd, 0x3fdbfbb8, 0x3fe0ccdf, 0x3fe5b907,
        0x3feac0c7, 0x3fefe4ba, 0x3ff5257d, 0x3ffa83b3};
    return _mm512_permutex2var_ps(_mm512_loadu_ps(roots), _mm512_castps_si512(t),
                                  _mm512_loadu_ps(roots + 16));
}

/* v 2^floor(n) where y >= limit, else 0. */
static inline vec scaled_unless_below(vec v, vec n, vec y, vec limit)
{
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(y, limit, _CMP_GE_OQ), v, n);
}

/* v where y >= limit, else 0. */
static inline vec unless_below(vec v, vec y, vec limit)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, limit, _CMP_GE_OQ), v);
}

static inline __m256 upper_half(vec v)
{
    return _mm256_castsi256_ps(_mm512_extracti64x4_epi64(_mm512_castps_si512(v), 1));
}

/* Written out, since compilers order the lanes of _mm512_reduce_add_ps as they like. */
static inline float sum_lanes(vec v)
{
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), upper_half(v));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float max_lanes(vec v)
{
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), upper_half(v));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline float min_lanes(vec v)
{
    const __m256 half = _mm256_min_ps(_mm512_castps512_ps256(v), upper_half(v));
    __m128 s = _mm_min_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    s = _mm_min_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_min_ss(s, _mm_movehdup_ps(s)));
}

/* Smallest and largest lane of four vectors each, zeros as +0: what is smallest is looked for as
 * the largest of its opposite, beside the largest. */
static inline void extremes_of_four(const vec low[4], const vec high[4], quad *lows, quad *highs)
{
    vec t[4], u[2];
    for (int i = 0; i < 4; i++) {   /* halves: the opposite of the lowest, the highest */
        const vec below = _mm512_xor_ps(low[i], spread(-0.0f));
        t[i] = larger(_mm512_shuffle_f32x4(below, high[i], 0x44),
                      _mm512_shuffle_f32x4(below, high[i], 0xee));
    }
    for (int i = 0; i < 2; i++)     /* quarters: so of vector 2 i, of 2 i + 1 */
        u[i] = larger(_mm512_shuffle_f32x4(t[2 * i], t[2 * i + 1], 0x88),
                      _mm512_shuffle_f32x4(t[2 * i], t[2 * i + 1], 0xdd));
    vec v = larger(_mm512_shuffle_ps(u[0], u[1], 0x44), _mm512_shuffle_ps(u[0], u[1], 0xee));
    v = larger(v, _mm512_permute_ps(v, 0xb1));
    const __m512i place = _mm512_setr_epi32(0, 8, 2, 10, 4, 12, 6, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256 both = _mm512_castps512_ps256(_mm512_permutexvar_ps(place, v));
    *lows = _mm_sub_ps(_mm_setzero_ps(), _mm256_castps256_ps128(both));
    *highs = _mm_add_ps(_mm_setzero_ps(), _mm256_extractf128_ps(both, 1));
}

/* sums[lane] += lane, in double */
/* Widened on the way from memory, floats need no shuffle. */
static inline void add_doubles(double *sums, vec v)
{
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    _mm512_storeu_pd(sums, _mm512_add_pd(_mm512_loadu_pd(sums), low));
    _mm512_storeu_pd(sums + 8, _mm512_add_pd(_mm512_loadu_pd(sums + 8), high));
}

/* -- 16-bit floats --------------------------------------------------------------------------- */

static inline __m256i load_16(const uint16_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline void store_16(uint16_t *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}

static inline vec load_half(const uint16_t *p) { return _mm512_cvtph_ps(load_16(p)); }

static inline vec load_bfloat(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_16(p)), 16));
}

static inline void store_half(uint16_t *p, vec v)
{
    store_16(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

/* Stores v as halves; what they say. */
static inline vec keep_halves(uint16_t *p, vec v)
{
    const __m256i half = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    store_16(p, half);
    return _mm512_cvtph_ps(half);
}

/* LANES words of each, in turn. */
static inline void store_in_turn(uint16_t *p, const uint16_t *a, const uint16_t *b)
{
    const __m256i low = _mm256_unpacklo_epi16(load_16(a), load_16(b));
    const __m256i high = _mm256_unpackhi_epi16(load_16(a), load_16(b));
    store_16(p, _mm256_permute2x128_si256(low, high, 0x20));
    store_16(p + LANES, _mm256_permute2x128_si256(low, high, 0x31));
}

/* An infinite half becomes the one below it. */
static inline void store_finite_half(uint16_t *p, vec v)
{
    const __m256i half = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    const __m256i size = _mm256_and_si256(half, _mm256_set1_epi16(0x7fff));
    const __mmask16 infinite = _mm256_cmpeq_epi16_mask(size, _mm256_set1_epi16(0x7c00));
    store_16(p, _mm256_mask_sub_epi16(half, infinite, half, _mm256_set1_epi16(1)));
}

/* Adds half an ulp less the last bit that stays; a NaN would overflow and is made quiet instead. */
static inline void store_bfloat(uint16_t *p, vec v)
{
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i high = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16);
    store_16(p, _mm512_cvtepi32_epi16(high));
}

/* -- codes ----------------------------------------------------------------------------------- */

static inline vec_int load_indices(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static inline vec load_codes(const uint8_t *p) { return _mm512_cvtepi32_ps(load_indices(p)); }

static inline void store_counts(uint8_t *p, vec_int v)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(v));
}

/* Floats of 0..255, rounded to nearest even. */
static inline void store_codes(uint8_t *p, vec v) { store_counts(p, _mm512_cvtps_epi32(v)); }

/* Bits that two vectors do not share; of either; whether there are any. */
static inline vec_int difference(vec a, vec b)
{
    return _mm512_xor_si512(_mm512_castps_si512(a), _mm512_castps_si512(b));
}

static inline vec_int either(vec_int a, vec_int b) { return _mm512_or_si512(a, b); }
static inline int any(vec_int v) { return _mm512_test_epi32_mask(v, v) != 0; }

/* Bits of `v`, and those that a and b do not share. */
static inline vec_int or_difference(vec_int v, vec a, vec b)
{
    return _mm512_ternarylogic_epi32(v, _mm512_castps_si512(a), _mm512_castps_si512(b), 0xf6);
}

/* Packing works inside quarters: dwords 0 4 8 12 are the first vector's bytes, and so on. */
static inline __m512i order_dwords(__m512i packed)
{
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, packed);
}

static inline __m256i order_bytes(__m512i packed)
{
    return _mm512_castsi512_si256(order_dwords(packed));
}

/* Floats n + 1.5 * 2^23 with |n| < 2^15 -> 2 LANES codes: n, from 0 to top. */
static inline void store_steps(uint8_t *codes, const vec t[2], uint32_t top)
{
    const __m512i zero = _mm512_set1_epi32(0x4b400000);
    const __m512i words = _mm512_packs_epi32(_mm512_sub_epi32(_mm512_castps_si512(t[0]), zero),
                                             _mm512_sub_epi32(_mm512_castps_si512(t[1]), zero));
    const __m256i bytes = order_bytes(_mm512_packus_epi16(words, words));
    _mm256_storeu_si256((__m256i *)(void *)codes,
                        _mm256_min_epu8(bytes, _mm256_set1_epi8((char)top)));
}

/* Four vectors of dwords -> 64 bytes, saturated. */
static inline __m512i unsigned_bytes(const vec_int n[4])
{
    return order_dwords(
        _mm512_packus_epi16(_mm512_packs_epi32(n[0], n[1]), _mm512_packs_epi32(n[2], n[3])));
}

/* The same of four vectors. */
static inline void store_four_steps(uint8_t *codes, const vec t[4], uint32_t top)
{
    const __m512i zero = _mm512_set1_epi32(0x4b400000);
    __m512i n[4];
    for (int k = 0; k < 4; k++) n[k] = _mm512_sub_epi32(_mm512_castps_si512(t[k]), zero);
    _mm512_storeu_si512(codes, _mm512_min_epu8(unsigned_bytes(n), _mm512_set1_epi8((char)top)));
}

static inline vec_int no_counts(void) { return _mm512_setzero_si512(); }

/* A bit for each lane, the first the lowest: a > b. */
static inline uint32_t lanes_above(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}

/* count + (x > threshold) */
static inline vec_int count_above(vec_int count, vec x, vec threshold)
{
    const __mmask16 above = _mm512_cmp_ps_mask(x, threshold, _CMP_GT_OQ);
    return _mm512_mask_add_epi32(count, above, count, _mm512_set1_epi32(1));
}

static inline vec_int twice(vec_int count) { return _mm512_add_epi32(count, count); }

/* table[index] for index < LANES. */
static inline vec pick(vec table, vec_int index) { return _mm512_permutexvar_ps(index, table); }

/* The same where a table of 2^bits entries repeats, index < 2^bits: shuffles inside quarters wait less. */
static inline vec pick_repeated(vec table, vec_int index, uint32_t bits)
{
    return bits <= 2 ? _mm512_permutevar_ps(table, index) : pick(table, index);
}

/* The same from two vectors, index < 2 LANES. */
static inline vec pick_of_two(vec low, vec high, vec_int index)
{
    return _mm512_permutex2var_ps(low, index, high);
}

/* Each lane's number mod 2^bits. */
static inline vec_int lane_numbers(uint32_t bits)
{
    return _mm512_and_si512(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                            _mm512_set1_epi32((1 << bits) - 1));
}

/* ((2 m + 1) << shift) - 1 in each lane, m the lane's number mod 2^level: see KERNEL(bucket). */
static inline vec_int threshold_places(uint32_t level, uint32_t shift)
{
    const __m512i m = lane_numbers(level);
    const __m512i odd = _mm512_add_epi32(_mm512_add_epi32(m, m), _mm512_set1_epi32(1));
    return _mm512_sub_epi32(_mm512_sll_epi32(odd, _mm_cvtsi32_si128((int)shift)),
                            _mm512_set1_epi32(1));
}

/* -- bits ------------------------------------------------------------------------------------ */

/* 8 codes, one a byte, of `bits` bits -> 8 * bits adjacent bits, and back. */
static inline uint64_t gather_bits(uint64_t codes, uint32_t bits)
{
    return _pext_u64(codes, 0x0101010101010101u * ((1u << bits) - 1));
}

static inline uint64_t spread_bits(uint64_t packed, uint32_t bits)
{
    return _pdep_u64(packed, 0x0101010101010101u * ((1u << bits) - 1));
}

/* 32 rows of a rotation in four chains of half vectors, whose sums wait less for each other than those
 * of whole ones. */
static inline void rotate_halves(const float *matrix, uint32_t rows, uint32_t columns,
                                 const float *x, float *out)
{
    __m256 sums[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                      _mm256_setzero_ps()};
    for (uint32_t c = 0; c < columns; c++, matrix += rows)
        for (int k = 0; k < 4; k++)
            sums[k] = _mm256_add_ps(
                sums[k], _mm256_mul_ps(_mm256_loadu_ps(matrix + 8 * k), _mm256_set1_ps(x[c])));
    for (int k = 0; k < 4; k++) _mm256_storeu_ps(out + 8 * k, sums[k]);
}

/* -- moves inside a vector ------------------------------------------------------------------- */

/* 1 and -1 by turns of 1, 2, 4 and 8. In memory: gcc would make them out of masks, in every transform. */
static const float butterfly_signs[4][LANES] __attribute__((aligned(64))) = {
    {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
    {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
    {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
    {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1}};

/* One step of the Walsh-Hadamard transform: lane i meets lane i ^ span. A product with 1 or -1 is
 * exact, so that the fused operation rounds once, as a sum or a difference does. */
static inline vec butterfly(vec v, uint32_t span)
{
    const __m512 swapped = span == 1 ? _mm512_permute_ps(v, 0xb1)
                         : span == 2 ? _mm512_permute_ps(v, 0x4e)
                         : span == 4 ? _mm512_shuffle_f32x4(v, v, 0xb1)
                                     : _mm512_shuffle_f32x4(v, v, 0x4e);
    const float *signs = butterfly_signs[span == 1 ? 0 : span == 2 ? 1 : span == 4 ? 2 : 3];
    return _mm512_fmadd_ps(v, load(signs), swapped);
}

/* The first step of LANES floats in memory. Loads that repeat values take none of the pipes for
 * arithmetic, a shuffle one of two. Two addresses, since compilers would load one once and shuffle
 * it. */
static inline vec meet_neighbours(const float *x)
{
    const float *again = x;
    __asm__("" : "+r"(again));
    return _mm512_fmadd_ps(_mm512_movehdup_ps(load(again)), load(butterfly_signs[0]),
                           _mm512_moveldup_ps(load(x)));
}

static inline void transpose(vec v[LANES])
{
    vec a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {   /* b[i + k]: column 4 l + k of rows i .. i + 3 in lane l */
        b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int k = 0; k < 4; k++) {
        const vec even = _mm512_shuffle_f32x4(b[k], b[4 + k], 0x88);
        const vec odd = _mm512_shuffle_f32x4(b[k], b[4 + k], 0xdd);
        const vec even2 = _mm512_shuffle_f32x4(b[8 + k], b[12 + k], 0x88);
        const vec odd2 = _mm512_shuffle_f32x4(b[8 + k], b[12 + k], 0xdd);
        v[k] = _mm512_shuffle_f32x4(even, even2, 0x88);
        v[4 + k] = _mm512_shuffle_f32x4(odd, odd2, 0x88);
        v[8 + k] = _mm512_shuffle_f32x4(even, even2, 0xdd);
        v[12 + k] = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
    }
}

/* -- llama.cpp's blocks, see blocks_simd.h --------------------------------------------------------- */

/* 32 values cut off, signed. */
static inline void truncate_bytes(uint8_t *bytes, const vec v[2])
{
    const __m512i words =
        _mm512_packs_epi32(_mm512_cvttps_epi32(v[0]), _mm512_cvttps_epi32(v[1]));
    _mm256_storeu_si256((__m256i *)(void *)bytes, order_bytes(_mm512_packs_epi16(words, words)));
}

static inline void read_signed(const uint8_t *bytes, vec v[2])
{
    const __m128i *halves = (const __m128i *)(const void *)bytes;
    v[0] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(halves)));
    v[1] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(halves + 1)));
}

static inline void store_block(float *out, uint32_t k, vec v) { store(out + k * LANES, v); }
static inline vec load_block(const float *x, uint32_t k) { return load(x + k * LANES); }

struct block_levels {
    vec table;
};

static inline struct block_levels block_levels_of(const float table[16])
{
    return (struct block_levels){load(table)};
}

/* Low and high halves of 16 bytes. */
static inline void split_sixteen(const uint8_t *nibbles, vec_int code[2])
{
    const vec_int both = load_indices(nibbles);
    code[0] = _mm512_and_si512(both, _mm512_set1_epi32(15));
    code[1] = _mm512_srli_epi32(both, 4);
}

static inline void read_fours(const uint8_t *nibbles, const struct block_levels *levels, vec v[2])
{
    vec_int code[2];
    split_sixteen(nibbles, code);
    for (int k = 0; k < 2; k++) v[k] = pick(levels->table, code[k]);
}

static inline void read_fives(const uint8_t *at, float zero, vec v[2])
{
    vec_int code[2];
    uint32_t fifths;
    memcpy(&fifths, at, sizeof fifths);
    split_sixteen(at + 4, code);
    for (int k = 0; k < 2; k++) {
        const __mmask16 set = (__mmask16)(fifths >> 16 * k);
        code[k] = _mm512_mask_or_epi32(code[k], set, code[k], _mm512_set1_epi32(16));
        v[k] = sub(_mm512_cvtepi32_ps(code[k]), spread(zero));
    }
}

#endif
