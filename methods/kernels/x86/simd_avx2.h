/* AVX2 words for the shared bodies (bodies.h): one vector is 8 floats. */
#ifndef KVBENCH_METHODS_KERNELS_X86_SIMD_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_SIMD_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "methods/kernels/x86/block_bytes.h"
#include "methods/kernels/x86/quads.h"

#define KERNEL(name) name##_avx2
#define WIDE(operation) _mm256_##operation

/* 6 x 16: 12 accumulators, 2 columns, 1 row of the 16 registers; 16 KiB strips stay in L1. */
enum { LANES = 8, TILE_ROWS = 6, TILE_VECS = 2, STRIP_DEPTH = 256, COPIES_STRIPS = 1,
       HADAMARD_VECS = 8, EXP_VECS = 2, EXP_SUMS = 2, SEARCH_LEVELS = 4 };

typedef __m256 vec;
typedef __m256i vec_int;

static inline vec load(const float *p) { return _mm256_loadu_ps(p); }
static inline void store(float *p, vec v) { _mm256_storeu_ps(p, v); }
static inline vec spread(float x) { return _mm256_set1_ps(x); }
static inline vec zeros(void) { return _mm256_setzero_ps(); }
static inline vec zeros_apart(void) { return zeros(); }

static inline vec as_floats(vec_int v) { return _mm256_castsi256_ps(v); }
static inline vec_int as_bits(vec v) { return _mm256_castps_si256(v); }
static inline vec_int load_bits(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void store_bits(void *p, vec_int v) { _mm256_storeu_si256((__m256i *)p, v); }
static inline vec_int and_bits(vec_int a, vec_int b) { return _mm256_and_si256(a, b); }
static inline vec_int difference_bits(vec_int a, vec_int b) { return _mm256_xor_si256(a, b); }

/* low[0..3] and high[0..3] */
static inline vec load_halves(const float *low, const float *high)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}

/* Bytes first .. n - 1 of those at p, fewer than a vector; some of those before once more. */
static inline void store_bytes_part(uint8_t *p, size_t n, size_t first, vec_int v)
{
    if (n >= sizeof v) store_bits(p + n - sizeof v, v);
    else memcpy(p + first, &v, n - first);
}

/* 16 bytes, again and again. */
static inline vec_int repeat_bytes(const void *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
}

/* v, of which the compiler knows nothing from here on. */
static inline vec as_if_changed(vec v)
{
    __asm__ volatile("" : "+x"(v));
    return v;
}

static inline vec add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec divide(vec a, vec b) { return _mm256_div_ps(a, b); }
static inline vec fused(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }   /* a b + c */

/* c - a b */
static inline vec fused_minus(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }

static inline vec larger(vec a, vec b) { return _mm256_max_ps(a, b); }    /* b when a is NaN */
static inline vec smaller(vec a, vec b) { return _mm256_min_ps(a, b); }

static inline __m256i first_lanes(size_t n)
{
    static const int32_t ramp[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ramp + 8 - n));
}

/* The first n <= LANES floats; the other lanes 0. */
static inline vec load_part(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, first_lanes(n));
}

static inline void store_part(float *p, size_t n, vec v)
{
    _mm256_maskstore_ps(p, first_lanes(n), v);
}

static inline vec magnitude(vec v) { return _mm256_andnot_ps(spread(-0.0f), v); }

/* |magnitude| with the sign of v. */
static inline vec with_sign(vec positive, vec v)
{
    return _mm256_or_ps(positive, _mm256_and_ps(spread(-0.0f), v));
}

/* 2^n where n + 127 lies in the low bits of t, see exp.h. */
static inline vec power_of_two_in(vec t)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23));
}

/* 2^n where 4 n lies in the low bits of t, see exp.h: the lowest two choose a root, less what they add when all are
 * moved to the exponent's place. */
static inline vec root_of_two_in(vec t)
{
    static const uint32_t roots[4] = {0x3f800000, 0x3f7837f0, 0x3f7504f3, 0x3f7744fd};
    const vec table = as_floats(repeat_bytes(roots));
    return as_floats(_mm256_add_epi32(as_bits(_mm256_permutevar_ps(table, as_bits(t))),
                                      _mm256_slli_epi32(as_bits(t), 21)));
}

