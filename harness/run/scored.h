/* Which decode tokens are scored. */
#ifndef KVBENCH_HARNESS_SCORED_H
#define KVBENCH_HARNESS_SCORED_H

#include <stdint.h>

/* All decode tokens when wanted is 0 or not below their number; else `wanted` of them in contiguous
 * blocks of up to 32 at log-spaced depths, the last block ending with the text. Writes ascending tokens
 * to scored (room for tokens - prefill) and returns how many. */
uint32_t kv_choose_scored(uint32_t prefill, uint32_t tokens, uint32_t wanted, uint32_t *scored);

#endif
