/* Counter-based random numbers: value = f(key, counter), so that any draw can be made alone, in any
 * order, on any thread. Philox4x32-10 (Salmon et al., SC'11, doi 10.1145/2063384.2063405). */
#ifndef KVBENCH_BASE_RNG_H
#define KVBENCH_BASE_RNG_H

#include <stdint.h>

struct kv_rng {               /* a stream: copy it to fork, step() to draw in sequence */
    uint32_t key[2];
    uint32_t counter[4];      /* counter[0] runs; [1..3] name the stream */
    uint32_t block[4];
    uint32_t used;            /* words of block handed out */
};

/* One block of four words: the function itself, with published test vectors. */
void kv_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

/* A stream named by a seed and three numbers (say layer, head, purpose). */
struct kv_rng kv_rng_stream(uint64_t seed, uint32_t a, uint32_t b, uint32_t c);

uint32_t kv_rng_word(struct kv_rng *rng);
double kv_rng_uniform(struct kv_rng *rng);            /* [0, 1), 53 bits */
double kv_rng_normal(struct kv_rng *rng);             /* the same on every CPU */
uint32_t kv_rng_below(struct kv_rng *rng, uint32_t n); /* 0..n-1, unbiased; n > 0 */

#endif
