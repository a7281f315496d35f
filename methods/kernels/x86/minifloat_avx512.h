/* AVX-512 words for minifloats.h. */
#ifndef KVBENCH_METHODS_KERNELS_X86_MINIFLOAT_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_MINIFLOAT_AVX512_H

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

/* Numbers below 256 as bytes. */
static inline void store_fields(uint8_t *codes, vec_int a, vec_int b)
{
    const __m512i words = _mm512_packus_epi32(a, b);
    _mm256_storeu_si256((__m256i *)(void *)codes, order_bytes(_mm512_packus_epi16(words, words)));
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

/* The largest lane of each. */
static inline quad largest_of_four(const vec v[4])
{
    quad q[4];
    for (int i = 0; i < 4; i++) {
        const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v[i]), upper_half(v[i]));
        q[i] = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    }
    const quad a = _mm_max_ps(_mm_unpacklo_ps(q[0], q[1]), _mm_unpackhi_ps(q[0], q[1]));
    const quad b = _mm_max_ps(_mm_unpacklo_ps(q[2], q[3]), _mm_unpackhi_ps(q[2], q[3]));
    return _mm_max_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
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
