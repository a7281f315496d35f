/* What the spec under test is, as invariants ask before they hold it to anything. */
#ifndef KVBENCH_HARNESS_CHECK_SUBJECT_H
#define KVBENCH_HARNESS_CHECK_SUBJECT_H

#include "harness/check/check_play.h"

/* Whether any policy of any of its caches is so; and of what kinds they are. */
bool kv_subject_has(const struct kv_check *check, bool (*is)(const struct kv_stage *));
bool kv_drops_rows(const struct kv_stage *stage);
bool kv_drops_at_steps(const struct kv_stage *stage);
bool kv_selects_rows(const struct kv_stage *stage);
bool kv_merges_rows(const struct kv_stage *stage);
bool kv_chooses_rows(const struct kv_stage *stage);

bool kv_subject_keeps_no_rows(const struct kv_check *check);
bool kv_subject_feeds_back(const struct kv_check *check);
bool kv_subject_fits_prompt(const struct kv_check *check);
bool kv_subject_is_oracle(const struct kv_check *check);

/* One method, as it is registered. Another setting may be one that compresses nothing (rank=1.0, sinks
 * above the length): its rows are flagged so. */
bool kv_subject_is_registered(const struct kv_check *check);

#define KV_KEPT_WHOLE "a policy that keeps this layer whole"

/* Of the layer of most invariants. */
int64_t kv_check_recorded_bytes(void);

#endif
