/* Invariants of a layer and a changed one: other tokens to come, heads swapped, another end of the prompt. */
#ifndef KVBENCH_HARNESS_CHECK_CHANGES_H
#define KVBENCH_HARNESS_CHECK_CHANGES_H

#include "harness/check/check_play.h"

enum kv_verdict kv_check_future(struct kv_check *check);
enum kv_verdict kv_check_swapped_heads(struct kv_check *check);
enum kv_verdict kv_check_prompt_end(struct kv_check *check);

#endif
