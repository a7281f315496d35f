/* The Hadamard transform of 64 and 128 floats, for the AVX2 set: 64 floats fill half of the registers, and the halves
 * of 128 meet through memory, since no register is left to add in. */
#ifndef KVBENCH_METHODS_KERNELS_X86_TRANSFORM_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_TRANSFORM_AVX2_H

enum { HALF_VECS = 8 };

/* Spans 1 to 32 of 64 floats. */
ALWAYS_INLINE void transform_half(struct transform at, int has_factors, vec v[HALF_VECS])
{
    UNROLLED for (uint32_t i = 0; i < HALF_VECS; i++)
    {
        const float *x = at.x + LANES * i;
        v[i] = has_factors ? mul(load(at.factors + LANES * i), load(x)) : load(x);
    }
    UNROLLED for (uint32_t span = 1; span < LANES; span *= 2)
        UNROLLED for (uint32_t i = 0; i < HALF_VECS; i++) v[i] = butterfly(v[i], span);
    UNROLLED for (uint32_t span = 1; span < HALF_VECS; span *= 2)
        UNROLLED for (uint32_t i = 0; i < HALF_VECS; i++)
            if (!(i & span)) meet(&v[i], &v[i + span]);
}

ALWAYS_INLINE void transform_64(struct transform at, int has_factors)
{
    vec v[HALF_VECS];
    transform_half(at, has_factors, v);
    UNROLLED for (uint32_t i = 0; i < HALF_VECS; i++) store(at.out + LANES * i, v[i]);
}

ALWAYS_INLINE void transform_128(struct transform at, int has_factors)
{
    vec v[HALF_VECS];
    transform_half(at, has_factors, v);
    UNROLLED for (uint32_t i = 0; i < HALF_VECS; i++) store(at.out + LANES * i, v[i]);
    at.x += 64;
    if (has_factors) at.factors += 64;
    transform_half(at, has_factors, v);
    UNROLLED for (uint32_t i = 0; i < HALF_VECS; i++)
    {
        float *out = at.out + LANES * i;
        const vec low = load(out);
        store(out, add(low, v[i]));
        store(out + 64, sub(low, v[i]));
    }
}

/* Ahead of the transform: among it their sum would take the registers that it needs, and each waits for the one
 * before it, which the transform does not. */
ALWAYS_INLINE __m256 squares_of_128(const float *from)
{
    __m256 squares = zeros();
    UNROLLED for (uint32_t i = 0; i < 2 * HALF_VECS; i++)
    {
        const vec x = load(from + LANES * i);
        squares = add(squares, mul(x, x));
    }
    return squares;
}

#include "methods/kernels/x86/transforms.h"

/* Blocks such that what is left takes whole passes of two spans. */
ALONE KERNEL(hadamard_blocks)(const float *x, const float *factors, float *out, size_t n)
{
    const size_t block = __builtin_ctzll(n) % 2 ? 128 : 64;
    for (size_t i = 0; i < n; i += block) KERNEL(hadamard_far)(x + i, factors ? factors + i : NULL, out + i, block);
    KERNEL(wide_spans)(out, n, block);
}

#endif
