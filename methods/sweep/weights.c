/* The weights themselves, once log-sum-exp is known. */
#include "methods/sweep/parts.h"

#include <math.h>
#include <string.h>

/* Weights of one row against the loaded tile, in place of its logits. */
static void weigh_row(struct work *work, const struct block *block, uint32_t row, float *logits)
{
    const struct kv_sweep *sweep = work->sweep;
    const float shift = sweep->answers.log_sum_exp[row];
    const uint32_t columns = block->to - block->from;
    kv_block_mask(work, block, sweep->rows.token[row], logits, NULL);
    if (shift > -INFINITY)
        sweep->kernels->exp_sum(logits + block->from, columns, work->unit, shift);
    else
        memset(logits + block->from, 0, columns * sizeof *logits);
}

/* What weights that were kept with the shifts of the time lack. */
static void find_factors(const struct work *work, const struct block *block, float factors[BLOCK])
{
    const float *sums = work->sweep->answers.log_sum_exp + block->first, *shifts = kv_kept_shifts(work, block);
    for (uint32_t r = 0; r < block->n; r++) factors[r] = sums[r] > -INFINITY ? shifts[r] - sums[r] : -INFINITY;
    work->sweep->kernels->exp_sum(factors, block->n, 1, 0);
}

/* The block's own weights, but for a factor of each row. */
static void make_weights(struct work *work, const struct block *block, float factors[BLOCK])
{
    const struct kv_sweep *sweep = work->sweep;
    float *kept = kv_kept_row(&sweep->kept, block->first);
    work->own.logits = kept ? kept + work->tile.line[0] : work->logits;
    work->own.stride = kept ? sweep->kept.stride : STRIDE;
    if (kept && sweep->kept.shifts) {
        find_factors(work, block, factors);
        return;
    }
    if (!kept) kv_block_compute(work, block, sweep->rows.queries, &work->tile.keys, work->logits, STRIDE);
    for (uint32_t r = 0; r < block->n; r++) {
        weigh_row(work, block, block->first + r, work->own.logits + (size_t)r * work->own.stride);
        factors[r] = 1.0f;
    }
}

static void weigh_block(struct work *work, struct block *block, double *column_sum, float *weights)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_kernels *kernels = sweep->kernels;
    if (!kv_block_choose(&work->tile, sweep->rows.token, block)) return;
    const size_t lines = sweep->lines.n, column = work->tile.line[0] + block->from;
    float factors[BLOCK];
    make_weights(work, block, factors);
    const float *row = work->own.logits + block->from;
    if (column_sum)
        kernels->add_wide(row, block->n, work->own.stride, block->read, factors, column_sum + column);
    for (uint32_t r = 0; weights && r < block->n; r++, row += work->own.stride) {
        float *out = weights + (block->first + r) * lines + column;
        memcpy(out, row, block->read * sizeof *out);
        kernels->scale(out, block->read, factors[r]);
    }
}

/* Rows first .. end - 1: their queries stay in L2 from tile to tile. */
static void weigh_chunk(struct work *work, uint32_t first, uint32_t end, double *column_sum,
                        float *weights)
{
    const struct kv_sweep *sweep = work->sweep;
    const uint32_t tokens[2] = {sweep->rows.token[first], sweep->rows.token[end - 1]};
    work->tile.ready = kv_ready_pays(sweep->kernels, end - first);
    for (uint32_t line = 0; line < sweep->lines.n; line += TILE) {
        if (!kv_tile_enter(work, line, tokens)) continue;
        if (!kv_kept_all(&sweep->kept, first, end - first)) kv_tile_load_keys(work);
        for (uint32_t row = first; row < end; row += BLOCK) {
            struct block block = {row, end - row < BLOCK ? end - row : BLOCK};
            weigh_block(work, &block, column_sum, weights);
        }
    }
}

void kv_sweep_weights(const struct kv_sweep *sweep, double *column_sum, float *weights,
                      float *scratch)
{
    struct kv_sweep plain = *sweep;
    plain.compare = NULL;
    struct work work = {.sweep = &plain, .next = scratch};
    kv_sweep_lay_out(&work);
    if (weights) memset(weights, 0, (size_t)sweep->rows.n * sweep->lines.n * sizeof *weights);
    for (uint32_t row = 0, end; row < sweep->rows.n; row = end) {
        end = sweep->rows.n - row < CHUNK ? sweep->rows.n : row + CHUNK;
        weigh_chunk(&work, row, end, column_sum, weights);
    }
}
