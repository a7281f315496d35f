/* Floats of at most 8 bits: E4M3 (fn), E5M2, E2M1 (OCP 8-bit floating point and microscaling
 * formats; methods/kernels has their codes), and the scales that go with them. */
#ifndef KVBENCH_METHODS_PARTS_MINIFLOAT_H
#define KVBENCH_METHODS_PARTS_MINIFLOAT_H

#include "methods/codec.h"
#include "methods/kernels/minifloat_bits.h"

/* Scales in f32 fitted on the prompt: one for all columns, or one for each of the object's heads.
 */
struct kv_scales {
    uint32_t n, width; /* scales; columns that share one */
    float *of;         /* [n]; 1 before the fit */
    struct kv_pool *pool;
};

enum kv_scale { KV_SCALE_NONE, KV_SCALE_TENSOR, KV_SCALE_HEAD, KV_SCALE_TOKEN };

int kv_scales_create(struct kv_scales *scales, const struct kv_setup *setup, enum kv_scale of,
                     struct kv_error *err);

/* scale = max |x| over the prompt / largest, 1 where that is 0; 4 bytes each, basis_online. */
void kv_scales_fit(struct kv_scales *scales, const struct kv_sample *sample, float largest);

#endif
