/* Floats to bfloat16 for the AVX-512 set: two vectors fill a store, and what is no number is looked
 * for in both at once and makes the shared body begin again. (Pairs gain nothing for halves.) */
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

#endif
