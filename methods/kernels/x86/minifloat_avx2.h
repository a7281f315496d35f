/* AVX2 words for minifloats.h. */
#ifndef KVBENCH_METHODS_KERNELS_X86_MINIFLOAT_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_MINIFLOAT_AVX2_H

static inline vec_int bits_of(vec v)
{
    return _mm256_castps_si256(v);
}
static inline vec float_of(vec_int v)
{
    return _mm256_castsi256_ps(v);
}
static inline vec_int spread_word(uint32_t x)
{
    return _mm256_set1_epi32((int)x);
}
static inline vec_int both(vec_int a, vec_int b)
{
    return _mm256_and_si256(a, b);
}
static inline vec_int plus(vec_int a, vec_int b)
{
    return _mm256_add_epi32(a, b);
}
static inline vec_int minus(vec_int a, vec_int b)
{
    return _mm256_sub_epi32(a, b);
}
static inline vec_int shift_down(vec_int v, uint32_t n)
{
    return _mm256_srli_epi32(v, (int)n);
}
static inline vec_int shift_up(vec_int v, uint32_t n)
{
    return _mm256_slli_epi32(v, (int)n);
}

static inline __m128i narrow_words(vec_int v)
{
    return _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

/* Numbers below 256 as bytes. */
static inline void store_bytes(uint8_t *codes, vec_int a, vec_int b)
{
    _mm_storeu_si128((__m128i *)(void *)codes, _mm_packus_epi16(narrow_words(a), narrow_words(b)));
}

/* Codes as halves: bits above the sign's place are 0. */
static inline vec load_fields(const uint8_t *codes, uint32_t shift, uint16_t fields,
                              uint32_t sign_shift)
{
    const __m128i words = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)codes));
    const __m128i size =
        _mm_and_si128(_mm_slli_epi16(words, (int)shift), _mm_set1_epi16((short)fields));
    const __m128i sign =
        _mm_and_si128(_mm_slli_epi16(words, (int)sign_shift), _mm_set1_epi16(-32768));
    return _mm256_cvtph_ps(_mm_or_si128(size, sign));
}

/* The largest lane of each. */
static inline quad largest_of_four(const vec v[4])
{
    quad q[4];
    for (int i = 0; i < 4; i++)
        q[i] = _mm_max_ps(_mm256_castps256_ps128(v[i]), _mm256_extractf128_ps(v[i], 1));
    const quad a = _mm_max_ps(_mm_unpacklo_ps(q[0], q[1]), _mm_unpackhi_ps(q[0], q[1]));
    const quad b = _mm_max_ps(_mm_unpacklo_ps(q[2], q[3]), _mm_unpackhi_ps(q[2], q[3]));
    return _mm_max_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
}

static inline vec join_quads(const quad q[2])
{
    return _mm256_set_m128(q[1], q[0]);
}

/* Levels whose floats have two bytes that are not 0. */
struct fp4_levels {
    __m128i low, high;
};

static inline struct fp4_levels fp4_levels_of(const float table[16])
{
    const struct byte_table bytes = split_table(table);
    return (struct fp4_levels){_mm256_castsi256_si128(bytes.byte[2]),
                               _mm256_castsi256_si128(bytes.byte[3])};
}

/* 16 levels times a factor. */
static inline void write_levels(const struct fp4_levels *levels, const uint8_t *codes, vec factor,
                                float *out)
{
    const __m128i index = _mm_loadu_si128((const __m128i *)(const void *)codes);
    const __m128i low = _mm_shuffle_epi8(levels->low, index);
    const __m128i high = _mm_shuffle_epi8(levels->high, index);
    const __m128i a = _mm_unpacklo_epi8(low, high), b = _mm_unpackhi_epi8(low, high);
    const __m128i zero = _mm_setzero_si128();
    const __m128i v[4] = {_mm_unpacklo_epi16(zero, a), _mm_unpackhi_epi16(zero, a),
                          _mm_unpacklo_epi16(zero, b), _mm_unpackhi_epi16(zero, b)};
    for (int k = 0; k < 4; k++)
        _mm_storeu_ps(out + 4 * k,
                      _mm_mul_ps(_mm_castsi128_ps(v[k]), _mm256_castps256_ps128(factor)));
}

#endif
