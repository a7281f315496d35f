/* Lines made ready a tile at a time; see ready.h. */
#include "methods/kernels/ready.h"

#include <math.h>

enum { LINE = 64 / sizeof(float) };

float kv_ready_scale(const struct kv_kernels *kernels, float scale)
{
    int power;
    const float half = frexpf(scale, &power);
    return kernels->ready_cell && half > 0 ? ldexpf(0.5f, power) : scale;
}

uint32_t kv_kept_lines(const struct kv_kernels *kernels, uint32_t lines)
{
    const uint32_t whole = (lines + KV_READY_TILE - 1) / KV_READY_TILE * KV_READY_TILE;
    return !kernels->ready_cell ? 0 : whole < KV_READY_KEPT ? whole : KV_READY_KEPT;
}

size_t kv_kept_floats(const struct kv_kernels *kernels, uint32_t lines, uint32_t dim)
{
    return (size_t)(lines / KV_READY_CELL) * (kv_whole_cells(dim) / KV_READY_CELL) * kernels->ready_cell;
}

size_t kv_ready_floats(const struct kv_kernels *kernels, uint32_t dim)
{
    return kernels->ready_cell ? kv_kept_floats(kernels, KV_READY_TILE, dim) + LINE : 0;
}

float *kv_ready_place(float *scratch)
{
    const size_t past = (uintptr_t)scratch / sizeof *scratch % LINE;
    return scratch ? scratch + (LINE - past) % LINE : NULL;
}

/* Lines as they come: keys in panels, or rows of values. */
struct lines {
    const float *x;
    uint32_t dim, panel;       /* panel 0: rows */
    void (*make)(const float *x, uint32_t n, uint32_t dim, float *ready);
};

static const float *line_at(const struct lines *lines, uint32_t j)
{
    if (!lines->panel) return lines->x + (size_t)j * lines->dim;
    return lines->x + (size_t)(j / lines->panel) * lines->panel * lines->dim + j % lines->panel;
}

/* Whether a tile's lines are worth keeping; changes since the last product are known no more. */
static bool is_steady(uint8_t *states, uint32_t cells)
{
    uint32_t changed = 0;
    for (uint32_t c = 0; c < cells; c++) {
        changed += states[c] == KV_CELL_CHANGED;
        if (states[c] == KV_CELL_CHANGED) states[c] = KV_CELL_STALE;
    }
    return 4 * changed <= cells;
}

/* n lines of a tile, from line j on. */
static const float *tile_of(const struct kv_kernels *kernels, float *scratch, struct kv_kept_ready *kept,
                            const struct lines *lines, uint32_t j, uint32_t n)
{
    uint8_t *states = kept && j < kept->lines ? kept->states + j / KV_READY_CELL : NULL;
    if (!states || !is_steady(states, kv_whole_cells(n) / KV_READY_CELL)) {
        lines->make(line_at(lines, j), n, lines->dim, scratch);
        return scratch;
    }
    float *tile = kept->cells + kv_kept_floats(kernels, j, lines->dim);
    for (uint32_t at = 0; at < n; at += KV_READY_CELL, states++) {
        const uint32_t some = n - at < KV_READY_CELL ? n - at : KV_READY_CELL;
        if (*states != KV_CELL_READY)
            lines->make(line_at(lines, j + at), some, lines->dim, tile + kv_kept_floats(kernels, at, lines->dim));
        *states = KV_CELL_READY;
    }
    return tile;
}

void kv_many_logits(const struct kv_kernels *kernels, float *scratch, struct kv_kept_ready *kept,
                    const float *queries, uint32_t rows, uint32_t dim, const float *panels, uint32_t columns,
                    float scale, float *logits, uint32_t stride)
{
    if (!scratch) {
        kernels->logits(queries, rows, dim, panels, columns, scale, logits, stride);
        return;
    }
    const struct lines keys = {panels, dim, kernels->panel, kernels->ready_keys};
    for (uint32_t j = 0; j < columns; j += KV_READY_TILE) {
        const uint32_t n = columns - j < KV_READY_TILE ? columns - j : KV_READY_TILE;
        const float *ready = tile_of(kernels, kv_ready_place(scratch), kept, &keys, j, n);
        kernels->ready_logits(queries, rows, dim, ready, 0, n, scale, logits + j, stride);
    }
}

void kv_many_sums(const struct kv_kernels *kernels, float *scratch, struct kv_kept_ready *kept,
                  const float *weights, uint32_t rows, uint32_t stride, const float *values, uint32_t n,
                  uint32_t dim, float *outputs)
{
    if (!scratch) {
        kernels->accumulate(weights, rows, stride, values, n, dim, NULL, outputs, dim);
        return;
    }
    const struct lines lines = {values, dim, 0, kernels->ready_values};
    for (uint32_t j = 0; j < n; j += KV_READY_TILE) {
        const uint32_t some = n - j < KV_READY_TILE ? n - j : KV_READY_TILE;
        const float *ready = tile_of(kernels, kv_ready_place(scratch), kept, &lines, j, some);
        kernels->ready_sums(weights + j, rows, stride, ready, 0, some, dim, NULL, outputs);
    }
}
