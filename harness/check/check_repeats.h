/* Invariants of one layer played twice: again, in another order, on another road, with another seed. */
#ifndef KVBENCH_HARNESS_CHECK_REPEATS_H
#define KVBENCH_HARNESS_CHECK_REPEATS_H

#include "harness/check/check_play.h"

enum kv_verdict kv_check_twice(struct kv_check *check);
enum kv_verdict kv_check_unit_order(struct kv_check *check);
enum kv_verdict kv_check_roads(struct kv_check *check);
enum kv_verdict kv_check_kernel_sets(struct kv_check *check);
enum kv_verdict kv_check_seed(struct kv_check *check);

#endif
