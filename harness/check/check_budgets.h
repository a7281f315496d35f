/* Invariants of policies that drop rows, each at the edges of its budget. */
#ifndef KVBENCH_HARNESS_CHECK_BUDGETS_H
#define KVBENCH_HARNESS_CHECK_BUDGETS_H

#include "harness/check/check_play.h"

/* True where atoms may outlive some of their rows, so that bytes hang on which rows were dropped: under
 * eviction step by step, or from heads of unequal length. */
bool kv_check_leaves_holes(const struct kv_spec *spec);

enum kv_verdict kv_check_edge_budgets(struct kv_check *check);
enum kv_verdict kv_check_no_budget(struct kv_check *check);
enum kv_verdict kv_check_stored_budget(struct kv_check *check);
enum kv_verdict kv_check_ties(struct kv_check *check);
enum kv_verdict kv_check_question(struct kv_check *check);
enum kv_verdict kv_check_short_prompt(struct kv_check *check);

#endif
