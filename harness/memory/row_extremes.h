/* The largest and the smallest that banks can come to when it is the data that decide which rows
 * they hold: how many a bank of several lanes has, how many each of several lanes has that share a
 * budget, whether the first positions are among them. */
#ifndef KVBENCH_HARNESS_MEMORY_ROW_EXTREMES_H
#define KVBENCH_HARNESS_MEMORY_ROW_EXTREMES_H

#include "harness/memory/held_rows.h"

enum kv_extreme { KV_LEAST = -1, KV_MOST = 1 };

/* True when bytes follow from how many rows come and go, whatever their order. */
bool kv_bank_stores_singly(const struct kv_bank *bank);

/* Sets a bank's counts to those of the extreme of its range. */
void kv_bank_count_extreme(struct kv_bank *bank, const struct kv_row_range *range,
                           enum kv_extreme extreme);

/* Likewise of all banks of one lane where a policy pools heads: budgets of the lanes, of the same
 * sum, that come to the extreme. False when that is no short search. */
bool kv_lanes_count_extreme(struct kv_cache *cache, const struct kv_held_rows *held,
                            enum kv_extreme extreme);

#endif
