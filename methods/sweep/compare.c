/* The answer beside exact attention: divergence, held mass, drift, masses of spans. */
#include "methods/sweep/parts.h"

#include <math.h>
#include <string.h>

void kv_compare_spans(struct work *work, const struct block *block, uint32_t span)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_spans *spans = &sweep->compare->spans;
    struct tile *tile = &work->tile;
    bool any = false;
    for (uint32_t j = 0; j < TILE; j++) {
        const uint32_t position = j < tile->n ? sweep->lines.position[tile->first + j] : 0;
        const bool inside =
            j < tile->n && position >= spans->range[span][0] && position < spans->range[span][1];
        tile->span[j] = inside;
        any |= inside;
    }
    for (uint32_t r = 0; any && r < block->n; r++)
        sweep->compare->span_mass[(size_t)(block->first + r) * spans->n + span] +=
            sweep->kernels->dot(work->logits + (size_t)r * STRIDE + block->from,
                                tile->span + block->from, block->to - block->from);
}

/* The exact softmax of a row beside the answer's, whose step this was; `exact` NULL: it is the
 * same. */
static struct step soften_exact_row(struct work *work, const struct block *block, uint32_t state,
                                    float *exact, struct step own)
{
    struct states *states = &work->states;
    if (exact)
        kv_soften(work->sweep->kernels, block, 1, exact, &states->exact_largest[state],
                  &states->exact_sum[state], &own);
    else
        states->exact_largest[state] = states->largest[state],
        states->exact_sum[state] = states->sum[state];
    return own;
}

/* Adds a row's weights, and the exact ones, to the sums of the comparison. */
static void compare_row(struct work *work, const struct block *block, uint32_t r, uint32_t state,
                        const float *exact_row, const struct step steps[2])
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_kernels *kernels = sweep->kernels;
    struct states *states = &work->states;
    const size_t offset = (size_t)r * STRIDE + block->from, columns = block->to - block->from;
    const float *weights = work->logits + offset,
                *exact_weights = exact_row ? exact_row + block->from : weights;
    const float *coded = work->tile.coded + block->from;
    const struct step own = steps[0], exact = steps[1];
    states->exact_held[state] = states->exact_held[state] * exact.factor + exact.added;
    states->shift[state] =
        states->shift[state] * own.factor +
        (work->tile.recorded ? 0.0f : kernels->dot(weights, work->shifts + offset, columns));
    states->coded[state] *= own.factor;
    states->exact_coded[state] *= exact.factor;
    if (work->tile.any_coded) {
        states->coded[state] += kernels->dot(weights, coded, columns);
        states->exact_coded[state] += kernels->dot(exact_weights, coded, columns);
    }
    const uint32_t spans = sweep->compare->spans.n;
    if (own.factor != 1.0f && spans)
        kernels->scale(sweep->compare->span_mass + (size_t)(block->first + r) * spans, spans,
                       own.factor);
}

void kv_compare_rows(struct work *work, const struct block *block, uint32_t state,
                     float *const exact[], const struct step own[])
{
    struct states *states = &work->states;
    struct step exact_steps[BLOCK];
    if (!work->tile.recorded) /* each row has exact logits of its own */
        kv_soften(work->sweep->kernels, block, block->n, work->exact_logits,
                  states->exact_largest + state, states->exact_sum + state, exact_steps);
    for (uint32_t r = 0; r < block->n; r++) {
        if (work->tile.recorded)
            exact_steps[r] = soften_exact_row(work, block, state + r, exact[r], own[r]);
        const struct step steps[2] = {own[r], exact_steps[r]};
        compare_row(work, block, r, state + r, exact[r], steps);
    }
}

/* Whether the block's columns are lines of ascending positions without a gap. */
static bool in_a_row(const struct work *work, const struct block *block)
{
    const uint32_t *position = work->sweep->lines.position + work->tile.first + block->from;
    uint32_t j = 1;
    while (j < block->read && position[j] == position[0] + j) j++;
    return j >= block->read;
}

/* One row of exact logits that were kept by position; columns past the lines are 0. */
static void fetch_row(const struct work *work, const struct block *block, bool in_row,
                      const float *kept, float *exact)
{
    const uint32_t *position = work->sweep->lines.position + work->tile.first + block->from;
    if (in_row) memcpy(exact, kept + position[0], block->read * sizeof *exact);
    for (uint32_t j = 0; !in_row && j < block->read; j++) exact[j] = kept[position[j]];
    memset(exact + block->read, 0, (block->to - block->from - block->read) * sizeof *exact);
}

static const float *exact_queries(const struct work *work)
{
    const struct kv_compare *compare = work->sweep->compare;
    return compare->queries ? compare->queries : work->sweep->rows.queries;
}

