/* Scored tokens; see scored.h. */
#include "harness/run/scored.h"

#include <math.h>

enum { BLOCK = 32 };

uint32_t kv_choose_scored(uint32_t prefill, uint32_t tokens, uint32_t wanted, uint32_t *scored)
{
    const uint32_t all = tokens - prefill;
    if (wanted == 0 || wanted > all) wanted = all;
    const uint32_t blocks = (wanted + BLOCK - 1) / BLOCK;
    uint32_t n = 0, next = 0;                /* next: first decode step that is still free */
    for (uint32_t b = 0; b < blocks; b++) {
        const uint32_t left = wanted - n, size = left < BLOCK ? left : BLOCK;
        /* Depths spaced evenly in log(1 + step), from the first decode step to the last block. */
        const double share = blocks > 1 ? (double)b / (blocks - 1) : 1.0;
        uint32_t first = (uint32_t)(exp(share * log(1.0 + all - size)) - 1.0 + 0.5);
        if (first < next) first = next;
        if (first > all - left) first = all - left;   /* leave room for the blocks to come */
        for (uint32_t i = 0; i < size; i++) scored[n++] = prefill + first + i;
        next = first + size;
    }
    return n;
}
