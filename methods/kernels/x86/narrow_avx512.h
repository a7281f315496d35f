/* Floats to 16 bits for the AVX-512 set: two vectors fill a store, of which a line of L2 takes one in
 * less time than two of half its size. */
#ifndef KVBENCH_METHODS_KERNELS_X86_NARROW_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_NARROW_AVX512_H

enum { TWO_VECS = 2 * LANES };

/* Half an ulp is added, less the last bit that stays; upper words are the result. */
static inline __m512i round_to_words(__m512i bits)
{
    const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
    return _mm512_mask_add_epi32(rounded, odd, bits, _mm512_set1_epi32(0x8000));
}

/* What is no number is looked for in both at once and makes the shared body begin again. */
static void KERNEL(narrow_bfloat_pairs)(const float *in, uint16_t *out, size_t n)
{
    uint16_t places[TWO_VECS]; /* upper words of two vectors, one in the gaps of the other */
    for (uint16_t i = 0; i < LANES; i++) places[i] = 2 * i, places[LANES + i] = 2 * i + 1;
    const __m512i order = _mm512_loadu_si512(places);
    size_t i = 0;
    uint32_t rare = 0;
    for (; i + TWO_VECS <= n; i += TWO_VECS) {
        const vec v = load(in + i), w = load(in + i + LANES);
        const __m512i low = round_to_words(_mm512_castps_si512(v));
        const __m512i high = round_to_words(_mm512_castps_si512(w));
        const __m512i both = _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(low, 16), high);
        _mm512_storeu_si512(out + i, _mm512_permutexvar_epi16(order, both));
        rare |= _mm512_cmp_ps_mask(v, w, _CMP_UNORD_Q);
    }
    if (rare) i = 0;
    if (i < n) KERNEL(narrow_bfloat)(in + i, out + i, n - i);
}

static inline __m256i to_halves(vec v) { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }

/* An infinite half becomes the one below it. */
static void KERNEL(narrow_finite_pairs)(const float *in, uint16_t *out, size_t n)
{
    const __m512i infinity = _mm512_set1_epi16(0x7c00), size = _mm512_set1_epi16(0x7fff);
    size_t i = 0;
    for (; i + TWO_VECS <= n; i += TWO_VECS) {
        const __m512i low = _mm512_castsi256_si512(to_halves(load(in + i)));
        const __m512i both = _mm512_inserti64x4(low, to_halves(load(in + i + LANES)), 1);
        const __mmask32 beyond = _mm512_cmpeq_epi16_mask(_mm512_and_si512(both, size), infinity);
        _mm512_storeu_si512(out + i,
                            _mm512_mask_sub_epi16(both, beyond, both, _mm512_set1_epi16(1)));
    }
    if (i < n) KERNEL(narrow_finite)(in + i, out + i, n - i);
}

#endif
