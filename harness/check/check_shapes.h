/* Invariants of shapes: what every method must answer, or refuse with a reason. */
#ifndef KVBENCH_HARNESS_CHECK_SHAPES_H
#define KVBENCH_HARNESS_CHECK_SHAPES_H

#include "harness/check/check_play.h"

/* change: the fields of the plain shape that are others; 0 is no change. */
struct kv_shape_invariant {
    struct kv_invariant_text text;
    struct kv_check_shape change;
};
enum { KV_CHECK_SHAPES = 14 };
extern const struct kv_shape_invariant kv_check_shapes[KV_CHECK_SHAPES];

enum kv_verdict kv_check_on_shape(struct kv_check *check, const struct kv_check_shape *change);

/* Every byte count is recounted from the lists, every step, and answers are finite. */
enum kv_verdict kv_check_accounts(struct kv_check *check);

#endif
