/* The Hadamard transform of 64 and 128 floats, for the AVX2 set: 64 floats fill half of the registers, 128 all of
 * them, so that compilers put some vectors aside. */
#ifndef KVBENCH_METHODS_KERNELS_X86_TRANSFORM_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_TRANSFORM_AVX2_H

enum { HALF_VECS = 8 };

/* HALF_VECS vectors, transformed inside, step by step beside one another: each waits for its last. */
ALWAYS_INLINE void near_spans(struct transform at, int has_factors, vec v[HALF_VECS])
{
    UNROLLED for (uint32_t i = 0; i < HALF_VECS; i++)
    {
        const float *x = at.x + LANES * i;
        v[i] = has_factors ? mul(load(at.factors + LANES * i), load(x)) : load(x);
    }
    UNROLLED for (uint32_t span = 1; span < LANES; span *= 2)
        UNROLLED for (uint32_t i = 0; i < HALF_VECS; i++) v[i] = butterfly(v[i], span);
}

ALWAYS_INLINE void far_spans(vec v[HALF_VECS])
{
    UNROLLED for (uint32_t span = 1; span < HALF_VECS; span *= 2)
        UNROLLED for (uint32_t i = 0; i < HALF_VECS; i++)
            if (!(i & span)) meet(&v[i], &v[i + span]);
}

/* Every `every`-th vector of out. */
ALWAYS_INLINE void store_vecs(float *out, uint32_t every, const vec v[HALF_VECS])
{
    UNROLLED for (uint32_t i = 0; i < HALF_VECS; i++) store(out + LANES * every * i, v[i]);
}

ALWAYS_INLINE void transform_64(struct transform at, int has_factors)
{
    vec v[HALF_VECS];
    near_spans(at, has_factors, v);
    far_spans(v);
    store_vecs(at.out, 1, v);
}

/* A half inside, and each even vector with the odd one behind it. */
ALWAYS_INLINE void transform_pairs(struct transform at, int has_factors, vec *even, vec *odd)
{
    vec v[HALF_VECS];
    near_spans(at, has_factors, v);
    UNROLLED for (uint32_t i = 0; i < HALF_VECS; i += 2)
    {
        meet(&v[i], &v[i + 1]);
        even[i / 2] = v[i], odd[i / 2] = v[i + 1];
    }
}

/* After that even vectors meet even ones alone: they are done and gone before the odd ones want room. */
ALWAYS_INLINE void transform_128(struct transform at, int has_factors)
{
    const struct transform second = {at.x + 64, has_factors ? at.factors + 64 : NULL, NULL};
    vec even[HALF_VECS], odd[HALF_VECS];
    transform_pairs(at, has_factors, even, odd);
    transform_pairs(second, has_factors, even + HALF_VECS / 2, odd + HALF_VECS / 2);
    far_spans(even);
    store_vecs(at.out, 2, even);
    far_spans(odd);
    store_vecs(at.out + LANES, 2, odd);
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
static void KERNEL(hadamard_blocks)(const float *x, const float *factors, float *out, size_t n)
{
    const size_t block = __builtin_ctzll(n) % 2 ? 128 : 64;
    if (factors)
        for (size_t i = 0; i < n; i += block) KERNEL(hadamard_far)(x + i, factors + i, out + i, block, 1);
    else
        KERNEL(hadamard_far)(x, NULL, out, block, n / block);
    KERNEL(wide_spans)(out, n, block);
}

#endif
