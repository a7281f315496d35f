/* Invariants of what a method loses: nothing where it keeps all, something where it compresses. */
#ifndef KVBENCH_HARNESS_CHECK_LOSSES_H
#define KVBENCH_HARNESS_CHECK_LOSSES_H

#include "harness/check/check_play.h"

enum kv_verdict kv_check_stores_less(struct kv_check *check);
enum kv_verdict kv_check_garbled(struct kv_check *check);
enum kv_verdict kv_check_lossless(struct kv_check *check);
enum kv_verdict kv_check_full_budget(struct kv_check *check);
enum kv_verdict kv_check_differs(struct kv_check *check);

#endif
