/* h2o: heavy hitters and recent tokens stay (Zhang et al., arXiv 2306.14048, algorithm 1).
 *
 * score[j] = sum of the softmax weights that row j has got: from all prompt queries under full causal
 * attention, then from every decode query over the rows held at its time. Half of the budget is for
 * the best scores, half for the most recent rows. One score per KV head: the query heads of its
 * group are summed (the paper is multi-head; its code repeats KV heads, which costs group times the
 * bytes). Departures of the published codes, by parameter:
 *   prefill_score=mean  divides by the number of queries that can see the row (kvpress)
 *   decay=x             multiplies the scores by x before each decode step (A2SF, which also
 *                       discounts inside the prompt)
 *   reduce=mean|max     of the group's heads instead of their sum, on the prompt's sums and then on
 *                       every step's weights (mean orders like sum)
 *   oracle=future       the published evaluation code: weights of all queries, future ones included */
#include "methods/policy.h"

#include <string.h>

enum reduce { REDUCE_SUM, REDUCE_MEAN, REDUCE_MAX };

struct config { uint32_t prefill_score, reduce, oracle; double decay; };

static const struct kv_param params[] = {
    {"prefill_score", KV_PARAM_CHOICE, offsetof(struct config, prefill_score), 0, 0, 0, "sum|mean",
     "prompt weights: summed, or divided by the queries that can see the row"},
    {"decay", KV_PARAM_REAL, offsetof(struct config, decay), 1, 0, 1, NULL,
     "factor on the scores before each step"},
    {"reduce", KV_PARAM_CHOICE, offsetof(struct config, reduce), 0, 0, 0, "sum|mean|max",
     "over the query heads of a KV head"},
    {"oracle", KV_PARAM_CHOICE, offsetof(struct config, oracle), 0, 0, 0, "none|future",
     "future: scores from all queries of the text (not causal)"},
    {0}};

static void wants(const void *config, struct kv_wants *wants)
{
    const struct config *h2o = config;
    wants->column_sum = !h2o->oracle;
    wants->future = h2o->oracle;
    wants->state_floats = 1;
}

/* Of one value per query head of the group, `stride` apart. */
static double reduce_sums(const struct config *config, const double *sums, uint32_t group, size_t stride)
{
    double sum = 0.0, max = sums[0];
    for (uint32_t g = 0; g < group; g++) {
        sum += sums[g * stride];
        if (sums[g * stride] > max) max = sums[g * stride];
    }
    return config->reduce == REDUCE_MAX ? max : config->reduce == REDUCE_MEAN ? sum / group : sum;
}

/* Of each column, the sum of the group's weights, or the largest. */
static void reduce_columns(const struct config *config, const struct kv_kernels *kernels, const struct kv_lane *lane)
{
    enum { TOGETHER = 8 };
    static const float ones[TOGETHER] = {1, 1, 1, 1, 1, 1, 1, 1};
    const uint32_t stride = lane->stride;
    float *columns = lane->columns;
    memcpy(columns, lane->weights, stride * sizeof *columns);
    for (uint32_t g = 1, n; g < lane->group; g += n) {
        const float *weights = lane->weights + (size_t)g * stride;
        n = config->reduce == REDUCE_MAX ? 1 : lane->group - g < TOGETHER ? lane->group - g : TOGETHER;
        if (config->reduce != REDUCE_MAX) kernels->accumulate(ones, 1, n, weights, n, stride, NULL, columns, stride);
        for (uint32_t c = 0; config->reduce == REDUCE_MAX && c < stride; c++)
            columns[c] = weights[c] > columns[c] ? weights[c] : columns[c];
    }
}

/* The group's weights of every row this step, reduced, enter its score. */
static void add_weights(const struct config *config, const struct kv_kernels *kernels, struct kv_lane *lane)
{
    const float members = (float)lane->group, *columns = lane->columns;
    const uint32_t *places = lane->places, n = lane->n;
    float *state = lane->state;
    reduce_columns(config, kernels, lane);
    for (uint32_t i = 0; i < n && config->reduce == REDUCE_MEAN; i++) state[i] += columns[places[i]] / members;
    for (uint32_t i = 0; i < n && config->reduce != REDUCE_MEAN; i++) state[i] += columns[places[i]];
}

static void keep(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                 uint32_t n_lanes)
{
    const struct config *config = self->config;
    for (uint32_t l = 0; l < n_lanes; l++) {
        const struct kv_prompt *prompt = lanes[l].prompt;
        const size_t stride = config->oracle ? step->geometry->tokens : prompt->n;
        const double *sums = config->oracle ? prompt->future_sum : prompt->column_sum;
        for (uint32_t i = 0; i < lanes[l].n; i++) {
            const uint32_t t = lanes[l].positions[i];
            const double seen_by = config->prefill_score ? (double)(stride - t) : 1.0;
            lanes[l].state[i] = (float)(reduce_sums(config, sums + t, lanes[l].group, stride) / seen_by);
        }
    }
}

/* The oracle knows the sum of a new row when it enters; everyone else starts at 0. */
static void evict(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    const struct config *config = self->config;
    const uint32_t tokens = step->geometry->tokens, t = step->token;
    if (!config->oracle) return;
    for (uint32_t l = 0; l < n_lanes; l++) {
        const double seen_by = config->prefill_score ? (double)(tokens - t) : 1.0;
        lanes[l].state[lanes[l].n - 1] = (float)(
            reduce_sums(config, lanes[l].prompt->future_sum + t, lanes[l].group, tokens) / seen_by);
    }
}

static void observe(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                    uint32_t n_lanes)
{
    const struct config *config = self->config;
    if (config->oracle) return;
    for (uint32_t l = 0; l < n_lanes; l++) {
        struct kv_lane *lane = &lanes[l];
        if (config->decay < 1.0) step->kernels->scale(lane->state, lane->n, (float)config->decay);
        add_weights(config, step->kernels, lane);
    }
}

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    for (uint32_t l = 0; l < n_lanes; l++)
        memcpy(lanes[l].score, lanes[l].state, lanes[l].n * sizeof *lanes[l].score);
}

const struct kv_policy kv_policy_h2o = {
    .name = "h2o", .summary = "heavy hitters by accumulated attention, and recent tokens, stay",
    .paper = "H2O (Zhang et al., arXiv 2306.14048)",
    .params = params, .config_size = sizeof(struct config),
    .trim = {.budget = {.share = 0.2}, .recent_percent = 50},
    .wants = wants, .keep = keep, .evict = evict, .score = score, .observe = observe};
