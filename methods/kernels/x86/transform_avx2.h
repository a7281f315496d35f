/* The Hadamard transform of 64 and 128 floats, for the AVX2 set: one pass over memory.
 *
 * A vector's halves lie half a row apart, so that what crosses them is the last span and not the
 * third: sums and differences of two narrow vectors. Cores with 128-bit units pay eight operations
 * for a shuffle across halves and one for taking a half out. The first span needs no shuffle where
 * its values come from memory: a load that repeats values takes none of the vector pipes. */
#ifndef KVBENCH_METHODS_KERNELS_X86_TRANSFORM_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_TRANSFORM_AVX2_H

enum { FAR_VECS = 8, FAR_MEETS = 12 };

/* Span 1 of four floats, times their factors: loads repeat each value where they need not multiply.
 */
ALWAYS_INLINE __m128 load_met(const struct transform *at, int has_factors, size_t i)
{
    const __m128 signs = _mm_setr_ps(1, -1, 1, -1), x = _mm_loadu_ps(at->x + i);
    if (!has_factors) return _mm_fmadd_ps(_mm_movehdup_ps(x), signs, _mm_moveldup_ps(x));
    const __m128 y = _mm_mul_ps(_mm_loadu_ps(at->factors + i), x);
    return _mm_fmadd_ps(y, signs, _mm_permute_ps(y, 0xb1));
}

/* Spans 1 and 2 of four floats and of the four that lie `apart` from them. */
ALWAYS_INLINE vec load_halves(const struct transform *at, int has_factors, size_t i, size_t apart)
{
    const __m128 low = load_met(at, has_factors, i), high = load_met(at, has_factors, i + apart);
    return butterfly(_mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1), 2);
}

/* The k-th sum and difference of those that spans 4, 8 and 16 have. */
ALWAYS_INLINE void meet_near(vec v[FAR_VECS], uint32_t k)
{
    const uint32_t span = 1u << k / 4, i = k % 4 / span * 2 * span + k % span;
    meet(&v[i], &v[i + span]);
}

/* The span between a vector's halves: their sum, and `apart` from it their difference. */
ALWAYS_INLINE void store_met(float *out, size_t apart, vec v)
{
    const __m128 low = _mm256_castps256_ps128(v), high = _mm256_extractf128_ps(v, 1);
    _mm_storeu_ps(out, _mm_add_ps(low, high));
    _mm_storeu_ps(out + apart, _mm_sub_ps(low, high));
}

ALWAYS_INLINE void transform_64(struct transform at, int has_factors)
{
    vec v[FAR_VECS];
    UNROLLED for (uint32_t i = 0; i < FAR_VECS; i++) v[i] =
        load_halves(&at, has_factors, 4 * i, 32);
    UNROLLED for (uint32_t k = 0; k < FAR_MEETS; k++) meet_near(v, k);
    UNROLLED for (uint32_t i = 0; i < FAR_VECS; i++) store_met(at.out + 4 * i, 32, v[i]);
}

/* *squares, if there are such, grow by those of x: a chain of sums that alone would take as long as
 * half the transform. */
ALWAYS_INLINE void add_squares(const float *x, vec *squares)
{
    if (squares) *squares = add(*squares, mul(load(x), load(x)));
}

/* Sums of the first half are taken while the second half comes in, and each vector is stored three
 * sums after its own: adders, multiply-adds and stores share the pipes. Of dozens of such orders
 * few take less time on Zen 1, and others some per cent more. */
ALWAYS_INLINE void transform_and_add(struct transform at, int has_factors, vec *squares)
{
    enum { BEFORE = FAR_MEETS - FAR_VECS, BEHIND = 3 };
    vec v[FAR_VECS], w[FAR_VECS];
    UNROLLED for (uint32_t i = 0; i < FAR_VECS; i++)
    {
        add_squares(at.x + LANES * i, squares);
        v[i] = load_halves(&at, has_factors, 4 * i, 64);
    }
    UNROLLED for (uint32_t k = 0; k < BEFORE; k++) meet_near(v, k);
    UNROLLED for (uint32_t i = 0; i < FAR_VECS; i++)
    {
        add_squares(at.x + 64 + LANES * i, squares);
        w[i] = load_halves(&at, has_factors, 32 + 4 * i, 64);
        meet_near(v, BEFORE + i);
    }
    UNROLLED for (uint32_t k = 0; k < FAR_MEETS; k++) meet_near(w, k);
    UNROLLED for (uint32_t k = 0; k < FAR_VECS + BEHIND; k++)
    {
        if (k < FAR_VECS) meet(&v[k], &w[k]);
        if (k < BEHIND) continue;
        store_met(at.out + 4 * (k - BEHIND), 64, v[k - BEHIND]);
        store_met(at.out + 32 + 4 * (k - BEHIND), 64, w[k - BEHIND]);
    }
}

ALWAYS_INLINE void transform_128(struct transform at, int has_factors)
{
    transform_and_add(at, has_factors, NULL);
}

ALWAYS_INLINE __m256 transform_measured(struct transform at)
{
    __m256 squares = zeros();
    transform_and_add(at, 1, &squares);
    return squares;
}

#include "methods/kernels/x86/transforms.h"

ALONE KERNEL(hadamard_blocks)(const float *x, const float *factors, float *out, size_t n)
{
    for (size_t i = 0; i < n; i += 128)
        if (factors)
            KERNEL(scaled_128)(x + i, factors + i, out + i);
        else
            KERNEL(plain_128)(x + i, out + i);
    KERNEL(wide_spans)(out, n, 128);
}

#endif
