/* scissorhands: rows that were often pivotal lately stay (Liu et al., arXiv 2305.17118, algorithm
 * 2).
 *
 * A row is pivotal for query t when its weight is above 1 / (t + 1), an equal share of all tokens
 * so far. Its score is the number of the last `history_window` queries for which it was; prompt
 * queries count under full causal attention. The newest `recent` = 10 rows stay; when the budget B
 * is passed, every_percent = 50 percent of it go at once (after the prefill only what is too much
 * goes). State: one bit a row and query, ceil(history_window / 32) words, charged. Departures: one
 * bit per KV head, of the mean weight over its query heads (the paper is multi-head); the authors'
 * code replaces 1 / t by a percentile, spares some layers and only masks; layers have equal budgets
 * unless layer_budget=inverted (the paper gives later layers more, by no stated rule). */
#include "methods/policy.h"

#include <string.h>

struct config {
    uint32_t history_window;
};

static const struct kv_param params[] = {{"history_window", KV_PARAM_U32,
                                          offsetof(struct config, history_window), 400, 1, 4096,
                                          NULL, "queries that are remembered"},
                                         {0}};

enum { WORD_BITS = 32 };

static uint32_t words_of(const void *config)
{
    return (((const struct config *)config)->history_window + WORD_BITS - 1) / WORD_BITS;
}

static void wants(const void *config, struct kv_wants *wants)
{
    wants->tail = ((const struct config *)config)->history_window;
    wants->state_floats = words_of(config);
}

/* Whether the group's mean weight, one value per query head `stride` apart, is above 1 / (t + 1).
 */
static bool is_pivotal(const float *weights, uint32_t group, size_t stride, uint32_t t)
{
    double sum = 0.0;
    for (uint32_t g = 0; g < group; g++) sum += weights[g * stride];
    return sum * (t + 1.0) > group;
}

/* Sets or clears the bit of query t in the rows' histories; columns[i] is row i's in weights. The
 * state's floats are only carried. */
static void remember(const struct config *config, struct kv_lane *lane, uint32_t t,
                     const float *weights, const uint32_t *columns, size_t stride)
{
    const uint32_t words = words_of(config), slot = t % config->history_window;
    const uint32_t group = lane->group, n = lane->n, bit = UINT32_C(1) << slot % WORD_BITS;
    float *state = lane->state + slot / WORD_BITS;
    for (uint32_t i = 0; i < n; i++, state += words) {
        const uint32_t now = is_pivotal(weights + columns[i], group, stride, t) ? bit : 0;
        uint32_t word;
        memcpy(&word, state, sizeof word);
        word = (word & ~bit) | now;
        memcpy(state, &word, sizeof word);
    }
}

static void keep(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                 uint32_t n_lanes)
{
    const struct config *config = self->config;
    for (uint32_t l = 0; l < n_lanes; l++) {
        struct kv_lane *lane = &lanes[l];
        const struct kv_prompt *prompt = lane->prompt;
        const uint32_t n =
            config->history_window < prompt->tail ? config->history_window : prompt->tail;
        for (uint32_t q = prompt->tail - n; q < prompt->tail; q++) {
            const float *row = prompt->tail_weights + (size_t)q * lane->group * prompt->n;
            remember(config, lane, prompt->n - prompt->tail + q, row, lane->positions, prompt->n);
        }
    }
}

static void observe(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                    uint32_t n_lanes)
{
    for (uint32_t l = 0; l < n_lanes; l++)
        remember(self->config, &lanes[l], step->token, lanes[l].weights, lanes[l].places,
                 lanes[l].stride);
}

static uint32_t bits_set(uint32_t word)
{
    uint32_t n = 0;
    for (; word; word &= word - 1) n++;
    return n;
}

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    const uint32_t words = words_of(self->config);
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t i = 0; i < lanes[l].n; i++) {
            uint32_t history[4096 / WORD_BITS], count = 0;
            memcpy(history, lanes[l].state + (size_t)i * words, words * sizeof *history);
            for (uint32_t w = 0; w < words; w++) count += bits_set(history[w]);
            lanes[l].score[i] = (float)count;
        }
}

const struct kv_policy kv_policy_scissorhands = {
    .name = "scissorhands",
    .summary = "rows that were often pivotal for the last queries stay",
    .paper = "Scissorhands (Liu et al., arXiv 2305.17118)",
    .params = params,
    .config_size = sizeof(struct config),
    .trim = {.budget = {.share = 0.2}, .recent = 10, .every_percent = 50},
    .wants = wants,
    .keep = keep,
    .score = score,
    .observe = observe};
