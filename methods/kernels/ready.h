/* Keys and values made ready for many rows, by sets that multiply faster so (kernels.h, ready_keys). */
#ifndef KVBENCH_METHODS_KERNELS_READY_H
#define KVBENCH_METHODS_KERNELS_READY_H

#include <stdbool.h>
#include <stddef.h>

#include "methods/kernels/kernels.h"

enum {
    KV_READY_CELL = 32, /* lines, and columns, of a cell */
    KV_READY_TILE = 256, /* lines that are made ready at a time */
    KV_READY_KEPT = 1024 /* lines that are kept ready at most: they take half as much memory again as floats */
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

/* What ready_logits are to be scaled by where softmaxes take the rest, scale / this, as their unit: a power of two,
 * which leaves queries as few parts as they have; the scale itself where the set makes nothing ready. */
float kv_ready_scale(const struct kv_kernels *kernels, float scale);

/* Floats of scratch for a tile of lines of at most `dim` columns; 0: the set makes nothing ready. */
size_t kv_ready_floats(const struct kv_kernels *kernels, uint32_t dim);

/* Where a tile may lie in such scratch. */
float *kv_ready_place(float *scratch);

/* Lines that stay ready from one product to the next, but for the cells that somebody marks. Where more than a
 * quarter of a tile's cells change between products they are made ready in scratch: kept ones would take room in
 * the cache and save little (h2o's rows come and go in few cells, tova's in most: 9 % and 7 % of their replays). */
enum kv_cell_state { KV_CELL_READY, KV_CELL_STALE, KV_CELL_CHANGED };   /* changed: stale since the last product */
struct kv_kept_ready {
    uint32_t lines;            /* the first ones; whole tiles */
    float *cells;
    uint8_t *states;           /* [lines / KV_READY_CELL] of enum kv_cell_state; at first stale */
};

/* Of so many lines, how many are kept; 0: the set makes nothing ready. */
uint32_t kv_kept_lines(const struct kv_kernels *kernels, uint32_t lines);
/* What they take; lines: whole cells. */
size_t kv_kept_floats(const struct kv_kernels *kernels, uint32_t lines, uint32_t dim);
static inline void kv_kept_mark(struct kv_kept_ready *kept, uint32_t line)
{
    if (line < kept->lines) kept->states[line / KV_READY_CELL] = KV_CELL_CHANGED;
}

/* logits and accumulate (kernels.h) of many rows: lines that are not kept are made ready a tile at a time, in
 * scratch. scratch NULL: those entries themselves. columns: a multiple of panel. */
void kv_many_logits(const struct kv_kernels *kernels, float *scratch, struct kv_kept_ready *kept,
                    const float *queries, uint32_t rows, uint32_t dim, const float *panels, uint32_t columns,
                    float scale, float *logits, uint32_t stride);
void kv_many_sums(const struct kv_kernels *kernels, float *scratch, struct kv_kept_ready *kept,
                  const float *weights, uint32_t rows, uint32_t stride, const float *values, uint32_t n,
                  uint32_t dim, float *outputs);

#endif