/* v where y >= limit, else 0. */
static inline vec unless_below(vec v, vec y, vec limit)
{
    return _mm256_and_ps(v, _mm256_cmp_ps(y, limit, _CMP_GE_OQ));
}

/* The same of v that is scaled by 2^n already. */
static inline vec scaled_unless_below(vec v, vec n, vec y, vec limit)
{
    (void)n;
    return unless_below(v, y, limit);
}

static inline float sum_lanes(vec v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float max_lanes(vec v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline float min_lanes(vec v)
{
    __m128 s = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_min_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_min_ss(s, _mm_movehdup_ps(s)));
}

static inline __m128 half_lanes(vec v, int upper)
{
    return upper ? _mm256_extractf128_ps(v, 1) : _mm256_castps256_ps128(v);
}

/* Smallest and largest lane of four vectors each, zeros as +0. */
static inline void extremes_of_four(const vec low[4], const vec high[4], quad *lows, quad *highs)
{
    quad l[4], h[4];
    for (int i = 0; i < 4; i++) {
        l[i] = _mm_min_ps(half_lanes(low[i], 0), half_lanes(low[i], 1));
        h[i] = _mm_max_ps(half_lanes(high[i], 0), half_lanes(high[i], 1));
    }
    quad_transpose(l);
    quad_transpose(h);
    const quad smallest = _mm_min_ps(_mm_min_ps(l[0], l[1]), _mm_min_ps(l[2], l[3]));
    const quad largest = _mm_max_ps(_mm_max_ps(h[0], h[1]), _mm_max_ps(h[2], h[3]));
    *lows = quad_add(smallest, _mm_setzero_ps());
    *highs = quad_add(largest, _mm_setzero_ps());
}

/* sums[lane] += lane, in double */
/* Widened on the way from memory, floats need no shuffle. */
static inline void add_doubles(double *sums, vec v)
{
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
    _mm256_storeu_pd(sums, _mm256_add_pd(_mm256_loadu_pd(sums), low));
    _mm256_storeu_pd(sums + 4, _mm256_add_pd(_mm256_loadu_pd(sums + 4), high));
}

/* -- 16-bit floats --------------------------------------------------------------------------- */

static inline __m128i load_16(const uint16_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline void store_16(uint16_t *p, __m128i v) { _mm_storeu_si128((__m128i *)(void *)p, v); }

static inline vec load_half(const uint16_t *p) { return _mm256_cvtph_ps(load_16(p)); }

static inline vec load_bfloat(const uint16_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16(p)), 16));
}

