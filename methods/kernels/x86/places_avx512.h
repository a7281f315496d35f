/* Floats that are spread out, closed up and hidden under masks of 16 lanes. */
#ifndef KVBENCH_METHODS_KERNELS_X86_PLACES_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_PLACES_AVX512_H

#include <math.h>

/* Loaded first: the emulator of tests/kernels/avx512.sh lets a load that spreads out read past its last place. */
static void KERNEL(spread_out)(const float *close, const uint16_t *places, size_t n, float rest,
                               float *out)
{
    const vec others = spread(rest);
    for (size_t i = 0; i < n; i += LANES) {
        const __mmask16 mask = places[i / LANES];
        const size_t count = (size_t)__builtin_popcount(mask);
        store(out + i, _mm512_mask_expand_ps(others, mask, load_part(close, count)));
        close += count;
    }
}

/* Compressed in a register: some CPUs take a long time to do so in memory. */
static void KERNEL(close_up)(const float *x, const uint16_t *places, size_t n, float *close)
{
    for (size_t i = 0; i < n; i += LANES) {
        const __mmask16 mask = places[i / LANES];
        const size_t count = (size_t)__builtin_popcount(mask);
        store_part(close, count, _mm512_maskz_compress_ps(mask, load(x + i)));
        close += count;
    }
}

/* 16 places, of which those past n hold nothing. */
ALWAYS_INLINE uint32_t hide_lanes(const int32_t *begin, const int32_t *end, __m512i token,
                                  __mmask16 lanes, float *x, float *beside)
{
    const vec hidden = spread(-INFINITY);
    const __m512i first = _mm512_maskz_loadu_epi32(lanes, begin);
    const __m512i past = _mm512_maskz_loadu_epi32(lanes, end);
    const __mmask16 begun = _mm512_mask_cmple_epi32_mask(lanes, first, token);
    const __mmask16 seen = _mm512_mask_cmplt_epi32_mask(begun, token, past);
    const __mmask16 out = lanes & (__mmask16)~seen;
    _mm512_mask_storeu_ps(x, out, hidden);
    if (beside) _mm512_mask_storeu_ps(beside, out, hidden);
    return (uint32_t)__builtin_popcount(seen);
}

static uint32_t KERNEL(hide)(const int32_t *begin, const int32_t *end, int32_t token, size_t n,
                             float *x, float *beside)
{
    const __m512i now = _mm512_set1_epi32(token);
    uint32_t seen = 0;
    for (size_t i = 0; i < n; i += LANES)
        seen += hide_lanes(begin + i, end + i, now,
                           n - i < LANES ? first_lanes(n - i) : (__mmask16)0xffff, x + i,
                           beside ? beside + i : NULL);
    return seen;
}

#endif
