/* Many rows and lines that are made ready under way; see many_rows.h. */
#include "methods/kernels/many_rows.h"

enum { TILE = 256, CELL = 32, LINE = 64 / sizeof(float) };

size_t kv_many_scratch(const struct kv_kernels *kernels, uint32_t dim)
{
    return kernels->ready_cell ? TILE / CELL * (size_t)((dim + CELL - 1) / CELL) * kernels->ready_cell + LINE : 0;
}

static float *aligned(float *scratch)
{
    const size_t past = (uintptr_t)scratch / sizeof *scratch % LINE;
    return scratch + (LINE - past) % LINE;
}

void kv_many_logits(const struct kv_kernels *kernels, float *scratch, const float *queries, uint32_t rows,
                    uint32_t dim, const float *panels, uint32_t columns, float scale, float *logits,
                    uint32_t stride)
{
    if (!scratch) {
        kernels->logits(queries, rows, dim, panels, columns, scale, logits, stride);
        return;
    }
    float *ready = aligned(scratch);
    for (uint32_t j = 0; j < columns; j += TILE) {
        const uint32_t n = columns - j < TILE ? columns - j : TILE;
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
    float *ready = aligned(scratch);
    for (uint32_t j = 0; j < n; j += TILE) {
        const uint32_t some = n - j < TILE ? n - j : TILE;
        kernels->ready_values(values + (size_t)j * dim, some, dim, ready);
        kernels->ready_sums(weights + j, rows, stride, ready, 0, some, dim, NULL, outputs);
    }
}