static inline void store_half(uint16_t *p, vec v)
{
    store_16(p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

/* Stores v as halves; what they say. */
static inline vec keep_halves(uint16_t *p, vec v)
{
    const __m128i half = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    store_16(p, half);
    return _mm256_cvtph_ps(half);
}

/* LANES words of each, in turn. */
static inline void store_in_turn(uint16_t *p, const uint16_t *a, const uint16_t *b)
{
    store_16(p, _mm_unpacklo_epi16(load_16(a), load_16(b)));
    store_16(p + LANES, _mm_unpackhi_epi16(load_16(a), load_16(b)));
}

/* An infinite half becomes the one below it. */
static inline void store_finite_half(uint16_t *p, vec v)
{
    const __m128i half = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
    const __m128i size = _mm_and_si128(half, _mm_set1_epi16(0x7fff));
    store_16(p, _mm_add_epi16(half, _mm_cmpeq_epi16(size, _mm_set1_epi16(0x7c00))));
}

/* Adds half an ulp less the last bit that stays; a NaN would overflow and is made quiet instead. */
static inline void store_bfloat(uint16_t *p, vec v)
{
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    store_16(p, _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
}

/* -- codes ----------------------------------------------------------------------------------- */

static inline vec load_codes(const uint8_t *p)
{
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}

static inline vec_int load_indices(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

static inline void store_counts(uint8_t *p, vec_int v)
{
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(v),
                                           _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packus_epi16(words, words));
}

/* Floats of 0..255, rounded to nearest even. */
static inline void store_codes(uint8_t *p, vec v) { store_counts(p, _mm256_cvtps_epi32(v)); }

/* Bits that two vectors do not share; of either; whether there are any. */
static inline vec_int difference(vec a, vec b)
{
    return _mm256_castps_si256(_mm256_xor_ps(a, b));
}

static inline vec_int either(vec_int a, vec_int b) { return _mm256_or_si256(a, b); }

/* Bits of `v`, and those that a and b do not share. */
static inline vec_int or_difference(vec_int v, vec a, vec b) { return either(v, difference(a, b)); }
static inline int any(vec_int v) { return !_mm256_testz_si256(v, v); }

/* Floats n + 1.5 * 2^23 with |n| < 2^15 -> 4 LANES codes: n, from 0 to top. */
static inline __m128i words_of_steps(vec t)
{
    const __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000));
    return _mm_packs_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
}

static inline void store_steps(uint8_t *codes, const vec t[4], uint32_t top)
{
    const __m128i most = _mm_set1_epi8((char)top);
    const __m128i a = _mm_packus_epi16(words_of_steps(t[0]), words_of_steps(t[1]));
    const __m128i b = _mm_packus_epi16(words_of_steps(t[2]), words_of_steps(t[3]));
    _mm_storeu_si128((__m128i *)(void *)codes, _mm_min_epu8(a, most));
    _mm_storeu_si128((__m128i *)(void *)(codes + 16), _mm_min_epu8(b, most));
}

static inline void store_four_steps(uint8_t *codes, const vec t[4], uint32_t top)
{
    store_steps(codes, t, top);
}

static inline vec_int no_counts(void) { return _mm256_setzero_si256(); }

/* A bit for each lane, the first the lowest: a > b. */
static inline uint32_t lanes_above(vec a, vec b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}

/* count + (x > threshold) */
static inline vec_int count_above(vec_int count, vec x, vec threshold)
{
    const __m256 above = _mm256_cmp_ps(x, threshold, _CMP_GT_OQ);
    return _mm256_sub_epi32(count, _mm256_castps_si256(above));
}

static inline vec_int twice(vec_int count) { return _mm256_add_epi32(count, count); }

/* table[index] for index < LANES. */
static inline vec pick(vec table, vec_int index)
{
    return _mm256_permutevar8x32_ps(table, index);
}

/* The same where a table of 2^bits entries repeats, index < 2^bits, bits < 4: shuffles inside halves,
 * since one across them is several operations on cores with 128-bit units. */
static inline vec pick_repeated(vec table, vec_int index, uint32_t bits)
{
    if (bits <= 2) return _mm256_permutevar_ps(table, index);
    const __m256 low = _mm256_permutevar_ps(_mm256_permute2f128_ps(table, table, 0x00), index);
    const __m256 high = _mm256_permutevar_ps(_mm256_permute2f128_ps(table, table, 0x11), index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 29)));
}

/* The same from two vectors, index < 2 LANES. */
static inline vec pick_of_two(vec low, vec high, vec_int index)
{
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
    return _mm256_blendv_ps(pick(low, index), pick(high, index), upper);
}

/* ((2 m + 1) << shift) - 1 in each lane, m the lane's number mod 2^level: see KERNEL(bucket). */
static inline vec_int threshold_places(uint32_t level, uint32_t shift)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i m = _mm256_and_si256(lane, _mm256_set1_epi32((1 << level) - 1));
    const __m256i odd = _mm256_add_epi32(_mm256_add_epi32(m, m), _mm256_set1_epi32(1));
    return _mm256_sub_epi32(_mm256_sll_epi32(odd, _mm_cvtsi32_si128((int)shift)),
                            _mm256_set1_epi32(1));
}

/* -- bits ------------------------------------------------------------------------------------ */

/* Four words at once, each 8 codes, one a byte, of `bits` bits <-> 8 * bits adjacent bits. pext and
 * pdep say the same and are microcode on some cores. Each step halves or doubles the distance of
 * what is adjacent: 4 codes, 2, 1. */
enum { CODE_WORDS = 4 };

static inline __m256i shift_part(__m256i x, uint64_t part, uint32_t left, uint32_t right)
{
    const __m256i moved = _mm256_and_si256(x, _mm256_set1_epi64x((long long)part));
    return right ? _mm256_srl_epi64(moved, _mm_cvtsi32_si128((int)right))
                 : _mm256_sll_epi64(moved, _mm_cvtsi32_si128((int)left));
}

