/* Rows that policies hold, counted and not gone through: trim's own rule as arithmetic. Where it is
 * the data that decide which rows a lane holds, ranges of what that can come to. */
#ifndef KVBENCH_HARNESS_MEMORY_HELD_ROWS_H
#define KVBENCH_HARNESS_MEMORY_HELD_ROWS_H

#include "methods/cache/cache.h"

struct kv_held_rows {
    uint32_t tokens, prefill; /* that came; of them at once */
    uint32_t n, prompt; /* rows a lane holds at the end, of the prompt; pooled: on the average */
    uint32_t fewest;    /* n at least, where lanes drop several rows at once in unlike rhythms */
    uint32_t least;     /* of the prompt, what a lane of pooled heads holds at least; else prompt */
    uint32_t shut, sinks; /* of n, rows that every lane holds; of them, at the first positions */
    uint32_t newest, common; /* rows at a lane's end that no step drops; that all lanes hold always */
    uint32_t sets;        /* lanes of this layer may hold so many different sets of rows */
    bool by_position;     /* the same rows in all layers, as far as they hold any */
    bool oldest_go;       /* by one such policy: the oldest behind the sinks */
    bool in_order;        /* what is dropped goes before anything is encoded */
    int64_t arrays[2];    /* metadata bytes a lane beside its rows: least, most */
};

/* After so many tokens, the first `prefill` at once; the cache's geometry says the same. False
 * where it is not arithmetic: chunks or pooled heads among other policies, and the like. */
bool kv_held_rows_count(const struct kv_cache *cache, uint32_t tokens, uint32_t prefill,
                        struct kv_held_rows *held);

/* Rows of a bank in a lane or in any of its lanes, and of those at the first `sinks` positions. */
struct kv_row_range {
    uint32_t least, most;
    uint32_t steps; /* of each, rows that came one by one */
    uint32_t sinks[2];
};

/* Rows that some lane of the bank holds after the prompt. */
struct kv_row_range kv_held_after_prompt(const struct kv_bank *bank,
                                         const struct kv_held_rows *held);

/* Of a bank of the cache that policies drop from, or (dropped) that takes what they drop; held is
 * of all members of the layer group, the bank's first. */
struct kv_row_range kv_held_range(const struct kv_bank *bank, const struct kv_held_rows *held,
                                  bool dropped);

#endif
