/* What banks come to where rows are dropped step by step, and blocks of coded rows outlive some of
 * theirs: exact where the oldest rows go, else the most and the least that the choice of rows can
 * come to. */
#ifndef KVBENCH_HARNESS_MEMORY_OUTLIVING_BLOCKS_H
#define KVBENCH_HARNESS_MEMORY_OUTLIVING_BLOCKS_H

#include "harness/memory/row_extremes.h"

/* Sets a bank's counts to the extreme; held is of all members of the layer group, the bank's first.
 * Lanes of pooled heads count as the average one, of whose rows theirs are a sum. */
void kv_bank_count_outliving(struct kv_bank *bank, const struct kv_held_rows *held,
                             enum kv_extreme extreme);

#endif
