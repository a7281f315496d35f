/* Votes; see votes.h. */
#include "methods/parts/votes.h"

#include <math.h>
#include <string.h>

void kv_votes_wants(const void *config, struct kv_wants *wants)
{
    const struct kv_vote_config *votes = config;
    wants->tail = wants->judges = votes->observation_window;
}

/* The last `judges` queries of the tail, which may be longer: another spec's wish. */
struct window {
    const struct kv_prompt *prompt;
    uint32_t first, n, n_prefix;
};

static struct window window_of(const struct kv_prompt *prompt, uint32_t judges)
{
    const uint32_t n = judges < prompt->tail ? judges : prompt->tail;
    return (struct window){prompt, prompt->tail - n, n, prompt->n - n};
}

static const float *weights_of(const struct window *window, const struct kv_lane *lane, uint32_t q,
                               uint32_t g)
{
    return window->prompt->tail_weights +
           ((size_t)(window->first + q) * lane->group + g) * window->prompt->n;
}

/* votes[i] of query head g on prompt row i < n_prefix. */
static void count_votes(const struct kv_vote_config *config, const struct window *window,
                        const struct kv_lane *lane, uint32_t g, float *votes)
{
    memset(votes, 0, window->n_prefix * sizeof *votes);
    for (uint32_t q = 0; q < window->n; q++) {
        const float *row = weights_of(window, lane, q, g);
        for (uint32_t i = 0; i < window->n_prefix; i++)
            if (config->votes == KV_VOTES_MEAN)
                votes[i] += row[i];
            else if (row[i] > votes[i])
                votes[i] = row[i];
    }
    for (uint32_t i = 0; config->votes == KV_VOTES_MEAN && i < window->n_prefix; i++)
        votes[i] /= (float)window->n;
}

/* Sum of squared distances of row i's weights from their mean, over the window's queries. */
static double scatter(const struct window *window, const struct kv_lane *lane, uint32_t g,
                      uint32_t i)
{
    double mean = 0.0, sum = 0.0;
    for (uint32_t q = 0; q < window->n; q++) mean += weights_of(window, lane, q, g)[i];
    mean /= window->n;
    for (uint32_t q = 0; q < window->n; q++) {
        const double delta = weights_of(window, lane, q, g)[i] - mean;
        sum += delta * delta;
    }
    return sum;
}

static void add_variance(const struct kv_vote_config *config, const struct window *window,
                         const struct kv_lane *lane, uint32_t g, float *votes)
{
    if (!(config->gamma > 0.0) || window->n < 2) return;
    for (uint32_t i = 0; i < window->n_prefix; i++)
        votes[i] += (float)(config->gamma * scatter(window, lane, g, i) / (window->n - 1));
}

static float pool(const struct kv_vote_config *config, const float *votes, uint32_t n, uint32_t i)
{
    const uint32_t half = config->kernel / 2;
    const uint32_t first = i > half ? i - half : 0, last = i + half < n ? i + half : n - 1;
    float sum = 0.0f, max = 0.0f;
    for (uint32_t j = first; j <= last; j++) {
        sum += votes[j];
        if (votes[j] > max) max = votes[j];
    }
    return config->pooling == KV_VOTES_MAX ? max : sum / (float)config->kernel;
}

/* joined += or max= one; the first of the group starts it. */
static void join(const struct kv_vote_config *config, float one, bool first, float *joined)
{
    if (first)
        *joined = one;
    else if (config->group == KV_VOTES_MEAN)
        *joined += one;
    else if (one > *joined)
        *joined = one;
}

/* Pools every head's votes, then joins them over the group. */
static void pool_then_join(const struct kv_vote_config *config, const struct window *window,
                           struct kv_lane *lane, float *votes)
{
    for (uint32_t g = 0; g < lane->group; g++) {
        count_votes(config, window, lane, g, votes);
        add_variance(config, window, lane, g, votes);
        for (uint32_t i = 0; i < lane->n && lane->positions[i] < window->n_prefix; i++)
            join(config, pool(config, votes, window->n_prefix, lane->positions[i]), g == 0,
                 &lane->score[i]);
    }
}

/* Joins over the group, then pools. `joined` and `votes` have room for the prompt. */
static void join_then_pool(const struct kv_vote_config *config, const struct window *window,
                           struct kv_lane *lane, float *votes)
{
    float *joined = lane->score; /* read again only through the copy below */
    for (uint32_t g = 0; g < lane->group; g++) {
        count_votes(config, window, lane, g, votes);
        add_variance(config, window, lane, g, votes);
        for (uint32_t i = 0; i < window->n_prefix; i++) join(config, votes[i], g == 0, &joined[i]);
    }
    memcpy(votes, joined, window->n_prefix * sizeof *votes);
    for (uint32_t i = 0; i < lane->n && lane->positions[i] < window->n_prefix; i++)
        lane->score[i] = pool(config, votes, window->n_prefix, lane->positions[i]);
}

void kv_votes_score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                    uint32_t n_lanes)
{
    const struct kv_vote_config *config = self->config;
    for (uint32_t l = 0; l < n_lanes; l++) {
        struct kv_lane *lane = &lanes[l];
        const struct window window = window_of(lane->prompt, config->observation_window);
        float *votes = (float *)lane->scratch; /* trim needs it only after the score */
        if (config->join == KV_JOIN_BEFORE)
            join_then_pool(config, &window, lane, votes);
        else
            pool_then_join(config, &window, lane, votes);
        for (uint32_t i = 0; i < lane->n; i++)
            if (lane->positions[i] >= window.n_prefix)
                lane->score[i] = 0.0f; /* protected: trim.judges */
            else if (config->group == KV_VOTES_MEAN)
                lane->score[i] /= (float)lane->group;
    }
}

double kv_votes_survey(const struct kv_chooser *self, const struct kv_lane *lanes, uint32_t n_lanes)
{
    const uint32_t judges = ((const struct kv_vote_config *)self->config)->observation_window;
    double dispersion = 0.0, shift = 0.0;
    for (uint32_t l = 0; l < n_lanes; l++) {
        const struct window window = window_of(lanes[l].prompt, judges);
        for (uint32_t g = 0; g < lanes[l].group; g++) {
            for (uint32_t q = 0; q < window.n; q++) {
                const float *row = weights_of(&window, &lanes[l], q, g);
                for (uint32_t i = 0; i < window.n_prefix; i++)
                    dispersion -= row[i] * log((double)row[i] + 1e-10);
            }
            for (uint32_t i = 0; window.n > 1 && i < window.n_prefix; i++)
                shift += scatter(&window, &lanes[l], g, i) / (window.n - 1);
        }
    }
    return dispersion > 0.0 ? dispersion * shift : 0.0;
}
