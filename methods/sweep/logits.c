/* Logits of a block of rows and the columns of a tile. */
#include "methods/sweep/parts.h"

#include <math.h>
#include <string.h>

void kv_block_compute(const struct work *work, const struct block *block, const float *queries,
                      const struct tile_keys *keys, float *logits, uint32_t stride)
{
    const struct kv_kernels *kernels = work->sweep->kernels;
    const struct kv_geometry *geometry = work->sweep->geometry;
    const uint32_t columns = block->to - block->from, dim = keys->dim;
    const uint32_t grains = (columns + GRAIN - 1) / GRAIN * GRAIN;
    const float *rows = queries + (size_t)block->first * dim;
    if (work->tile.ready)
        kernels->ready_logits(rows, block->n, dim, keys->ready, block->from, grains, work->scale,
                              logits + block->from, stride);
    else
        kernels->logits(rows, block->n, dim, keys->panels + (size_t)block->from * dim, grains, work->scale,
                        logits + block->from, stride);
    if (geometry->softcap == 0) return;
    for (uint32_t r = 0; r < block->n; r++)
        kernels->softcap(logits + (size_t)r * stride + block->from, columns, (float)geometry->softcap);
}

uint32_t kv_kept_tiles(uint32_t lines) { return (lines + TILE - 1) / TILE; }

uint32_t kv_kept_stride(uint32_t lines)
{
    return kv_kept_tiles(lines) * TILE + 16; /* rows KiB apart would share few sets of a cache */
}

bool kv_kept_all(const struct kv_kept *kept, uint32_t first, uint32_t n)
{
    return first >= kept->first && first + n <= kept->first + kept->rows;
}

float *kv_kept_row(const struct kv_kept *kept, uint32_t row)
{
    return kv_kept_all(kept, row, 1) ? kept->logits + (size_t)(row - kept->first) * kept->stride : NULL;
}

float *kv_kept_shifts(const struct work *work, const struct block *block)
{
    const struct kv_kept *kept = &work->sweep->kept;
    return kept->shifts + (size_t)(work->tile.line[0] / TILE) * kept->rows + (block->first - kept->first);
}

void kv_block_close_logits(const struct work *work, const struct block *block,
                           const float *queries, const struct tile_keys *keys, float *close)
{
    const uint32_t panel = work->sweep->kernels->panel;
    struct block loaded = *block;
    loaded.from = block->alive_from / panel * panel;
    loaded.to = block->alive_to;
    kv_block_compute(work, &loaded, queries, keys, close, STRIDE);
}

void kv_block_spread(const struct work *work, const struct block *block, const float *close,
                     float rest, float *out)
{
    const uint16_t *places = work->tile.places + block->from / GRAIN;
    const uint32_t columns = block->to - block->from;
    close += block->alive_from, out += block->from;
    for (uint32_t r = 0; r < block->n; r++, close += STRIDE, out += STRIDE)
        work->sweep->kernels->spread_out(close, places, columns, rest, out);
}

void kv_block_logits(struct work *work, const struct block *block)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct tile_keys *keys = &work->tile.keys;
    const uint32_t stride = sweep->kept.stride;
    float *kept = kv_kept_row(&sweep->kept, block->first);
    work->own.logits = work->logits, work->own.stride = STRIDE;
    if (work->tile.packed) {
        kv_block_close_logits(work, block, sweep->rows.queries, keys, work->close);
        kv_block_spread(work, block, work->close, -INFINITY, work->logits);
        return;
    }
    if (!kept) {
        kv_block_compute(work, block, sweep->rows.queries, keys, work->logits, STRIDE);
        return;
    }
    kept += work->tile.line[0];
    kv_block_compute(work, block, sweep->rows.queries, keys, kept, stride);
    if (sweep->kept.shifts) {
        work->own.logits = kept, work->own.stride = stride;
        return;
    }
    for (uint32_t r = 0; r < block->n; r++)
        memcpy(work->logits + (size_t)r * STRIDE + block->from,
               kept + (size_t)r * stride + block->from, (block->to - block->from) * sizeof *kept);
}
