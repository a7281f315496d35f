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

/* The chain of sums is as long as the transform and goes first, so that both end together. Its
 * halves of vectors are read from memory: taking them out would be work for the pipes. */
ALWAYS_INLINE void transform_measured(struct transform at, float sums[8])
{
    float squares[128] __attribute__((aligned(64)));
    UNROLLED for (uint32_t i = 0; i < 128; i += LANES)
    {
        const vec v = load(at.x + i);
        store(squares + i, mul(v, v));
    }
    __m256 s = _mm256_load_ps(squares);
    UNROLLED for (uint32_t i = 8; i < 128; i += 8) s =
        _mm256_add_ps(s, _mm256_load_ps(squares + i));
    _mm256_storeu_ps(sums, s);
    transform_128(at, 1);
}

#include "methods/kernels/x86/transforms.h"

static void KERNEL(hadamard_blocks)(const float *x, const float *factors, float *out, size_t n)
{
    KERNEL(hadamard)(x, factors, out, n);
}

#endif
