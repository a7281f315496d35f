/* What a cache takes for so many rows, without a row in it; and budgets that are said in bytes.
 *
 * `budget=256KiB`: bytes of one layer, all its KV heads; `budget=2.5b`: bits per element of K and V
 * of all tokens. Either stands for the most rows a head with which the cache, as it is composed
 * (codec, exact rows, state and arrays of the policies, bases), is no larger at the end of the
 * replay than was asked. Policies that act on the prompt alone keep the decoded rows, too: those
 * count. Rows are counted as if they came in order; an atom of which some rows were dropped is
 * charged whole, so that a cache of blocks that evicts step by step may come out larger: the
 * realised value stands beside the asked one. */
#ifndef KVBENCH_METHODS_BYTE_LAW_H
#define KVBENCH_METHODS_BYTE_LAW_H

#include "methods/cache/cache.h"

/* Turns the budgets of all policies of a cache that are said in bytes or bits into rows, and gives
 * the lanes theirs. KV_EUNSUPPORTED when a budget, or a share of the prompt, is not a single row.
 */
int kv_cache_settle_budgets(struct kv_cache *cache, struct kv_error *err);

#endif