static inline __m256i keep_part(__m256i x, uint64_t part)
{
    return _mm256_and_si256(x, _mm256_set1_epi64x((long long)part));
}

static inline void gather_words(const uint8_t *codes, uint32_t bits, uint64_t words[CODE_WORDS])
{
    __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)codes);
    x = keep_part(x, 0x0101010101010101u * ((1u << bits) - 1));
    x = _mm256_or_si256(keep_part(x, 0x00ff00ff00ff00ffu),
                        shift_part(x, 0xff00ff00ff00ff00u, 0, 8 - bits));
    x = _mm256_or_si256(keep_part(x, 0x0000ffff0000ffffu),
                        shift_part(x, 0xffff0000ffff0000u, 0, 16 - 2 * bits));
    x = _mm256_or_si256(keep_part(x, 0x00000000ffffffffu),
                        shift_part(x, 0xffffffff00000000u, 0, 32 - 4 * bits));
    _mm256_storeu_si256((__m256i *)(void *)words, x);
}

static inline void spread_words(const uint64_t words[CODE_WORDS], uint32_t bits, uint8_t *codes)
{
    const uint64_t one = (1u << bits) - 1, two = (1u << 2 * bits) - 1,
                   four = (1ull << 4 * bits) - 1;
    __m256i x = _mm256_set_epi64x((long long)words[3], (long long)words[2], (long long)words[1],
                                  (long long)words[0]);
    x = _mm256_or_si256(keep_part(x, four), shift_part(x, four << 4 * bits, 32 - 4 * bits, 0));
    x = _mm256_or_si256(keep_part(x, 0x0000000100000001u * two),
                        shift_part(x, 0x0000000100000001u * two << 2 * bits, 16 - 2 * bits, 0));
    x = _mm256_or_si256(keep_part(x, 0x0001000100010001u * one),
                        shift_part(x, 0x0001000100010001u * one << bits, 8 - bits, 0));
    _mm256_storeu_si256((__m256i *)(void *)codes, x);
}

/* One word. */
static inline uint64_t gather_bits(uint64_t codes, uint32_t bits)
{
    uint64_t x = codes & 0x0101010101010101u * ((1u << bits) - 1);
    x = (x & 0x00ff00ff00ff00ffu) | (x & 0xff00ff00ff00ff00u) >> (8 - bits);
    x = (x & 0x0000ffff0000ffffu) | (x & 0xffff0000ffff0000u) >> (16 - 2 * bits);
    return (x & 0xffffffffu) | (x & 0xffffffff00000000u) >> (32 - 4 * bits);
}

static inline uint64_t spread_bits(uint64_t packed, uint32_t bits)
{
    const uint64_t one = (1u << bits) - 1, two = (1u << 2 * bits) - 1,
                   four = (1ull << 4 * bits) - 1;
    uint64_t x = (packed & four) | (packed & four << 4 * bits) << (32 - 4 * bits);
    x = (x & 0x0000000100000001u * two) | (x & (0x0000000100000001u * two) << 2 * bits)
                                              << (16 - 2 * bits);
    return (x & 0x0001000100010001u * one) | (x & (0x0001000100010001u * one) << bits)
                                                 << (8 - bits);
}

/* A table of 16 floats as four tables of their bytes, for codes below 16 in steps of TABLE_CODES.
 */
enum { TABLE_CODES = 32 };

struct byte_table {
    __m256i byte[4];
};

static inline struct byte_table split_rows(const __m128i rows[4])
{
    const __m128i by_place = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m128i row[4];
    for (int i = 0; i < 4; i++) row[i] = _mm_shuffle_epi8(rows[i], by_place);
    const __m128i a = _mm_unpacklo_epi32(row[0], row[1]), b = _mm_unpackhi_epi32(row[0], row[1]);
    const __m128i c = _mm_unpacklo_epi32(row[2], row[3]), d = _mm_unpackhi_epi32(row[2], row[3]);
    return (struct byte_table){{_mm256_broadcastsi128_si256(_mm_unpacklo_epi64(a, c)),
                                _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(a, c)),
                                _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(b, d)),
                                _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(b, d))}};
}

static inline struct byte_table split_table(const float table[16])
{
    __m128i rows[4];
    for (int i = 0; i < 4; i++) rows[i] = _mm_loadu_si128((const __m128i *)(const void *)(table + 4 * i));
    return split_rows(rows);
}

