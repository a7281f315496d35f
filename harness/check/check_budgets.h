/* Invariants of policies that drop rows, each at the edges of its budget. */
#ifndef KVBENCH_HARNESS_CHECK_BUDGETS_H
#define KVBENCH_HARNESS_CHECK_BUDGETS_H

#include "harness/check/check_play.h"

enum kv_verdict kv_check_held_budget(struct kv_check *check);
enum kv_verdict kv_check_edge_budgets(struct kv_check *check);
enum kv_verdict kv_check_no_budget(struct kv_check *check);
enum kv_verdict kv_check_ties(struct kv_check *check);
enum kv_verdict kv_check_question(struct kv_check *check);
enum kv_verdict kv_check_short_prompt(struct kv_check *check);

#endif
