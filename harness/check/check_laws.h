/* Invariants of families: bytes by formula, errors that fall with what is spent, projections. */
#ifndef KVBENCH_HARNESS_CHECK_LAWS_H
#define KVBENCH_HARNESS_CHECK_LAWS_H

#include "harness/check/check_play.h"

enum kv_verdict kv_check_bytes(struct kv_check *check);
/* where=host: against the same spec without it. */
enum kv_verdict kv_check_host(struct kv_check *check);
enum kv_verdict kv_check_bits(struct kv_check *check);
enum kv_verdict kv_check_rank(struct kv_check *check);
enum kv_verdict kv_check_projection(struct kv_check *check);

#endif