/* Vector k of 32 indices: entries 4 k .. 4 k + 3 of each half. */
static inline void look_up_bytes(const struct byte_table *table, __m256i index, vec v[4])
{
    const __m256i b0 = _mm256_shuffle_epi8(table->byte[0], index);
    const __m256i b1 = _mm256_shuffle_epi8(table->byte[1], index);
    const __m256i b2 = _mm256_shuffle_epi8(table->byte[2], index);
    const __m256i b3 = _mm256_shuffle_epi8(table->byte[3], index);
    const __m256i low01 = _mm256_unpacklo_epi8(b0, b1), high01 = _mm256_unpackhi_epi8(b0, b1);
    const __m256i low23 = _mm256_unpacklo_epi8(b2, b3), high23 = _mm256_unpackhi_epi8(b2, b3);
    v[0] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(low01, low23));
    v[1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(low01, low23));
    v[2] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(high01, high23));
    v[3] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(high01, high23));
}

static inline void look_up(const struct byte_table *table, const uint8_t *codes, float *out)
{
    /* Unpacking works inside halves: dwords 0 2 4 6 below and 1 3 5 7 above come out in order. */
    const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const __m256i index = _mm256_permutevar8x32_epi32(
        _mm256_loadu_si256((const __m256i *)(const void *)codes), order);
    vec v[4];
    look_up_bytes(table, index, v);
    for (int k = 0; k < 4; k++) store(out + 8 * k, v[k]);
}

/* -- moves inside a vector ------------------------------------------------------------------- */

/* One step of the Walsh-Hadamard transform: lane i meets lane i ^ span. A product with 1 or -1 is
 * exact, so that the fused operation rounds once, as a sum or a difference does. Halves change
 * places by the one shuffle of 64-bit lanes that cores with 128-bit units have cheap, too. */
static inline vec butterfly(vec v, uint32_t span)
{
    const __m256 swapped = span == 1 ? _mm256_permute_ps(v, 0xb1)
                           : span == 2
                               ? _mm256_permute_ps(v, 0x4e)
                               : _mm256_permute2f128_ps(v, v, 1);
    const __m256 signs = span == 1   ? _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1)
                         : span == 2 ? _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1)
                                     : _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
    return _mm256_fmadd_ps(v, signs, swapped);
}

/* The first step of LANES floats in memory. */
static inline vec meet_neighbours(const float *x)
{
    return butterfly(load(x), 1);
}

static inline void transpose(vec v[LANES])
{
    vec a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

/* -- stored codes, see stripes.h ------------------------------------------------------------- */

/* A table of 16 floats as four planes: byte b of every entry. */
enum { LUT_BYTES = 64 };

static inline void store_lut(const float *table, uint8_t *lut)
{
    for (int entry = 0; entry < 16; entry++) {
        uint8_t bytes[4];
        memcpy(bytes, table + entry, sizeof bytes);
        for (int b = 0; b < 4; b++) lut[16 * b + entry] = bytes[b];
    }
}

static inline __m256i load_plane(const void *lut, int plane)
{
    return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)lut + plane));
}

/* 32 indices -> 4 vectors: the bytes of each plane, then joined. Lane l of half h of vector k is
 * column 16 h + 4 k + l, see settle_columns. */
static inline void look_up_32(__m256i index, const void *lut, vec values[4])
{
    const __m256i a = _mm256_shuffle_epi8(load_plane(lut, 0), index);
    const __m256i b = _mm256_shuffle_epi8(load_plane(lut, 1), index);
    const __m256i c = _mm256_shuffle_epi8(load_plane(lut, 2), index);
    const __m256i d = _mm256_shuffle_epi8(load_plane(lut, 3), index);
    const __m256i ab[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
    const __m256i cd[2] = {_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d)};
    for (int h = 0; h < 2; h++) {
        values[2 * h] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(ab[h], cd[h]));
        values[2 * h + 1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(ab[h], cd[h]));
    }
}

/* Columns 32 part .. 32 part + 31. */
static inline void look_up_part(const uint8_t *row, uint32_t part, const void *lut, vec values[4])
{
    const __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)row);
    const __m256i index = part ? _mm256_srli_epi16(both, 4) : both;
    look_up_32(_mm256_and_si256(index, _mm256_set1_epi8(15)), lut, values);
}

