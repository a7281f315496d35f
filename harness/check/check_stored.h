/* Budgets that are said in bits: what is stored of a layer, or of all that share them. */
#ifndef KVBENCH_HARNESS_CHECK_STORED_H
#define KVBENCH_HARNESS_CHECK_STORED_H

#include "harness/check/check_play.h"

enum kv_verdict kv_check_stored_budget(struct kv_check *check);

#endif
