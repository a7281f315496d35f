/* Four partial sums of magnitudes are one vector of doubles in both x86 sets. */
#ifndef KVBENCH_METHODS_KERNELS_X86_MAGNITUDES_H
#define KVBENCH_METHODS_KERNELS_X86_MAGNITUDES_H

static double KERNEL(sum_magnitudes)(const float *x, size_t n)
{
    const __m128 sign = _mm_set1_ps(-0.0f);
    __m256d sums = _mm256_setzero_pd();
    double s[4];
    for (; n >= 4; n -= 4, x += 4)
        sums = _mm256_add_pd(sums, _mm256_cvtps_pd(_mm_andnot_ps(sign, _mm_loadu_ps(x))));
    _mm256_storeu_pd(s, sums);
    for (; n; n--, x++) s[0] += (double)fabsf(*x);
    return (s[0] + s[1]) + (s[2] + s[3]);
}

#endif
