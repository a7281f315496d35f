/* AVX-512 words for minifloats.h. */
#ifndef KVBENCH_METHODS_KERNELS_X86_MINIFLOAT_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_MINIFLOAT_AVX512_H

#include "methods/kernels/minifloat_bits.h"

static inline vec_int bits_of(vec v)
{
    return _mm512_castps_si512(v);
}
static inline vec float_of(vec_int v)
{
    return _mm512_castsi512_ps(v);
}
static inline vec_int spread_word(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}
static inline vec_int both(vec_int a, vec_int b)
{
    return _mm512_and_si512(a, b);
}
static inline vec_int plus(vec_int a, vec_int b)
{
    return _mm512_add_epi32(a, b);
}
static inline vec_int minus(vec_int a, vec_int b)
{
    return _mm512_sub_epi32(a, b);
}
static inline vec_int shift_down(vec_int v, uint32_t n)
{
    return _mm512_srli_epi32(v, n);
}
static inline vec_int shift_up(vec_int v, uint32_t n)
{
    return _mm512_slli_epi32(v, n);
}

/* -- codes ------------------------------------------------------------------------------------- */

enum { FIELD_VECS = 4, FIELDS = FIELD_VECS * LANES }; /* codes of a step */

/* A format's numbers, in all lanes. Sums with powers * magic have in their low words the units of the
 * last place, less what the lowest power is as a code: magic is 1.5 * 2^shift and as much more. */
struct fields {
    vec largest, lowest, magic;
    uint32_t shift, sign_down, size_bits; /* sign_down: from where the sign is in words */
};

static inline struct fields fields_make(const struct kv_minifloat *format)
{
    const uint32_t shift = kv_minifloat_shift(format), lowest = kv_minifloat_lowest(format);
    const uint32_t size_bits = format->exponent_bits + format->mantissa_bits;
    const float unit = kv_float_of_bits((127 - format->mantissa_bits) << 23);
    const float less = (float)(65536 - (lowest >> shift)) * unit;
    return (struct fields){.largest = spread(format->largest),
                           .lowest = spread(kv_float_of_bits(lowest)),
                           .magic = spread(1.5f * (float)(1u << shift) + less),
                           .shift = shift,
                           .sign_down = 31 - shift - size_bits,
                           .size_bits = size_bits};
}

/* In each low word the size of kv_minifloat_code and, sign_down above its place, the sign. Both the
 * power and the value have it, so that the sum rounds as without. power * magic is exact. */
static inline __m512i field_words(const struct fields *f, vec x)
{
    enum { LEAST_SIZE = 2, MOST_SIZE = 3 }; /* with the sign of the first */
    const vec value = _mm512_range_ps(x, f->largest, LEAST_SIZE);
    const vec power = _mm512_range_ps(
        float_of(both(bits_of(value), _mm512_set1_epi32((int)0xff800000))), f->lowest, MOST_SIZE);
    const vec_int units = bits_of(fused(power, f->magic, value));
    return plus(units, shift_down(bits_of(power), f->shift));
}

/* For few: the code alone in each lane. */
static inline vec_int field_codes(const struct fields *f, vec x)
{
    const vec_int words = field_words(f, x);
    const vec_int size = both(words, spread_word((1u << f->size_bits) - 1));
    return either(size, both(shift_down(words, f->sign_down), spread_word(1u << f->size_bits)));
}

/* Low words of two vectors, the second's above the first's. */
static inline __m512i join_words(__m512i a, __m512i b)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16));
}

/* b where mask has ones, else a. */
static inline __m512i choose_bits(__m512i a, __m512i b, uint16_t mask)
{
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi16((short)mask), 0xd8);
}

/* Bytes of vectors 0, 2, 1 and 3 in each word of 32, then in order. */
static inline void store_fields(const struct fields *f, const vec v[FIELD_VECS], uint8_t *codes)
{
    const __m512i places = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15));
    const __m512i low = join_words(field_words(f, v[0]), field_words(f, v[1]));
    const __m512i high = join_words(field_words(f, v[2]), field_words(f, v[3]));
    const uint32_t sign = 1u << f->size_bits;
    const __m512i a = choose_bits(low, _mm512_srli_epi16(low, f->sign_down), (uint16_t)(0 - sign));
    const __m512i b = choose_bits(_mm512_slli_epi16(high, 8), _mm512_slli_epi16(high, 8 - f->sign_down),
                                  (uint16_t)(0 - (sign << 8)));
    const __m512i bytes = _mm512_shuffle_epi8(_mm512_or_si512(a, b), places);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(codes, _mm512_permutexvar_epi32(order, bytes));
}

/* The first n lanes. */
static inline void store_some_counts(uint8_t *p, uint32_t n, vec_int v)
{
    _mm_mask_storeu_epi8(p, first_lanes(n), _mm512_cvtepi32_epi8(v));
}

/* x / divisor with its rounded inverse: the product is off by two units at most, once corrected by
 * less than one; then the correction of what is left, which is exact, rounds as a division does
 * (Markstein, IBM J. Res. Dev. 34, 1990). What underflows on the way is far below all codes, and
 * keeps its sign. */
static inline vec quotient(vec x, vec divisor, vec inverse)
{
    vec q = mul(x, inverse);
    for (int twice = 0; twice < 2; twice++)
        q = fused_minus(_mm512_fmsub_ps(q, divisor, x), inverse, q);
    return q;
}

/* Codes as halves: bits above the sign's place are 0. */
static inline vec load_fields(const uint8_t *codes, uint32_t shift, uint16_t fields,
                              uint32_t sign_shift)
{
    const __m256i words =
        _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)codes));
    const __m256i size =
        _mm256_and_si256(_mm256_slli_epi16(words, (int)shift), _mm256_set1_epi16((short)fields));
    const __m256i sign =
        _mm256_and_si256(_mm256_slli_epi16(words, (int)sign_shift), _mm256_set1_epi16(-32768));
    return _mm512_cvtph_ps(_mm256_or_si256(size, sign));
}

/* The largest lane of each: of every quarter first, side by side. */
static inline quad largest_of_four(const vec v[4])
{
    const vec a = larger(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    const vec b = larger(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    const vec c = larger(_mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))));
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(c), upper_half(c));
    return _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

static inline vec join_quads(const quad q[4])
{
    const __m256 low = _mm256_set_m128(q[1], q[0]), high = _mm256_set_m128(q[3], q[2]);
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

struct fp4_levels {
    vec table;
};

static inline struct fp4_levels fp4_levels_of(const float table[16])
{
    return (struct fp4_levels){load(table)};
}

/* 16 levels times a factor. */
static inline void write_levels(const struct fp4_levels *levels, const uint8_t *codes, vec factor,
                                float *out)
{
    store(out, mul(pick(levels->table, load_indices(codes)), factor));
}

#endif
