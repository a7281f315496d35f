/* The Hadamard transforms of 64 and 128 floats, for the AVX-512 set. */
#ifndef KVBENCH_METHODS_KERNELS_X86_TRANSFORM_AVX512_H
#define KVBENCH_METHODS_KERNELS_X86_TRANSFORM_AVX512_H

ALWAYS_INLINE void transform_64(struct transform at, int has_factors)
{
    transform_block(at, has_factors, 4);
}

ALWAYS_INLINE void transform_128(struct transform at, int has_factors)
{
    transform_block(at, has_factors, 8);
}

/* The chain of sums takes longer than the transform and goes first. Halves of vectors by way of
 * memory, in place of eight shuffles, take less time here and none less in an encoder, which waits
 * for the length of a row. */
ALWAYS_INLINE __m256 squares_of_128(const float *x)
{
    __m256 s = _mm256_setzero_ps();
    UNROLLED for (uint32_t i = 0; i < 128; i += LANES)
    {
        const vec v = load(x + i), squares = mul(v, v);
        s = _mm256_add_ps(s, _mm512_castps512_ps256(squares));
        s = _mm256_add_ps(s, upper_half(squares));
    }
    return s;
}

#include "methods/kernels/x86/transforms.h"

static void KERNEL(hadamard_blocks)(const float *x, const float *factors, float *out, size_t n)
{
    KERNEL(hadamard_row)(x, factors, out, n);
}

#endif