static void exact_logits(struct work *work, const struct block *block)
{
    const struct kv_kept *kept = &work->sweep->compare->exact;
    if (block->first + block->n > kept->rows) {
        kv_block_compute(work, block, exact_queries(work), &work->tile.exact, work->exact_logits,
                         STRIDE);
        return;
    }
    const bool in_row = in_a_row(work, block);
    for (uint32_t r = 0; r < block->n; r++)
        fetch_row(work, block, in_row, kept->logits + (size_t)(block->first + r) * kept->stride,
                  work->exact_logits + (size_t)r * STRIDE + block->from);
}

/* Those of a packed tile's loaded lines, side by side. */
static void close_exact_logits(struct work *work, const struct block *block, float *close)
{
    const struct kv_kept *kept = &work->sweep->compare->exact;
    const struct tile *tile = &work->tile;
    const uint32_t *position = work->sweep->lines.position + tile->first;
    if (block->first + block->n > kept->rows) {
        kv_block_close_logits(work, block, exact_queries(work), &tile->exact, close);
        return;
    }
    for (uint32_t r = 0; r < block->n; r++, close += STRIDE) {
        const float *row = kept->logits + (size_t)(block->first + r) * kept->stride;
        for (uint32_t i = block->alive_from; i < block->alive_to; i++)
            close[i] = row[position[tile->alive[i]]];
    }
}

/* Lines that are left out have no shift, and -infinity for both logits. */
static void spread_shifts(struct work *work, const struct block *block)
{
    float *exact = work->shifts, *shifts = work->close;
    close_exact_logits(work, block, exact);
    kv_block_spread(work, block, exact, -INFINITY, work->exact_logits);
    for (size_t r = 0; r < block->n; r++)
        for (size_t i = block->alive_from; i < block->alive_to; i++)
            shifts[r * STRIDE + i] -= exact[r * STRIDE + i];
    kv_block_spread(work, block, shifts, 0, work->shifts);
}

void kv_compare_shifts(struct work *work, const struct block *block)
{
    if (work->tile.packed) {
        spread_shifts(work, block);
        return;
    }
    exact_logits(work, block);
    for (uint32_t r = 0; r < block->n; r++)
        for (size_t j = block->from; j < block->to; j++) {
            const size_t at = (size_t)r * STRIDE + j;
            work->shifts[at] = work->logits[at] - work->exact_logits[at];
        }
}

float *kv_compare_exact_row(struct work *work, const struct block *block, uint32_t r,
                            uint32_t state)
{
    const struct states *states = &work->states;
    float *exact = work->exact_logits + (size_t)r * STRIDE;
    if (!work->tile.recorded) return exact;
    if (states->largest[state] == states->exact_largest[state] &&
        states->sum[state] == states->exact_sum[state])
        return NULL;
    memcpy(exact + block->from, work->logits + (size_t)r * STRIDE + block->from,
           (block->to - block->from) * sizeof *exact);
    return exact;
}

/* Lines that exact attention reads at this token. */
static uint32_t exact_lines(const struct kv_sweep *sweep, uint32_t token)
{
    const uint32_t window = sweep->geometry->window;
    return window && window < token + 1 ? window : token + 1;
}

void kv_compare_finish(struct work *work, uint32_t row, uint32_t i)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_compare *compare = sweep->compare;
    const struct states *states = &work->states;
    const double sum = (double)states->sum[i], exact_sum = (double)states->exact_sum[i];
    const bool complete = states->seen[i] == exact_lines(sweep, sweep->rows.token[row]);
    double divergence = INFINITY, held = 0, drift = 0;
    if (sum > 0) {
        /* log-sum-exp of the exact logits read here, minus the answer's. */
        const double gap = ((double)states->exact_largest[i] - (double)states->largest[i]) +
                           kv_logarithm(exact_sum / sum);
        const double exact = (double)compare->exact_log_sum_exp[row];
        const double here = (double)states->exact_largest[i] + kv_logarithm(exact_sum);
        /* log of the share of exact mass that lies on what was read */
        double share = complete ? 0.0 : here - exact;
        divergence = (double)states->shift[i] / sum + gap - share;
        float power = (float)share;
        sweep->kernels->exp_sum(&power, 1, 0.0f);
        held = (double)states->exact_held[i] / exact_sum * (double)power;
        drift = (double)states->coded[i] / sum -
                (double)states->exact_coded[i] / exact_sum * (double)power;
    }
    compare->divergence[row] = (float)divergence;
    compare->held_mass[row] = (float)held;
    compare->drift[row] = (float)drift;
    const float unit = sum > 0 ? (float)(1 / sum) : 0.0f;
    if (compare->spans.n)
        sweep->kernels->scale(compare->span_mass + (size_t)row * compare->spans.n, compare->spans.n,
                              unit);
}
