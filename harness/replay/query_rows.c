/* Query rows; see query_rows.h. */
#include "harness/replay/query_rows.h"

void kv_widen_queries(const struct kv_layer *layer, uint32_t kv_head, const uint32_t *tokens,
                      uint32_t n, const struct kv_kernels *kernels, float *queries)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t g = 0; g < geometry->group; g++, queries += geometry->key_dim)
            kv_widen_rows(&layer->q, kv_head * geometry->group + g, tokens[i], 1, kernels, queries);
}

static void decode_recorded(void *source, uint32_t first, uint32_t n, float *keys, float *values)
{
    const struct kv_recorded *recorded = source;
    if (keys) kv_widen_rows(&recorded->layer->k, recorded->head, first, n, recorded->kernels, keys);
    if (values) kv_widen_rows(&recorded->layer->v, recorded->head, first, n, recorded->kernels, values);
}

struct kv_lines kv_recorded_lines(struct kv_recorded *recorded, uint32_t n, uint32_t *index)
{
    for (uint32_t t = 0; t < n; t++) index[t] = t, index[n + t] = UINT32_MAX;
    return (struct kv_lines){.n = n, .position = index, .from = index, .until = index + n,
                             .decode = decode_recorded, .source = recorded};
}
