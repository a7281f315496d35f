/* Rows that policies hold, counted and not gone through: trim's own rule as arithmetic. */
#ifndef KVBENCH_HARNESS_MEMORY_HELD_ROWS_H
#define KVBENCH_HARNESS_MEMORY_HELD_ROWS_H

#include "methods/cache.h"

struct kv_held_rows {
    uint32_t n, prompt; /* rows a lane holds at the end, on the average; of the prompt */
    int64_t arrays;     /* metadata bytes a lane that policies keep beside their rows */
};

/* After so many tokens, the first `prefill` at once; the cache's geometry says the same. False
 * where bytes hang on which rows are held: atoms of several rows under eviction step by step or of
 * joined heads and layers, chunks behind another policy. */
bool kv_held_rows_count(const struct kv_cache *cache, uint32_t tokens, uint32_t prefill,
                        struct kv_held_rows *held);

#endif
