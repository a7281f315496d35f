#include "methods/parts/minifloat.h"

#include <math.h>

int kv_scales_create(struct kv_scales *scales, const struct kv_setup *setup, enum kv_scale of,
                     struct kv_error *err)
{
    scales->n = of == KV_SCALE_HEAD ? kv_lanes_in_row(setup) : 1;
    scales->width = setup->dim / scales->n;
    scales->pool = setup->pool;
    scales->of = kv_pool_reserve(setup->pool, KV_WORKSPACE, scales->n * sizeof(float));
    if (!scales->of) return kv_fail(err, KV_EMEMORY, "no memory for %u scales", scales->n);
    for (uint32_t i = 0; i < scales->n; i++) scales->of[i] = 1;
    return KV_OK;
}

void kv_scales_fit(struct kv_scales *scales, const struct kv_sample *sample, float largest)
{
    const uint32_t dim = scales->n * scales->width;
    for (uint32_t s = 0; s < scales->n; s++) {
        float size = 0;
        for (uint32_t i = 0; i < sample->n; i++) {
            const float *row = sample->rows + (size_t)i * dim + (size_t)s * scales->width;
            for (uint32_t c = 0; c < scales->width; c++)
                size = fabsf(row[c]) > size ? fabsf(row[c]) : size;
        }
        scales->of[s] = size / largest > 0 ? size / largest : 1.0f;
    }
    kv_pool_charge(scales->pool, KV_BASIS_ONLINE, 4 * (int64_t)scales->n);
}
