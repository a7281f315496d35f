/* h2o: heavy hitters and recent tokens stay (Zhang et al., arXiv 2306.14048, algorithm 1).
 *
 * score[j] = sum of the softmax weights that row j has got: from all prompt queries under full causal
 * attention, then from every decode query over the rows held at its time. Half of the budget is for
 * the best scores, half for the most recent rows. One score per KV head: the query heads of its
 * group are summed (the paper is multi-head; its code repeats KV heads, which costs group times the
 * bytes). Departures of the published codes, by parameter:
 *   prefill_score=mean  divides by the number of queries that can see the row (kvpress)
 *   decay=x             multiplies the scores by x before each step (A2SF)
 *   reduce=mean|max     of the group's heads instead of their sum (mean orders like sum)
 *   oracle=future       the published evaluation code: weights of all queries, future ones included */
#include "methods/policy.h"

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
    wants->state_floats = h2o->reduce == REDUCE_MAX ? KV_STATE_PER_HEAD : 1;
}

static uint32_t width(const struct config *config, const struct kv_lane *lane)
{
    return config->reduce == REDUCE_MAX ? lane->group : 1;
}

/* Adds one weight of query head g to row i, as the state is laid out. */
static void add(const struct config *config, struct kv_lane *lane, uint32_t g, uint32_t i, float weight)
{
    if (config->reduce == REDUCE_MAX) lane->state[(size_t)i * lane->group + g] += weight;
    else lane->state[i] += config->reduce == REDUCE_MEAN ? weight / (float)lane->group : weight;
}

static void keep(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                 uint32_t n_lanes)
{
    const struct config *config = self->config;
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t g = 0; g < lanes[l].group; g++)
            for (uint32_t i = 0; i < lanes[l].n; i++) {
                const uint32_t t = lanes[l].positions[i], tokens = step->geometry->tokens;
                const double sum = config->oracle
                                       ? lanes[l].prompt->future_sum[(size_t)g * tokens + t]
                                       : lanes[l].prompt->column_sum[(size_t)g * lanes[l].prompt->n + t];
                const double seen = config->prefill_score ? lanes[l].prompt->n - t : 1;
                add(config, &lanes[l], g, i, (float)(sum / seen));
            }
}

/* The oracle knows the sum of a new row when it enters; everyone else starts at 0. */
static void evict(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    const struct config *config = self->config;
    if (!config->oracle) return;
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t g = 0; g < lanes[l].group; g++)
            add(config, &lanes[l], g, lanes[l].n - 1,
                (float)lanes[l].prompt->future_sum[(size_t)g * step->geometry->tokens + step->token]);
}

static void observe(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                    uint32_t n_lanes)
{
    const struct config *config = self->config;
    if (config->oracle) return;
    for (uint32_t l = 0; l < n_lanes; l++) {
        struct kv_lane *lane = &lanes[l];
        if (config->decay < 1.0)
            step->kernels->scale(lane->state, (size_t)lane->n * width(config, lane),
                                 (float)config->decay);
        for (uint32_t g = 0; g < lane->group; g++)
            for (uint32_t i = 0; i < lane->n; i++)
                add(config, lane, g, i, lane->weights[(size_t)g * lane->n + i]);
    }
}

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    for (uint32_t l = 0; l < n_lanes; l++) {
        const uint32_t heads = width(self->config, &lanes[l]);
        for (uint32_t i = 0; i < lanes[l].n; i++)
            lanes[l].score[i] = step->kernels->max(lanes[l].state + (size_t)i * heads, heads);
    }
}

const struct kv_policy kv_policy_h2o = {
    .name = "h2o", .summary = "heavy hitters by accumulated attention, and recent tokens, stay",
    .paper = "H2O (Zhang et al., arXiv 2306.14048)",
    .params = params, .config_size = sizeof(struct config),
    .trim = {.budget = {.share = 0.2}, .recent_percent = 50},
    .wants = wants, .keep = keep, .evict = evict, .score = score, .observe = observe};
