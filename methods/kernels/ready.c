/* Lines made ready a tile at a time; see ready.h. */
#include "methods/kernels/ready.h"

enum { LINE = 64 / sizeof(float) };

size_t kv_ready_floats(const struct kv_kernels *kernels, uint32_t dim)
{
    const size_t cells = (size_t)(KV_READY_TILE / KV_READY_CELL) * (kv_whole_cells(dim) / KV_READY_CELL);
    return kernels->ready_cell ? cells * kernels->ready_cell + LINE : 0;
}

float *kv_ready_place(float *scratch)
{
    const size_t past = (uintptr_t)scratch / sizeof *scratch % LINE;
    return scratch ? scratch + (LINE - past) % LINE : NULL;
}

void kv_many_logits(const struct kv_kernels *kernels, float *scratch, const float *queries, uint32_t rows,
                    uint32_t dim, const float *panels, uint32_t columns, float scale, float *logits,
                    uint32_t stride)
{
    if (!scratch) {
        kernels->logits(queries, rows, dim, panels, columns, scale, logits, stride);
        return;
    }
    float *ready = kv_ready_place(scratch);
    for (uint32_t j = 0; j < columns; j += KV_READY_TILE) {
        const uint32_t n = columns - j < KV_READY_TILE ? columns - j : KV_READY_TILE;
        kernels->ready_keys(panels + (size_t)j * dim, n, dim, ready);
        kernels->ready_logits(queries, rows, dim, ready, 0, n, scale, logits + j, stride);
    }
}

void kv_many_sums(const struct kv_kernels *kernels, float *scratch, const float *weights, uint32_t rows,
                  uint32_t stride, const float *values, uint32_t n, uint32_t dim, float *outputs)
{
    if (!scratch) {
        kernels->accumulate(weights, rows, stride, values, n, dim, NULL, outputs);
        return;
    }
    float *ready = kv_ready_place(scratch);
    for (uint32_t j = 0; j < n; j += KV_READY_TILE) {
        const uint32_t some = n - j < KV_READY_TILE ? n - j : KV_READY_TILE;
        kernels->ready_values(values + (size_t)j * dim, some, dim, ready);
        kernels->ready_sums(weights + j, rows, stride, ready, 0, some, dim, NULL, outputs);
    }
}
