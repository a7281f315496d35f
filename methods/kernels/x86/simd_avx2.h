/* AVX2 words for the shared bodies (bodies.h): one vector is 8 floats. */
#ifndef KVBENCH_METHODS_KERNELS_X86_SIMD_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_SIMD_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KERNEL(name) name##_avx2

/* 6 x 16: 12 accumulators, 2 columns, 1 row of the 16 registers; 16 KiB strips stay in L1. */
enum { LANES = 8, TILE_ROWS = 6, TILE_VECS = 2, STRIP_DEPTH = 256, HADAMARD_VECS = 8,
       SEARCH_LEVELS = 4 };

typedef __m256 vec;
typedef __m256i vec_int;

static inline vec load(const float *p) { return _mm256_loadu_ps(p); }
static inline void store(float *p, vec v) { _mm256_storeu_ps(p, v); }
static inline vec spread(float x) { return _mm256_set1_ps(x); }
static inline vec zeros(void) { return _mm256_setzero_ps(); }
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

/* v * 2^n where n lies in the low bits of t, see exp_terms in bodies.h. */
static inline vec add_exponent(vec v, vec t)
{
    const __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), shifted));
}

/* v where y >= limit, else 0. */
static inline vec unless_below(vec v, vec y, vec limit)
{
    return _mm256_and_ps(v, _mm256_cmp_ps(y, limit, _CMP_GE_OQ));
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

static inline vec_int no_counts(void) { return _mm256_setzero_si256(); }

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

/* The same from two vectors, index < 2 LANES. */
static inline vec pick_of_two(vec low, vec high, vec_int index)
{
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
    return _mm256_blendv_ps(pick(low, index), pick(high, index), upper);
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

/* -- moves inside a vector ------------------------------------------------------------------- */

/* One step of the Walsh-Hadamard transform: lane i meets lane i ^ span. x + -y is x - y exactly. */
static inline vec butterfly(vec v, uint32_t span)
{
    const __m256 swapped = span == 1 ? _mm256_permute_ps(v, 0xb1)
                         : span == 2 ? _mm256_permute_ps(v, 0x4e)
                                     : _mm256_permute2f128_ps(v, v, 1);
    const __m256 signs = span == 1 ? _mm256_setr_ps(0, -0.f, 0, -0.f, 0, -0.f, 0, -0.f)
                       : span == 2 ? _mm256_setr_ps(0, 0, -0.f, -0.f, 0, 0, -0.f, -0.f)
                                   : _mm256_setr_ps(0, 0, 0, 0, -0.f, -0.f, -0.f, -0.f);
    return _mm256_add_ps(swapped, _mm256_xor_ps(v, signs));
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

static inline void look_up_row(const uint8_t *row, const void *lut, vec values[8])
{
    const __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)row);
    const __m256i low = _mm256_set1_epi8(15);
    look_up_32(_mm256_and_si256(both, low), lut, values);
    look_up_32(_mm256_and_si256(_mm256_srli_epi16(both, 4), low), lut, values + 4);
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

/* A row of nibbles as 16 + code: the code becomes the top of a mantissa, which costs fewer
 * instructions than a conversion; the caller takes the 16 away. Lanes are columns 0 2 4 6, 16 18 20
 * 22 in vector 0, 1 3 5 7, 17 19 21 23 in vector 1, and so on. */
enum { NIBBLE_BASE = 16 };

static inline void read_32_nibbles(__m256i codes, vec values[4])
{
    const __m256i high_bytes = _mm256_set1_epi8(0x41), high_words = _mm256_set1_epi32(-65536);
    const __m256i bytes = _mm256_or_si256(codes, _mm256_set1_epi8(-128));
    const __m256i words[2] = {_mm256_unpacklo_epi8(bytes, high_bytes),
                              _mm256_unpackhi_epi8(bytes, high_bytes)};
    for (int h = 0; h < 2; h++) {
        values[2 * h] = _mm256_castsi256_ps(_mm256_slli_epi32(words[h], 16));
        values[2 * h + 1] = _mm256_castsi256_ps(_mm256_and_si256(words[h], high_words));
    }
}

static inline void read_nibbles(const uint8_t *row, vec values[8])
{
    const __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)row);
    const __m256i place = _mm256_set1_epi8(0x78);
    read_32_nibbles(_mm256_and_si256(_mm256_slli_epi16(both, 3), place), values);
    read_32_nibbles(_mm256_and_si256(_mm256_srli_epi16(both, 1), place), values + 4);
}

static inline void settle_nibbles(vec v[8])
{
    for (int k = 0; k < 8; k += 2) {
        const vec even = v[k], odd = v[k + 1];
        v[k] = _mm256_unpacklo_ps(even, odd);
        v[k + 1] = _mm256_unpackhi_ps(even, odd);
    }
    settle_columns(v);
}

#endif
