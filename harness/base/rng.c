/* Philox4x32-10; see rng.h. */
#include "harness/base/rng.h"

#include <math.h>

void kv_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0, c1 = (uint32_t)p1, c2 = n2, c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

struct kv_rng kv_rng_stream(uint64_t seed, uint32_t a, uint32_t b, uint32_t c)
{
    return (struct kv_rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                           .counter = {0, a, b, c}, .used = 4};
}

uint32_t kv_rng_word(struct kv_rng *rng)
{
    if (rng->used == 4) {
        kv_philox(rng->key, rng->counter, rng->block);
        rng->counter[0]++;
        rng->used = 0;
    }
    return rng->block[rng->used++];
}

double kv_rng_uniform(struct kv_rng *rng)
{
    const uint64_t high = kv_rng_word(rng), low = kv_rng_word(rng);
    return (double)((high << 32 | low) >> 11) * 0x1p-53;
}

/* Natural logarithm of x in (0, 1) from plain arithmetic: libm's differs between CPUs in the last
 * place, and a random rotation must not. With m in [0.5, 1) and z = (m - 1) / (m + 1), |z| <= 1/3,
 * log m = 2 (z + z^3/3 + ...); 16 terms leave less than 3^-33. */
static double portable_log(double x)
{
    int exponent;
    const double m = frexp(x, &exponent), z = (m - 1.0) / (m + 1.0), z2 = z * z;
    double sum = 0.0;
    for (int n = 31; n >= 1; n -= 2) sum = sum * z2 + 1.0 / n;
    return 2.0 * z * sum + exponent * 0.69314718055994530942;
}

double kv_rng_normal(struct kv_rng *rng)
{
    /* Marsaglia's polar method: a point in the unit disc, its second coordinate not used. */
    for (;;) {
        const double x = 2.0 * kv_rng_uniform(rng) - 1.0, y = 2.0 * kv_rng_uniform(rng) - 1.0;
        const double square = x * x + y * y;
        if (square > 0.0 && square < 1.0) return x * sqrt(-2.0 * portable_log(square) / square);
    }
}

uint32_t kv_rng_below(struct kv_rng *rng, uint32_t n)
{
    /* Reject the words above the largest multiple of n. */
    const uint32_t limit = UINT32_MAX - (uint32_t)((UINT64_C(1) << 32) % n);
    uint32_t word = kv_rng_word(rng);
    while (word > limit) word = kv_rng_word(rng);
    return word % n;
}
