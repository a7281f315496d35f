/* lagkv: rows that stick out of the scale of the rows after them stay (Liang et al., arXiv
 * 2504.04704), in the form of kvpress.
 *
 * After the first `sinks` rows the prompt is cut into partitions of `lag`. Partition p in the scale
 * of p + 1: x' = (x - min) / (max - min) per channel, minimum and maximum over p + 1; s = sample
 * standard deviation of x' over channels; softmax of s over the rows of p. Keys' and values' are
 * added; a row's score is its rank in the partition divided by lag. Sinks, the last whole partition
 * and what follows it score 1. A prompt below sinks + 2 lag keeps its newest rows. A channel that
 * is constant over p + 1 has no scale and counts as 0 (the published codes divide by zero). */
#include "methods/policy.h"

#include <math.h>
#include <string.h>

struct config {
    uint32_t lag;
};

static const struct kv_param params[] = {
    {"lag", KV_PARAM_U32, offsetof(struct config, lag), 128, 1, 65536, NULL, "rows of a partition"},
    {0}};

struct chooser {
    struct kv_chooser base;
    double *spread;           /* [lag] of one partition: keys' and values' added */
    double *own;              /* [lag] of one side */
    uint32_t *order;          /* [lag] */
    float *minimum, *maximum; /* [dim] */
};

static void wants(const void *config, struct kv_wants *wants)
{
    wants->prompt_rows = true;
}

static int create(struct kv_chooser *base, const struct kv_setup *setup, struct kv_error *err)
{
    struct chooser *self = (struct chooser *)base;
    const struct kv_geometry *geometry = setup->geometry;
    const size_t dim =
        geometry->key_dim > geometry->value_dim ? geometry->key_dim : geometry->value_dim;
    const size_t lag = ((const struct config *)setup->config)->lag;
    self->spread = kv_pool_reserve(setup->pool, KV_WORKSPACE, lag * sizeof *self->spread);
    self->own = kv_pool_reserve(setup->pool, KV_WORKSPACE, lag * sizeof *self->own);
    self->order = kv_pool_reserve(setup->pool, KV_WORKSPACE, 2 * lag * sizeof *self->order);
    self->minimum = kv_pool_reserve(setup->pool, KV_WORKSPACE, 2 * dim * sizeof *self->minimum);
    if (!self->spread || !self->own || !self->order || !self->minimum)
        return kv_fail(err, KV_EMEMORY, "lagkv: out of memory for a partition of %zu", lag);
    self->maximum = self->minimum + dim;
    return KV_OK;
}

static void find_scale(struct chooser *self, const float *rows, uint32_t lag, uint32_t dim)
{
    for (uint32_t c = 0; c < dim; c++) {
        self->minimum[c] = self->maximum[c] = rows[c];
        for (uint32_t i = 1; i < lag; i++) {
            const float x = rows[(size_t)i * dim + c];
            if (x < self->minimum[c]) self->minimum[c] = x;
            if (x > self->maximum[c]) self->maximum[c] = x;
        }
    }
}

static double scaled(const struct chooser *self, const float *row, uint32_t c)
{
    const double range = (double)self->maximum[c] - self->minimum[c];
    return range > 0.0 ? ((double)row[c] - self->minimum[c]) / range : 0.0;
}

/* Sample standard deviation of a row's scaled channels; 0 with one channel. */
static double deviation(const struct chooser *self, const float *row, uint32_t dim)
{
    double mean = 0.0, sum = 0.0;
    for (uint32_t c = 0; c < dim; c++) mean += scaled(self, row, c);
    mean /= dim;
    for (uint32_t c = 0; c < dim; c++) {
        const double delta = scaled(self, row, c) - mean;
        sum += delta * delta;
    }
    return dim > 1 ? sqrt(sum / (dim - 1)) : 0.0;
}

/* Adds the softmax of one side's deviations; rows [2 lag][dim]: the partition and the one after it.
 */
static void add_side(struct chooser *self, const float *rows, uint32_t lag, uint32_t dim)
{
    double max = 0.0, sum = 0.0;
    find_scale(self, rows + (size_t)lag * dim, lag, dim);
    for (uint32_t i = 0; i < lag; i++) {
        self->own[i] = deviation(self, rows + (size_t)i * dim, dim);
        if (self->own[i] > max) max = self->own[i];
    }
    for (uint32_t i = 0; i < lag; i++) sum += self->own[i] = exp(self->own[i] - max);
    for (uint32_t i = 0; i < lag; i++) self->spread[i] += self->own[i] / sum;
}

/* Sorts order[0 .. n - 1] by spread, earlier rows first among equals: a merge sort, bottom up. */
static void sort_rows(struct chooser *self, uint32_t n)
{
    uint32_t *from = self->order, *to = self->order + n;
    for (uint32_t i = 0; i < n; i++) from[i] = i;
    for (uint32_t width = 1; width < n; width *= 2) {
        for (uint32_t low = 0; low < n; low += 2 * width) {
            const uint32_t middle = low + width < n ? low + width : n;
            const uint32_t high = low + 2 * width < n ? low + 2 * width : n;
            for (uint32_t a = low, b = middle, k = low; k < high; k++) {
                const bool left =
                    b == high || (a < middle && self->spread[from[a]] <= self->spread[from[b]]);
                to[k] = left ? from[a++] : from[b++];
            }
        }
        uint32_t *const swap = from;
        from = to, to = swap;
    }
    if (from != self->order) memcpy(self->order, from, n * sizeof *from);
}

/* ranks[i] of the rows first .. first + lag - 1 of the prompt, divided by lag. */
static void rank_partition(struct chooser *self, const struct kv_lane *lane, uint32_t first,
                           float *ranks)
{
    const uint32_t lag = ((const struct config *)self->base.config)->lag;
    memset(self->spread, 0, lag * sizeof *self->spread);
    add_side(self, lane->prompt->keys + (size_t)first * lane->key_dim, lag, lane->key_dim);
    add_side(self, lane->prompt->values + (size_t)first * lane->value_dim, lag, lane->value_dim);
    sort_rows(self, lag);
    for (uint32_t rank = 0; rank < lag; rank++)
        ranks[first + self->order[rank]] = (float)rank / (float)lag;
}

static void score(struct kv_chooser *base, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    struct chooser *self = (struct chooser *)base;
    const uint32_t lag = ((const struct config *)base->config)->lag, sinks = base->trim.sinks;
    for (uint32_t l = 0; l < n_lanes; l++) {
        struct kv_lane *lane = &lanes[l];
        const uint32_t n = lane->prompt->n;
        float *ranks = (float *)lane->scratch;
        for (uint32_t t = 0; t < n; t++) ranks[t] = 1.0f;
        if ((uint64_t)n < sinks + 2 * (uint64_t)lag)
            for (uint32_t t = sinks; t < n; t++) ranks[t] = (float)(t - sinks) / (float)(n - sinks);
        else
            for (uint32_t t = sinks; (uint64_t)t + 2 * (uint64_t)lag <= n; t += lag)
                rank_partition(self, lane, t, ranks);
        for (uint32_t i = 0; i < lane->n; i++) lane->score[i] = ranks[lane->positions[i]];
    }
}

const struct kv_policy kv_policy_lagkv = {
    .name = "lagkv",
    .summary = "rows that stick out of the scale of the rows after them stay",
    .paper = "LagKV (Liang et al., arXiv 2504.04704)",
    .params = params,
    .config_size = sizeof(struct config),
    .self_size = sizeof(struct chooser),
    .trim = {.budget = {.share = 0.2}, .sinks = 4, .prompt_only = true},
    .wants = wants,
    .create = create,
    .score = score};
