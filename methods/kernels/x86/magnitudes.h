/* Four partial sums of magnitudes are one vector of doubles in both x86 sets; eight terms a word. */
#ifndef KVBENCH_METHODS_KERNELS_X86_MAGNITUDES_H
#define KVBENCH_METHODS_KERNELS_X86_MAGNITUDES_H

static double KERNEL(sum_magnitudes)(const float *x, size_t n)
{
    __m256d sums = _mm256_setzero_pd();
    double s[4];
    for (; n >= 16; n -= 16, x += 16) sums = add_magnitudes(add_magnitudes(sums, x), x + 8);
    if (n >= 8) sums = add_magnitudes(sums, x), n -= 8, x += 8;
    _mm256_storeu_pd(s, sums);
    for (; n >= 4; n -= 4, x += 4)
        for (int k = 0; k < 4; k++) s[k] += (double)fabsf(x[k]);
    for (; n; n--, x++) s[0] += (double)fabsf(*x);
    return (s[0] + s[1]) + (s[2] + s[3]);
}

#endif
