/* snapkv: the last prompt queries vote for the rows before them (Li et al., arXiv 2404.14469).
 *
 * score[j] = mean over the observation window's queries of their full-softmax weight on row j, pooled
 * over neighbours (average, zero padded, divisor always `kernel`, or maximum), mean over the query
 * heads of the group; the window itself always stays. Acts once, after the prefill. Departures: one
 * score per KV head (the authors' code keeps per query head, on repeated KV heads); the mean instead
 * of the sum, which orders alike. */
#include "methods/policy.h"

#include <string.h>

struct config { uint32_t observation_window, kernel, pooling; };

static const struct kv_param params[] = {
    {"observation_window", KV_PARAM_U32, offsetof(struct config, observation_window), 64, 1, 65536,
     NULL, "prompt queries that vote"},
    {"kernel", KV_PARAM_U32, offsetof(struct config, kernel), 5, 1, 255, NULL,
     "rows pooled together (odd)"},
    {"pooling", KV_PARAM_CHOICE, offsetof(struct config, pooling), 0, 0, 0, "mean|max",
     "how neighbours are pooled"},
    {0}};

static void wants(const void *config, struct kv_wants *wants)
{
    wants->tail = ((const struct config *)config)->observation_window;
}

/* votes[i] = mean weight of the tail queries of head g on prompt row i < n_prefix. */
static void count_votes(const struct kv_lane *lane, uint32_t g, uint32_t n_prefix, float *votes)
{
    const struct kv_prompt *prompt = lane->prompt;
    memset(votes, 0, n_prefix * sizeof *votes);
    for (uint32_t q = 0; q < prompt->tail; q++) {
        const float *row = prompt->tail_weights + ((size_t)q * lane->group + g) * prompt->n;
        for (uint32_t i = 0; i < n_prefix; i++) votes[i] += row[i];
    }
    for (uint32_t i = 0; i < n_prefix; i++) votes[i] /= (float)prompt->tail;
}

static float pool(const struct config *config, const float *votes, uint32_t n, uint32_t i)
{
    const uint32_t half = config->kernel / 2;
    const uint32_t first = i > half ? i - half : 0, last = i + half < n ? i + half : n - 1;
    float sum = 0.0f, max = 0.0f;
    for (uint32_t j = first; j <= last; j++) {
        sum += votes[j];
        if (votes[j] > max) max = votes[j];
    }
    return config->pooling ? max : sum / (float)config->kernel;
}

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    const struct config *config = self->config;
    for (uint32_t l = 0; l < n_lanes; l++) {
        struct kv_lane *lane = &lanes[l];
        const uint32_t n_prefix = lane->prompt->n - lane->prompt->tail;
        float *votes = (float *)lane->scratch;   /* trim needs it only after the score */
        memset(lane->score, 0, lane->n * sizeof *lane->score);
        for (uint32_t g = 0; g < lane->group; g++) {
            count_votes(lane, g, n_prefix, votes);
            for (uint32_t i = 0; i < lane->n && lane->positions[i] < n_prefix; i++)
                lane->score[i] += pool(config, votes, n_prefix, lane->positions[i]);
        }
        /* The window stays, its latest rows longest: above any mean of weights. */
        for (uint32_t i = 0; i < lane->n; i++)
            if (lane->positions[i] >= n_prefix) lane->score[i] = 1e9f + 64.0f * (float)i;
    }
}

const struct kv_policy kv_policy_snapkv = {
    .name = "snapkv", .summary = "prompt rows that the last prompt queries attend to stay",
    .paper = "SnapKV (Li et al., arXiv 2404.14469)",
    .params = params, .config_size = sizeof(struct config),
    .trim = {.budget = {.share = 0.2}, .prompt_only = true},
    .wants = wants, .score = score};
