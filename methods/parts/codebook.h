/* Lloyd-Max codebooks for one coordinate of a uniformly random unit vector of R^d, times sqrt(d).
 *
 * Density f(x) = (1 - x^2)^((d - 3) / 2) up to a factor, x in [-1, 1] (TurboQuant, arXiv
 * 2504.19874, lemma 1). A table is optimal when each centroid is its cell's mean and each threshold
 * the middle of two centroids; that system is solved by Newton's method. Only + - * / sqrt: the
 * same bits on every machine, whatever its libm. */
#ifndef KVBENCH_METHODS_PARTS_CODEBOOK_H
#define KVBENCH_METHODS_PARTS_CODEBOOK_H

#include <stdint.h>

enum { KV_CODEBOOK_BITS = 8 };

struct kv_codebook {
    uint32_t n;                                     /* 2^bits centroids, ascending */
    double centroids[1 << KV_CODEBOOK_BITS];        /* symmetric about 0 */
    double thresholds[(1 << KV_CODEBOOK_BITS) - 1]; /* n - 1 of them */
};

/* bits 1 .. KV_CODEBOOK_BITS; d >= 1, where d < 3 takes the uniform density of d = 3 (true
 * densities there are unbounded at the ends). */
void kv_codebook_fill(struct kv_codebook *book, uint32_t d, uint32_t bits);

/* Mean square error of the table on a unit vector (all coordinates together). */
double kv_codebook_error(const struct kv_codebook *book, uint32_t d);

#endif
