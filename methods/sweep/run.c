/* The fp32 attention sweep; see sweep.h. What it consists of: parts.h.
 *
 * Loops, outermost first: chunks of at most CHUNK query rows (whose softmax states lie in scratch),
 * tiles of TILE lines (decoded once a chunk), blocks of BLOCK rows. A block reads the columns of a
 * tile that any of its rows sees, in steps of STEP columns; kernels sum a row's columns in an order
 * that depends on the column's place in the tile only (index mod STEP), so that a row's result does
 * not depend on which rows share its block.
 *
 * A policy that evicts leaves tiles of which few lines are seen by any row of the chunk. Products
 * then pass over those alone, side by side (`packed`): a logit is a sum over its own key, an output
 * adds values in ascending order and a line that nobody sees adds 0, so that results stay what they
 * are. Sums of a row keep the columns' places. Sets whose roundings hang on a line's neighbours anyway (ready.h)
 * spare softmaxes those lines, too: alive ones of several tiles are gathered in one.
 *
 * Keys that are read as they were recorded (`recorded`) have exact logits that nobody needs to
 * compute again; while a row has read nothing else, its exact softmax is the answer's own.
 *
 * Softmax state of a row, as in flash attention (Milakov and Gimelshein 2018, arXiv 1805.02867):
 * the largest logit so far (or a shift nearly as large: struct kv_softmax), the sum of exp(logit - largest), and
 * the output in units of exp(largest). A sink logit is the state's beginning: largest = sink, sum = 1, output = 0. */
#include "methods/sweep/parts.h"

#include <math.h>
#include <string.h>

/* Masks the logits of the block's rows, and the exact ones beside them. */
static void mask_block(struct work *work, const struct block *block, uint32_t state)
{
    const struct kv_sweep *sweep = work->sweep;
    const uint32_t *tokens = sweep->rows.token + block->first;
    if (!sweep->compare && kv_block_open(block, tokens[0], tokens[block->n - 1])) return;
    for (uint32_t r = 0; r < block->n; r++) {
        float *exact = sweep->compare ? kv_compare_masked(work, block, r) : NULL;
        work->states.seen[state + r] +=
            kv_block_mask(work, block, tokens[r], work->own.logits + (size_t)r * work->own.stride, exact);
    }
}

/* The block's logits become weights, in the softmaxes of its rows and in the comparison; factors: what
 * older outputs shrink by. */
static void soften_block(struct work *work, const struct block *block, uint32_t state,
                         float factors[BLOCK])
{
    struct states *states = &work->states;
    struct steps steps;
    mask_block(work, block, state);
    if (work->sweep->compare) {
        kv_compare_soften(work, block, state, factors);
        return;
    }
    kv_soften(work, block, states->largest + state, &steps);
    kv_take_steps(states->sum + state, &steps, block->n);
    if (work->own.logits != work->logits)
        memcpy(kv_kept_shifts(work, block), states->largest + state, block->n * sizeof *states->largest);
    memcpy(factors, steps.factors, block->n * sizeof *factors);
}

/* The block's weights of a packed tile's loaded lines, side by side. */
static const float *close_weights(struct work *work, const struct block *block)
{
    const float *weights = work->logits + block->from;
    float *close = work->close;
    for (uint32_t r = 0; r < block->n; r++, weights += STRIDE, close += STRIDE)
        work->sweep->kernels->close_up(weights, work->tile.places + block->from / GRAIN, block->to - block->from,
                                       close);
    return work->close;
}

/* Adds the block's weighted values to the outputs. */
static void add_values(struct work *work, const struct block *block, const float factors[BLOCK])
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_kernels *kernels = sweep->kernels;
    const struct tile *tile = &work->tile;
    const uint32_t dim = kv_sweep_columns(sweep, 1);
    const float *weights = work->logits + block->from;
    float *outputs = sweep->answers.outputs + (size_t)block->first * dim;
    uint32_t first = block->from, n = block->read;
    if (tile->packed) {
        first = block->alive_from, n = block->alive_to - first;
        weights = close_weights(work, block);
    }
    if (tile->ready)
        kernels->ready_sums(weights, block->n, STRIDE, tile->ready_values, first, n, dim, factors, outputs);
    else
        kv_strips_sum(kernels, weights, block->n, STRIDE, &tile->strips, first, n, factors, outputs);
}

/* One block of rows against the loaded tile. chunk = the row whose state is the first. */
static void attend_block(struct work *work, struct block *block, uint32_t chunk)
{
    const struct kv_sweep *sweep = work->sweep;
    if (!kv_block_choose(&work->tile, sweep->rows.token, block)) return;
    kv_block_logits(work, block);
    if (sweep->compare) kv_compare_exact(work, block);
    float factors[BLOCK];
    soften_block(work, block, block->first - chunk, factors);
    if (sweep->answers.outputs) add_values(work, block, factors);
    for (uint32_t s = 0; sweep->compare && s < sweep->compare->spans.n; s++)
        kv_compare_spans(work, block, s);
}

