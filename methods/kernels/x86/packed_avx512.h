/* Values of packed codes, for the AVX-512 set: 16 codes of b bits are b words of 16 bits, so that a
 * permute of words brings to each lane the two that its code lies in. */
#ifndef KVBENCH_METHODS_KERNELS_X86_PACKED_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_PACKED_AVX512_H

/* Where LANES codes lie: bits `bits` l and up for lane l. */
struct places {
    __m512i words, shifts;
    __mmask32 loaded;
};

static inline struct places places_of(uint32_t bits)
{
    const __m512i at = _mm512_mullo_epi32(lane_numbers(4), _mm512_set1_epi32((int)bits));
    const __m512i word = _mm512_srli_epi32(at, 4);
    const __m512i next = _mm512_slli_epi32(_mm512_add_epi32(word, _mm512_set1_epi32(1)), 16);
    return (struct places){_mm512_or_si512(word, next),
                           _mm512_and_si512(at, _mm512_set1_epi32(15)), (1u << bits) - 1};
}

/* A lane's code in its low bits, others above it. */
static inline __m512i codes_of_lanes(struct places places, const uint8_t *packed)
{
    const __m512i words = _mm512_maskz_loadu_epi16(places.loaded, packed);
    return _mm512_srlv_epi32(_mm512_permutexvar_epi16(places.words, words), places.shifts);
}

/* Permutes read the four low bits of a lane, so that shorter tables repeat. */
static void KERNEL(lookup_packed)(const uint8_t *packed, size_t n, uint32_t bits,
                                  const float *table, float factor, float *out)
{
    if (bits <= 4 && n >= LANES) {
        const struct places places = places_of(bits);
        const vec once = load_part(table, (size_t)1 << bits);
        const vec entries = mul(pick(once, lane_numbers(bits)), spread(factor));
        for (; n >= LANES; n -= LANES, packed += 2 * bits, out += LANES)
            store(out, pick(entries, codes_of_lanes(places, packed)));
    }
    KERNEL(lookup_unpacked)(packed, n, bits, table, factor, out);
}

#endif
