/* expected-attention: rows that queries like the prompt's will attend to stay (Devoto et al., arXiv
 * 2510.00636), in the form of kvpress.
 *
 * Per query head, over the prompt's queries without the first `sinks`, before rotation: mean mu and
 * covariance S (divided by their number). R = mean rotary matrix of the next `future` positions;
 * mu' = R mu, S' = R S R^T. logit of a key k (rotated): a k.mu' + a^2/2 k^T S' k, a the softmax
 * scale; softmax over the prompt's keys without the sinks; mean over the query heads of the group;
 * times |v|_2: (p + epsilon) |v|_2. Sinks stay. covariance=0 and value_norm=0 leave parts out. Acts
 * once, after the prefill. Departure: the softmax scale is the recording's, not 1/sqrt(d). The
 * scatter that positions add is ignored, as in the paper; so is a softcap. */
#include "methods/parts/query_moments.h"

#include <math.h>
#include <string.h>

struct config {
    uint32_t future, covariance, value_norm;
    double epsilon;
};

static const struct kv_param params[] = {
    {"future", KV_PARAM_U32, offsetof(struct config, future), 512, 1, 1 << 20, NULL,
     "positions that queries are expected at"},
    {"covariance", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct config, covariance), 1, 0, 1, NULL,
     "1: the queries' covariance counts"},
    {"value_norm", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct config, value_norm), 1, 0, 1, NULL,
     "1: times the norm of the value"},
    {"epsilon", KV_PARAM_REAL | KV_PARAM_LATER, offsetof(struct config, epsilon), 0, 0, 1, NULL,
     "added before the norm is multiplied"},
    {0}};

struct chooser {
    struct kv_chooser base;
    struct kv_query_moments moments;
    double *expected, *logits; /* [prefill] */
};

static void wants(const void *config, struct kv_wants *wants)
{
    wants->prompt_rows = wants->queries = true;
}

static int create(struct kv_chooser *base, const struct kv_setup *setup, struct kv_error *err)
{
    struct chooser *self = (struct chooser *)base;
    const size_t bytes = setup->geometry->prefill * sizeof(double);
    self->expected = kv_pool_reserve(setup->pool, KV_WORKSPACE, bytes);
    self->logits = kv_pool_reserve(setup->pool, KV_WORKSPACE, bytes);
    if (self->expected && self->logits &&
        kv_query_moments_create(&self->moments, setup->geometry, setup->pool))
        return KV_OK;
    return kv_fail(err, KV_EMEMORY, "expected-attention: out of memory for the queries' moments");
}

/* Adds the expected weights of query head g to expected[first ..]. */
static void add_head(struct chooser *self, const struct kv_step *step, const struct kv_lane *lane,
                     uint32_t g)
{
    const struct config *config = self->base.config;
    const struct kv_prompt *prompt = lane->prompt;
    const uint32_t first = self->base.trim.sinks, dim = lane->key_dim;
    const double scale = step->geometry->scale;
    double max = -INFINITY, sum = 0.0;
    kv_query_moments_take(&self->moments, prompt->queries + (size_t)g * prompt->n * dim, first,
                          prompt->n, config->covariance);
    kv_query_moments_turn(&self->moments, prompt->n, config->future, config->covariance);
    for (uint32_t t = first; t < prompt->n; t++) {
        const float *key = prompt->keys + (size_t)t * dim;
        double logit = scale * kv_query_moments_mean(&self->moments, key);
        if (config->covariance)
            logit += scale * scale / 2.0 * kv_query_moments_square(&self->moments, key);
        self->logits[t] = logit;
        if (logit > max) max = logit;
    }
    for (uint32_t t = first; t < prompt->n; t++)
        sum += self->logits[t] = exp(self->logits[t] - max);
    for (uint32_t t = first; t < prompt->n; t++) self->expected[t] += self->logits[t] / sum;
}

static double norm(const float *value, uint32_t dim)
{
    double sum = 0.0;
    for (uint32_t c = 0; c < dim; c++) sum += (double)value[c] * value[c];
    return sqrt(sum);
}

static void score(struct kv_chooser *base, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    struct chooser *self = (struct chooser *)base;
    const struct config *config = base->config;
    for (uint32_t l = 0; l < n_lanes; l++) {
        struct kv_lane *lane = &lanes[l];
        const uint32_t n = lane->prompt->n;
        memset(self->expected, 0, n * sizeof *self->expected);
        for (uint32_t g = 0; base->trim.sinks < n && g < lane->group; g++)
            add_head(self, step, lane, g);
        for (uint32_t i = 0; i < lane->n; i++) {
            const uint32_t t = lane->positions[i];
            double expected = self->expected[t] / lane->group;
            if (config->value_norm)
                expected =
                    (expected + config->epsilon) *
                    norm(lane->prompt->values + (size_t)t * lane->value_dim, lane->value_dim);
            lane->score[i] = (float)expected;
        }
    }
}

const struct kv_policy kv_policy_expected_attention = {
    .name = "expected-attention",
    .summary = "rows that queries like the prompt's are expected to attend to stay",
    .paper = "Expected Attention (Devoto et al., arXiv 2510.00636)",
    .params = params,
    .config_size = sizeof(struct config),
    .self_size = sizeof(struct chooser),
    .trim = {.budget = {.share = 0.2}, .sinks = 4, .prompt_only = true},
    .wants = wants,
    .create = create,
    .score = score};
