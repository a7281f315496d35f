/* Keys and values made ready for many rows, by sets that multiply faster so (kernels.h, ready_keys). */
#ifndef KVBENCH_METHODS_KERNELS_READY_H
#define KVBENCH_METHODS_KERNELS_READY_H

#include <stdbool.h>
#include <stddef.h>

#include "methods/kernels/kernels.h"

enum {
    KV_READY_CELL = 32, /* lines, and columns, of a cell */
    KV_READY_TILE = 256 /* lines that are made ready at a time */
};

static inline uint32_t kv_whole_cells(uint32_t n)
{
    return (n + KV_READY_CELL - 1) / KV_READY_CELL * KV_READY_CELL;
}

/* Whether the set makes lines ready, and so many rows are worth it. */
static inline bool kv_ready_pays(const struct kv_kernels *kernels, uint32_t rows)
{
    enum { LEAST = 32 };
    return kernels->ready_cell && rows >= LEAST;
}

/* Floats of scratch for a tile of lines of at most `dim` columns; 0: the set makes nothing ready. */
size_t kv_ready_floats(const struct kv_kernels *kernels, uint32_t dim);

/* Where a tile may lie in such scratch. */
float *kv_ready_place(float *scratch);

/* logits and accumulate (kernels.h) of many rows: the lines are made ready a tile at a time. scratch NULL:
 * those entries themselves. columns: a multiple of panel. */
void kv_many_logits(const struct kv_kernels *kernels, float *scratch, const float *queries, uint32_t rows,
                    uint32_t dim, const float *panels, uint32_t columns, float scale, float *logits,
                    uint32_t stride);
void kv_many_sums(const struct kv_kernels *kernels, float *scratch, const float *weights, uint32_t rows,
                  uint32_t stride, const float *values, uint32_t n, uint32_t dim, float *outputs);

#endif
