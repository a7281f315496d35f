/* Turning keys back to before the rotation, and forth again (trace.md: rope_*). */
#ifndef KVBENCH_METHODS_ROTARY_H
#define KVBENCH_METHODS_ROTARY_H

#include <stdbool.h>

#include "harness/base/geometry.h"
#include "harness/base/pool.h"

struct kv_rotary {
    const struct kv_rope *rope;
    float *cosine, *sine;          /* [tokens][dims / 2], rope scale included: rotation as recorded */
};

/* cos and sin of any angle of moderate size, the same bits on every CPU. */
void kv_cos_sin(double angle, double *cosine, double *sine);

/* Tables for all tokens; false when memory is exhausted. */
bool kv_rotary_create(struct kv_rotary *rotary, const struct kv_geometry *geometry,
                      struct kv_pool *pool);

/* key [key_dim] of a token, in place: rotated -> unrotated, and its inverse. */
void kv_rotary_undo(const struct kv_rotary *rotary, uint32_t token, float *key);
void kv_rotary_apply(const struct kv_rotary *rotary, uint32_t token, float *key);

#endif
