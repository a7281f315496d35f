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
        const uint32_t position = j < tile->n ? tile->position[j] : 0;
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

/* What a block leaves: the steps of both softmaxes, and of each row the sums of its weights times its shifts,
 * and of weights on coded lines, its own and exact ones. */
struct compared {
    struct steps own, exact;
    float shifts[BLOCK], coded[2][BLOCK];
};

/* Whether rows that read recorded keys have exact softmaxes that are their own. */
static bool same_softmaxes(const struct states *states, uint32_t state, uint32_t n)
{
    const size_t bytes = n * sizeof *states->sum;
    return !memcmp(states->largest + state, states->exact_largest + state, bytes) &&
           !memcmp(states->sum + state, states->exact_sum + state, bytes);
}

static void soften_same(struct work *work, const struct block *block, uint32_t state, struct compared *compared)
{
    struct states *states = &work->states;
    kv_soften(work, block, states->largest + state, &compared->own);
    memcpy(states->exact_largest + state, states->largest + state, block->n * sizeof *states->largest);
    compared->exact = compared->own;
    memset(compared->shifts, 0, sizeof compared->shifts);
}

static void soften_both(struct work *work, const struct block *block, uint32_t state, struct compared *compared)
{
    struct states *states = &work->states;
    struct steps *own = &compared->own, *exact = &compared->exact;
    const struct kv_softmax softmax = {states->largest + state, own->factors, own->added, work->unit};
    const struct kv_beside beside = {.logits = work->exact.logits,
                                     .stride = work->exact.stride,
                                     .softmax = {states->exact_largest + state, exact->factors, exact->added,
                                                 work->unit},
                                     .marked = work->tile.any_coded ? work->tile.coded + block->from : NULL,
                                     .shifts = compared->shifts,
                                     .marked_sums = {compared->coded[0], compared->coded[1]}};
    work->sweep->kernels->soften_beside(work->logits + block->from, block->n, STRIDE, block->to - block->from,
                                        &softmax, &beside);
}

static void add_compared(struct states *states, uint32_t i, const struct compared *compared, uint32_t r, bool coded)
{
    const float factor = compared->own.factors[r], exact_factor = compared->exact.factors[r];
    states->exact_held[i] = states->exact_held[i] * exact_factor + compared->exact.added[r];
    states->shift[i] = states->shift[i] * factor + compared->shifts[r];
    states->coded[i] *= factor;
    states->exact_coded[i] *= exact_factor;
    if (!coded) return;
    states->coded[i] += compared->coded[0][r];
    states->exact_coded[i] += compared->coded[1][r];
}

void kv_compare_soften(struct work *work, const struct block *block, uint32_t state, float factors[BLOCK])
{
    const struct kv_sweep *sweep = work->sweep;
    const uint32_t spans = sweep->compare->spans.n;
    struct states *states = &work->states;
    struct compared compared;
    if (work->tile.recorded && same_softmaxes(states, state, block->n))
        soften_same(work, block, state, &compared);
    else
        soften_both(work, block, state, &compared);
    kv_take_steps(states->sum + state, &compared.own, block->n);
    kv_take_steps(states->exact_sum + state, &compared.exact, block->n);
    for (uint32_t r = 0; r < block->n; r++) {
        factors[r] = compared.own.factors[r];
        add_compared(states, state + r, &compared, r, work->tile.any_coded);
        if (factors[r] != 1.0f && spans)
            sweep->kernels->scale(sweep->compare->span_mass + (size_t)(block->first + r) * spans, spans, factors[r]);
    }
}

/* Whether the block's columns are lines of ascending positions without a gap. */
static bool in_a_row(const struct work *work, const struct block *block)
{
    const uint32_t *position = work->tile.position + block->from;
    uint32_t j = 1;
    while (j < block->read && position[j] == position[0] + j) j++;
    return j >= block->read;
}

/* One row of exact logits that were kept by position; columns past the lines are 0. */
static void fetch_row(const struct work *work, const struct block *block, bool in_row,
                      const float *kept, float *exact)
{
    const uint32_t *position = work->tile.position + block->from;
    if (in_row) memcpy(exact, kept + position[0], block->read * sizeof *exact);
    for (uint32_t j = 0; !in_row && j < block->read; j++) exact[j] = kept[position[j]];
    memset(exact + block->read, 0, (block->to - block->from - block->read) * sizeof *exact);
}

static const float *exact_queries(const struct work *work)
{
    const struct kv_compare *compare = work->sweep->compare;
    return compare->queries ? compare->queries : work->sweep->rows.queries;
}

/* Whether the block's kept logits can be read where they are: side by side, and nobody masks them. */
static bool kept_open(const struct work *work, const struct block *block, const struct kv_kept *kept)
{
    const uint32_t *tokens = work->sweep->rows.token + block->first;
    const uint32_t position = work->tile.position[block->from];
    return kv_block_open(block, tokens[0], tokens[block->n - 1]) && in_a_row(work, block) &&
           position + (size_t)(block->to - block->from) <= kept->stride;
}

/* The exact logits of a packed tile's loaded lines, side by side. */
static void close_exact_logits(struct work *work, const struct block *block, float *close)
{
    const struct kv_kept *kept = &work->sweep->compare->exact;
    const struct tile *tile = &work->tile;
    if (!kv_kept_all(kept, block->first, block->n)) {
        kv_block_close_logits(work, block, exact_queries(work), &tile->exact, close);
        return;
    }
    for (uint32_t r = 0; r < block->n; r++, close += STRIDE) {
        const float *row = kv_kept_row(kept, block->first + r);
        for (uint32_t i = block->alive_from; i < block->alive_to; i++)
            close[i] = row[tile->position[tile->alive[i]]];
    }
}

/* Into exact_logits; lines that a packed tile left out have -infinity there, as among the own ones. */
static void compute_exact(struct work *work, const struct block *block)
{
    const struct kv_kept *kept = &work->sweep->compare->exact;
    if (work->tile.packed) {
        close_exact_logits(work, block, work->close);
        kv_block_spread(work, block, work->close, -INFINITY, work->exact_logits);
        return;
    }
    if (!kv_kept_all(kept, block->first, block->n)) {
        kv_block_compute(work, block, exact_queries(work), &work->tile.exact, work->exact_logits, STRIDE);
        return;
    }
    const bool in_row = in_a_row(work, block);
    for (uint32_t r = 0; r < block->n; r++)
        fetch_row(work, block, in_row, kv_kept_row(kept, block->first + r),
                  work->exact_logits + (size_t)r * STRIDE + block->from);
}

void kv_compare_exact(struct work *work, const struct block *block)
{
    const struct kv_kept *kept = &work->sweep->compare->exact;
    work->exact.stride = STRIDE;
    if (work->tile.recorded) {
        work->exact.logits = work->logits + block->from;
    } else if (!work->tile.packed && kv_kept_all(kept, block->first, block->n) && kept_open(work, block, kept)) {
        work->exact.logits = kv_kept_row(kept, block->first) + work->tile.position[block->from];
        work->exact.stride = kept->stride;
    } else {
        compute_exact(work, block);
        work->exact.logits = work->exact_logits + block->from;
    }
}

float *kv_compare_masked(struct work *work, const struct block *block, uint32_t r)
{
    float *exact = work->exact_logits + (size_t)r * STRIDE;
    return work->exact.logits == work->exact_logits + block->from ? exact : NULL;
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
        sweep->kernels->exp_sum(&power, 1, 1.0f, 0.0f);
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
