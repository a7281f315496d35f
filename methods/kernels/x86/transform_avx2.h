/* The Hadamard transform of 64 and 128 floats, for the AVX2 set: one pass over memory.
 *
 * A vector's halves lie half a row apart, so that what crosses them is the last span and not the
 * third: sums and differences of two narrow vectors. Cores with 128-bit units pay eight operations
 * for a shuffle across halves and one for taking a half out. Of 128 floats one half of the vectors
 * waits on the stack while the registers hold the other. */
#ifndef KVBENCH_METHODS_KERNELS_X86_TRANSFORM_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_TRANSFORM_AVX2_H

enum { FAR_VECS = 8 };

/* Four floats, times their factors. */
ALWAYS_INLINE __m128 load_four(const struct transform *at, int has_factors, size_t i)
{
    const __m128 x = _mm_loadu_ps(at->x + i);
    return has_factors ? _mm_mul_ps(_mm_loadu_ps(at->factors + i), x) : x;
}

/* Spans 1 to 16 of 32 floats and of the 32 that lie `apart` from them. Meanwhile *squares, if there
 * are such, grow by those of the 64 floats from `row` on: a chain of sums that alone would take as
 * long as half the transform. */
ALWAYS_INLINE void transform_near(struct transform at, int has_factors, size_t apart,
                                  __m256 v[FAR_VECS], const float *row, __m256 *squares)
{
    UNROLLED for (uint32_t i = 0; i < FAR_VECS; i++)
    {
        if (squares) *squares = add(*squares, mul(load(row + LANES * i), load(row + LANES * i)));
        const __m128 low = load_four(&at, has_factors, 4 * i);
        const __m128 high = load_four(&at, has_factors, 4 * i + apart);
        v[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
        v[i] = butterfly(butterfly(v[i], 1), 2);
    }
    UNROLLED for (uint32_t span = 1; span < FAR_VECS; span *= 2)
        UNROLLED for (uint32_t i = 0; i < FAR_VECS; i++) if (!(i & span)) meet(&v[i], &v[i + span]);
}

/* The span between a vector's halves: their sum, and `apart` from it their difference. */
ALWAYS_INLINE void store_met(float *out, size_t apart, __m256 v)
{
    const __m128 low = _mm256_castps256_ps128(v), high = _mm256_extractf128_ps(v, 1);
    _mm_storeu_ps(out, _mm_add_ps(low, high));
    _mm_storeu_ps(out + apart, _mm_sub_ps(low, high));
}

ALWAYS_INLINE void transform_64(struct transform at, int has_factors)
{
    __m256 v[FAR_VECS];
    transform_near(at, has_factors, 32, v, NULL, NULL);
    UNROLLED for (uint32_t i = 0; i < FAR_VECS; i++) store_met(at.out + 4 * i, 32, v[i]);
}

ALWAYS_INLINE void transform_128(struct transform at, int has_factors, __m256 *squares)
{
    __m256 v[FAR_VECS], w[FAR_VECS];
    struct transform next = {at.x + 32, has_factors ? at.factors + 32 : NULL, at.out + 32};
    transform_near(at, has_factors, 64, v, at.x, squares);
    transform_near(next, has_factors, 64, w, at.x + 64, squares);
    UNROLLED for (uint32_t i = 0; i < FAR_VECS; i++)
    {
        meet(&v[i], &w[i]);
        store_met(at.out + 4 * i, 64, v[i]);
        store_met(next.out + 4 * i, 64, w[i]);
    }
}

/* Each on its own: compilers move loads that two branches share in front of both, and out of the
 * registers. */
#define ALONE static __attribute__((noinline)) void

ALONE KERNEL(plain_64)(const float *x, float *out)
{
    transform_64((struct transform){x, NULL, out}, 0);
}

ALONE KERNEL(scaled_64)(const float *x, const float *factors, float *out)
{
    transform_64((struct transform){x, factors, out}, 1);
}

ALONE KERNEL(plain_128)(const float *x, float *out)
{
    transform_128((struct transform){x, NULL, out}, 0, NULL);
}

ALONE KERNEL(scaled_128)(const float *x, const float *factors, float *out)
{
    transform_128((struct transform){x, factors, out}, 1, NULL);
}

static __attribute__((noinline)) float KERNEL(measured_128)(const float *x, const float *factors,
                                                            float *out)
{
    __m256 sums = zeros();
    float s[LANES];
    transform_128((struct transform){x, factors, out}, 1, &sums);
    store(s, sums);
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

static void KERNEL(hadamard_far)(const float *x, const float *factors, float *out, size_t n)
{
    if (n < 64)
        KERNEL(hadamard)(x, factors, out, n);
    else if (n == 64 && factors)
        KERNEL(scaled_64)(x, factors, out);
    else if (n == 64)
        KERNEL(plain_64)(x, out);
    for (size_t i = 0; i < n && n > 64; i += 128)
        if (factors)
            KERNEL(scaled_128)(x + i, factors + i, out + i);
        else
            KERNEL(plain_128)(x + i, out + i);
    if (n > 128) KERNEL(wide_spans)(out, n, 128);
}

static float KERNEL(hadamard_far_squares)(const float *x, const float *factors, float *out,
                                          size_t n)
{
    if (n == 128 && factors) return KERNEL(measured_128)(x, factors, out);
    KERNEL(hadamard_far)(x, factors, out, n);
    return KERNEL(sum_squares)(x, n);
}

#endif
