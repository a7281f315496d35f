/* Logits of a block of rows and the columns of a tile. */
#include "methods/sweep/parts.h"

#include <math.h>
#include <string.h>

void kv_block_compute(const struct kv_sweep *sweep, const struct block *block, const float *queries,
                      uint32_t dim, const float *panels, float *logits, uint32_t stride)
{
    const struct kv_geometry *geometry = sweep->geometry;
    const uint32_t panel = sweep->kernels->panel, columns = block->to - block->from;
    sweep->kernels->logits(queries + (size_t)block->first * dim, block->n, dim,
                           panels + (size_t)block->from * dim,
                           (columns + panel - 1) / panel * panel, (float)geometry->scale,
                           logits + block->from, stride);
    if (geometry->softcap == 0) return;
    for (uint32_t r = 0; r < block->n; r++)
        sweep->kernels->softcap(logits + (size_t)r * stride + block->from, columns,
                                (float)geometry->softcap);
}

uint32_t kv_kept_stride(uint32_t lines)
{
    return (lines + TILE - 1) / TILE * TILE;
}

float *kv_block_kept(const struct kv_kept *kept, const struct work *work, const struct block *block)
{
    if (block->first + block->n > kept->rows) return NULL;
    return kept->logits + (size_t)block->first * kept->stride + work->tile.first;
}

void kv_block_tile_logits(struct work *work, const struct block *block, const float *queries,
                          uint32_t dim, const float *panels, float *logits)
{
    const struct tile *tile = &work->tile;
    if (!tile->packed) {
        kv_block_compute(work->sweep, block, queries, dim, panels, logits, STRIDE);
        return;
    }
    struct block close = *block;
    close.from = block->alive_from / work->sweep->kernels->panel * work->sweep->kernels->panel;
    close.to = block->alive_to;
    kv_block_compute(work->sweep, &close, queries, dim, panels, work->shifts, STRIDE);
    const float left_out = block->masked ? -INFINITY : 0;
    for (uint32_t r = 0; r < block->n; r++, logits += STRIDE) {
        const float *from = work->shifts + (size_t)r * STRIDE;
        for (uint32_t j = block->from; j < block->to; j++) logits[j] = left_out;
        for (uint32_t i = block->alive_from; i < block->alive_to; i++)
            logits[tile->alive[i]] = from[i];
    }
}

void kv_block_logits(struct work *work, const struct block *block)
{
    const struct kv_sweep *sweep = work->sweep;
    const uint32_t dim = kv_sweep_columns(sweep, 0), stride = sweep->kept.stride;
    float *kept = kv_block_kept(&sweep->kept, work, block);
    if (!kept) {
        kv_block_tile_logits(work, block, sweep->rows.queries, dim, work->tile.panels,
                             work->logits);
        return;
    }
    kv_block_compute(sweep, block, sweep->rows.queries, dim, work->tile.panels, kept, stride);
    for (uint32_t r = 0; r < block->n; r++)
        memcpy(work->logits + (size_t)r * STRIDE + block->from,
               kept + (size_t)r * stride + block->from, (block->to - block->from) * sizeof *kept);
}