static inline void look_up_row(const uint8_t *row, const void *lut, vec values[8])
{
    look_up_part(row, 0, lut, values);
    look_up_part(row, 1, lut, values + 4);
}

static inline void settle_columns(vec v[8])
{
    for (int h = 0; h < 8; h += 4) {
        const vec a = v[h], b = v[h + 1], c = v[h + 2], d = v[h + 3];
        v[h] = _mm256_permute2f128_ps(a, b, 0x20);
        v[h + 1] = _mm256_permute2f128_ps(c, d, 0x20);
        v[h + 2] = _mm256_permute2f128_ps(a, b, 0x31);
        v[h + 3] = _mm256_permute2f128_ps(c, d, 0x31);
    }
}

/* `bits` bits from bit `shift` of each word, as floats. */
static inline vec load_field(const uint8_t *words, uint32_t shift, uint32_t bits)
{
    const __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)words);
    const __m256i low = _mm256_srli_epi32(w, (int)shift);
    const __m256i mask = _mm256_set1_epi32((1 << bits) - 1);
    return _mm256_cvtepi32_ps(shift + bits == 32 ? low : _mm256_and_si256(low, mask));
}

/* -- llama.cpp's blocks, see blocks_simd.h --------------------------------------------------------- */

/* 32 values cut off, signed. */
static inline __m128i cut_words(vec v)
{
    const __m256i n = _mm256_cvttps_epi32(v);
    return _mm_packs_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
}

static inline void truncate_bytes(uint8_t *bytes, const vec v[4])
{
    const __m128i a = _mm_packs_epi16(cut_words(v[0]), cut_words(v[1]));
    const __m128i b = _mm_packs_epi16(cut_words(v[2]), cut_words(v[3]));
    _mm_storeu_si128((__m128i *)(void *)bytes, a);
    _mm_storeu_si128((__m128i *)(void *)(bytes + 16), b);
}

static inline void read_signed(const uint8_t *bytes, vec v[4])
{
    for (int k = 0; k < 4; k++) {
        const __m128i eight = _mm_loadl_epi64((const __m128i *)(const void *)(bytes + 8 * k));
        v[k] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
    }
}

/* Words of 32 bytes each become the upper halves of floats: vector k holds values 4 k .. 4 k + 3 of
 * both halves of a block. Small integers need no more bits. */
static inline void join_bytes(__m256i low, __m256i high, vec v[4])
{
    const __m256i zero = _mm256_setzero_si256();
    const __m256i a = _mm256_unpacklo_epi8(low, high), b = _mm256_unpackhi_epi8(low, high);
    v[0] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, a));
    v[1] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, a));
    v[2] = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, b));
    v[3] = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, b));
}

static inline void store_block(float *out, uint32_t k, vec v)
{
    _mm_storeu_ps(out + 4 * k, _mm256_castps256_ps128(v));
    _mm_storeu_ps(out + 16 + 4 * k, _mm256_extractf128_ps(v, 1));
}

static inline vec load_block(const float *x, uint32_t k)
{
    return load_halves(x + 4 * k, x + 16 + 4 * k);
}

/* Levels that are small integers, as the upper two of their four bytes. */
struct block_levels {
    __m256i low, high;
};

static inline struct block_levels block_levels_of(const float table[16])
{
    const struct byte_table bytes = split_table(table);
    return (struct block_levels){bytes.byte[2], bytes.byte[3]};
}

static inline void read_fours(const uint8_t *nibbles, const struct block_levels *levels, vec v[4])
{
    const __m256i index = split_block(nibbles);
    join_bytes(_mm256_shuffle_epi8(levels->low, index), _mm256_shuffle_epi8(levels->high, index), v);
}

/* 32 + code is 0x4200 + 4 code in the upper half of a float. */
static inline void read_fives(const uint8_t *at, float zero, vec v[4])
{
    const __m256i low = _mm256_slli_epi16(split_block(at + 4), 2);
    const __m256i fifth = _mm256_and_si256(spread_fifths(at), _mm256_set1_epi8(64));
    join_bytes(_mm256_or_si256(low, fifth), _mm256_set1_epi8(0x42), v);
    for (int k = 0; k < 4; k++) v[k] = sub(v[k], spread(32 + zero));
}

#endif