/* A block that some of its rows see parts of only goes in pieces, each of which reads less; whoever
 * keeps logits or compares wants those of whole blocks. */
static void attend_rows(struct work *work, uint32_t first, uint32_t n, uint32_t chunk)
{
    const uint32_t pieces = work->tile.ready ? BLOCK / KV_READY_CELL : 4;
    const struct kv_sweep *sweep = work->sweep;
    const uint32_t *tokens = sweep->rows.token;
    const bool splits = !sweep->compare && !sweep->kept.rows && !work->tile.packed &&
                        !kv_tile_open(&work->tile, tokens[first], tokens[first + n - 1]);
    const uint32_t piece = splits ? BLOCK / pieces : n;
    for (uint32_t r = 0; r < n; r += piece) {
        struct block block = {first + r, n - r < piece ? n - r : piece};
        attend_block(work, &block, chunk);
    }
}

/* Its sums, beside softmaxes that begin. */
static void begin_comparison(const struct states *states, uint32_t n)
{
    memcpy(states->exact_largest, states->largest, n * sizeof *states->largest);
    memcpy(states->exact_sum, states->sum, n * sizeof *states->sum);
    float *const sums[] = {states->exact_held, states->coded, states->exact_coded, states->shift};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) memset(sums[i], 0, n * sizeof *sums[i]);
    memset(states->seen, 0, n * sizeof *states->seen);
}

static void begin_rows(struct work *work, uint32_t first, uint32_t n)
{
    const struct kv_sweep *sweep = work->sweep;
    const float *sinks = sweep->rows.sink_logit;
    struct states *states = &work->states;
    for (uint32_t i = 0; i < n; i++) {
        const float sink = sinks ? sinks[first + i] : -INFINITY;
        states->largest[i] = sink;
        states->sum[i] = sink > -INFINITY ? 1.0f : 0.0f;
    }
    const size_t value_dim = kv_sweep_columns(sweep, 1);
    if (sweep->answers.outputs && sinks) /* others' first values take the place of what is there */
        memset(sweep->answers.outputs + first * value_dim, 0, n * value_dim * sizeof(float));
    if (!sweep->compare) return;
    begin_comparison(states, n);
    if (sweep->compare->spans.n)
        memset(sweep->compare->span_mass + (size_t)first * sweep->compare->spans.n, 0,
               (size_t)n * sweep->compare->spans.n * sizeof(float));
}

/* Outputs are divided by their sums; rows that saw nothing, which nobody wrote, become 0. */
static void finish_outputs(const struct kv_sweep *sweep, const float *sums, uint32_t first,
                           uint32_t n)
{
    const size_t value_dim = kv_sweep_columns(sweep, 1);
    float *output = sweep->answers.outputs + first * value_dim;
    for (uint32_t i = 0; i < n; i++, output += value_dim) {
        if (sums[i] > 0)
            sweep->kernels->scale(output, value_dim, (float)(1 / (double)sums[i]));
        else
            memset(output, 0, value_dim * sizeof *output);
    }
}

static void finish_rows(struct work *work, uint32_t first, uint32_t n)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct states *states = &work->states;
    for (uint32_t i = 0; i < n; i++) {
        const double sum = (double)states->sum[i];
        sweep->answers.log_sum_exp[first + i] =
            sum > 0 ? (float)((double)states->largest[i] + kv_logarithm(sum)) : -INFINITY;
    }
    if (sweep->answers.outputs) finish_outputs(sweep, states->sum, first, n);
    for (uint32_t i = 0; sweep->compare && i < n; i++) kv_compare_finish(work, first + i, i);
}

void kv_sweep_run(const struct kv_sweep *sweep, float *scratch)
{
    struct work work = {.sweep = sweep, .next = scratch};
    kv_sweep_lay_out(&work);
    for (uint32_t chunk = 0; chunk < sweep->rows.n; chunk += CHUNK) {
        const uint32_t left = sweep->rows.n - chunk, n = left < CHUNK ? left : CHUNK;
        const uint32_t tokens[2] = {sweep->rows.token[chunk], sweep->rows.token[chunk + n - 1]};
        begin_rows(&work, chunk, n);
        work.tile.ready = kv_ready_pays(sweep->kernels, n);
        for (uint32_t line = 0; line < sweep->lines.n;) {
            line = kv_tile_load(&work, line, tokens, chunk, n);
            for (uint32_t row = 0; work.tile.n && row < n; row += BLOCK)
                attend_rows(&work, chunk + row, n - row < BLOCK ? n - row : BLOCK, chunk);
        }
        finish_rows(&work, chunk, n);
    }
}
