/* linear-state: attention without a softmax over rows, from a state of constant size: the floor
 * that Mamba-like layers stand for (Katharopoulos et al., Transformers are RNNs, arXiv 2006.16236).
 *
 *   S_t = g S_{t-1} + phi(k_t) v_t^T,  z_t = g z_{t-1} + phi(k_t)
 *   o_t = S_t^T phi(q_t) / (z_t . phi(q_t)), 0 where nothing answers
 *
 * With y = a x, of keys and queries as recorded:
 *
 *   features=hedgehog   phi(x) = (softmax(y), softmax(-y)) (Zhang et al., Hedgehog, arXiv
 *                       2402.04347, section 4, a times the identity for its learned matrix)
 *   features=elu        phi(x) = elu(y) + 1 (Katharopoulos et al., section 3.2)
 *
 * One decay g a head is what Mamba-2 keeps of the past (Dao and Gu, arXiv 2405.21060), and RetNet
 * (Sun et al., arXiv 2307.08621), there a fixed 1 - 2^-k, here one of these. sharpness a and decay
 * g are given, or (0) fitted to the head: of a in 1/4, 1/2, 1, 2 and g in 1, 1 - 2^-8, ..., 1 -
 * 2^-2 the first pair (but for rounding) whose answers to the last 32 queries of the prompt (or
 * calibration) have the smallest squared distance to exact attention of this layer, its window,
 * soft cap and sink logits included.
 *
 * Bytes of a KV head, whatever the length: S in f32, 4 D d_v, D = d_k (elu) or 2 d_k; z, 4 D; 4 for
 * each of a and g that is fitted.
 *
 * Departures: no weight adapts, where all named models train; a window is not kept (what entered a
 * sum does not leave it). No rows are held: kept_tokens, errors of rows, masses and divergence of
 * weights are empty. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/answer.h"

enum { HEDGEHOG, ELU };
enum { FITTED_QUERIES = 32 };

static const double sharpnesses[] = {0.25, 0.5, 1, 2};
static const double decays[] = {1, 0.99609375, 0.9921875, 0.984375, 0.96875, 0.9375, 0.875, 0.75};
enum { N_SHARPNESSES = sizeof sharpnesses / sizeof *sharpnesses };
enum { N_DECAYS = sizeof decays / sizeof *decays };

struct config {
    uint32_t features;
    double sharpness, decay;
};

static const struct kv_param params[] = {
    {"features", KV_PARAM_CHOICE, offsetof(struct config, features), HEDGEHOG, 0, 0, "hedgehog|elu",
     "the map of keys and queries"},
    {"sharpness", KV_PARAM_REAL, offsetof(struct config, sharpness), 0, 0, 1024, NULL,
     "factor before the map; 0: fitted"},
    {"decay", KV_PARAM_REAL, offsetof(struct config, decay), 0, 0, 1, NULL,
     "what a step leaves of the past; 0: fitted"},
    {0}};

struct linear_state {
    struct kv_state state;
    const struct kv_geometry *geometry;
    const struct kv_kernels *kernels;
    struct config config;
    uint32_t head, n_features;
    float sharpness, decay;
    float *sums, *total; /* [n_features][value_dim]; [n_features] */
    float *phi;          /* [n_features] of the row at hand */
};

/* -- features --------------------------------------------------------------------------------- */

static void softmax(const struct kv_kernels *kernels, float *x, uint32_t n)
{
    const float sum = kernels->exp_sum(x, n, 1.0f, kernels->max(x, n));
    kernels->scale(x, n, 1.0f / sum);
}

static void map_row(const struct linear_state *self, const float *x)
{
    const uint32_t dim = self->geometry->key_dim;
    float *phi = self->phi;
    if (self->config.features == HEDGEHOG) {
        for (uint32_t c = 0; c < dim; c++) phi[c] = self->sharpness * x[c], phi[dim + c] = -phi[c];
        softmax(self->kernels, phi, dim);
        softmax(self->kernels, phi + dim, dim);
        return;
    }
    for (uint32_t c = 0; c < dim; c++) phi[c] = x[c] < 0 ? self->sharpness * x[c] : 0;
    self->kernels->exp_sum(phi, dim, 1, 0);
    for (uint32_t c = 0; c < dim; c++)
        if (x[c] > 0) phi[c] = self->sharpness * x[c] + 1;
}

static void append(struct kv_state *state, const float *key, const float *value)
{
    struct linear_state *self = (struct linear_state *)state;
    const uint32_t width = self->geometry->value_dim;
    map_row(self, key);
    for (uint32_t f = 0; f < self->n_features; f++) {
        float *row = self->sums + (size_t)f * width;
        const float weight = self->phi[f];
        self->total[f] = self->decay * self->total[f] + weight;
        for (uint32_t c = 0; c < width; c++) row[c] = self->decay * row[c] + weight * value[c];
    }
}

static void answer(const struct kv_state *state, const float *query, float *output)
{
    const struct linear_state *self = (const struct linear_state *)state;
    const uint32_t width = self->geometry->value_dim;
    float mass = 0;
    map_row(self, query);
    memset(output, 0, width * sizeof *output);
    for (uint32_t f = 0; f < self->n_features; f++) {
        const float *row = self->sums + (size_t)f * width, weight = self->phi[f];
        mass += weight * self->total[f];
        for (uint32_t c = 0; c < width; c++) output[c] += weight * row[c];
    }
    for (uint32_t c = 0; c < width && mass > 0; c++) output[c] /= mass;
}

/* -- the fit: the sums written out for a few queries, in double ------------------------------- */

struct search {
    const struct linear_state *self;
    const struct kv_sample *sample;
    uint32_t first, n_times,
        n_rows;           /* queries at first .. first + n_times - 1, of each query head */
    double *target, *got; /* [n_rows][value_dim] */
    double *weights;      /* [sample->n] of one query */
    double *similar;      /* [n_rows][sample->n] */
    double *keys, *query; /* features: [sample->n][n_features], [n_features] */
};

static const float *row_of(const struct search *search, uint32_t i)
{
    const struct kv_geometry *geometry = search->self->geometry;
    return search->sample->rows + (size_t)i * (geometry->key_dim + geometry->value_dim);
}

static const float *query_of(const struct search *search, uint32_t r)
{
    const uint32_t head = r / search->n_times, time = search->first + r % search->n_times;
    return search->sample->queries +
           ((size_t)head * search->sample->n + time) * search->self->geometry->key_dim;
}

/* out = sum of weights[j] v_j over from .. to, parted by their sum and what else has a share in it.
 */
static void mean_of(const struct search *search, uint32_t from, uint32_t to, double mass,
                    double *out)
{
    const struct kv_geometry *geometry = search->self->geometry;
    memset(out, 0, geometry->value_dim * sizeof *out);
    for (uint32_t j = from; j <= to; j++) {
        const float *value = row_of(search, j) + geometry->key_dim;
        const double weight = search->weights[j];
        mass += weight;
        for (uint32_t c = 0; c < geometry->value_dim; c++) out[c] += weight * value[c];
    }
    for (uint32_t c = 0; c < geometry->value_dim && mass > 0; c++) out[c] /= mass;
}

static void exact_answer(const struct search *search, uint32_t r, double *out)
{
    const struct kv_geometry *geometry = search->self->geometry;
    const uint32_t t = search->first + r % search->n_times, window = geometry->window;
    const uint32_t from = window && t >= window ? t - window + 1 : 0;
    const float *query = query_of(search, r);
    const uint32_t head = search->self->head * geometry->group + r / search->n_times;
    double max = geometry->sink_logits ? geometry->sink_logits[head] : -INFINITY;
    for (uint32_t j = from; j <= t; j++) {
        double logit = 0;
        for (uint32_t c = 0; c < geometry->key_dim; c++)
            logit += (double)query[c] * row_of(search, j)[c];
        logit *= geometry->scale;
        if (geometry->softcap > 0) logit = geometry->softcap * tanh(logit / geometry->softcap);
        search->weights[j] = logit;
        if (logit > max) max = logit;
    }
    for (uint32_t j = from; j <= t; j++) search->weights[j] = exp(search->weights[j] - max);
    mean_of(search, from, t, geometry->sink_logits ? exp(geometry->sink_logits[head] - max) : 0,
            out);
}

static void map_exactly(const struct search *search, double sharpness, const float *x, double *phi)
{
    const uint32_t dim = search->self->geometry->key_dim;
    if (search->self->config.features == ELU) {
        for (uint32_t c = 0; c < dim; c++)
            phi[c] = x[c] > 0 ? sharpness * x[c] + 1 : exp(sharpness * x[c]);
        return;
    }
    for (int sign = 1; sign >= -1; sign -= 2, phi += dim) {
        double max = -INFINITY, sum = 0;
        for (uint32_t c = 0; c < dim; c++)
            if (sign * sharpness * x[c] > max) max = sign * sharpness * x[c];
        for (uint32_t c = 0; c < dim; c++) sum += phi[c] = exp(sign * sharpness * x[c] - max);
        for (uint32_t c = 0; c < dim; c++) phi[c] /= sum;
    }
}

static void compare_features(struct search *search, double sharpness)
{
    const uint32_t n = search->first + search->n_times, features = search->self->n_features;
    for (uint32_t j = 0; j < n; j++)
        map_exactly(search, sharpness, row_of(search, j), search->keys + (size_t)j * features);
    for (uint32_t r = 0; r < search->n_rows; r++) {
        map_exactly(search, sharpness, query_of(search, r), search->query);
        for (uint32_t j = 0; j < n; j++) {
            const double *key = search->keys + (size_t)j * features;
            double sum = 0;
            for (uint32_t f = 0; f < features; f++) sum += search->query[f] * key[f];
            search->similar[(size_t)r * n + j] = sum;
        }
    }
}

/* What has decayed to less is left out: it moves no sum that is kept in f32. */
static const double nothing = 1e-18;

static double squared_error(struct search *search, double decay)
{
    const uint32_t width = search->self->geometry->value_dim, n = search->first + search->n_times;
    double error = 0;
    for (uint32_t r = 0; r < search->n_rows; r++) {
        const uint32_t t = search->first + r % search->n_times;
        uint32_t from = t + 1;
        double share = 1;
        for (; from > 0 && share > nothing; from--, share *= decay)
            search->weights[from - 1] = share * search->similar[(size_t)r * n + from - 1];
        mean_of(search, from, t, 0, search->got);
        for (uint32_t c = 0; c < width; c++) {
            const double delta = search->got[c] - search->target[(size_t)r * width + c];
            error += delta * delta;
        }
    }
    return error;
}

/* A setting is no better by what double precision cannot tell: all answer a prompt of one row
 * alike. */
static bool is_better(double error, double best, double energy)
{
    return error < best * (1 - 1e-12) - 1e-24 * energy;
}

/* The first of the best; what is given is not searched for. */
static void find_best(struct search *search, struct linear_state *self)
{
    const double *given[2] = {&self->config.sharpness, &self->config.decay};
    const uint32_t width = self->geometry->value_dim;
    double best = DBL_MAX, energy = 0;
    for (uint32_t r = 0; r < search->n_rows; r++)
        exact_answer(search, r, search->target + (size_t)r * width);
    for (size_t i = 0; i < (size_t)search->n_rows * width; i++)
        energy += search->target[i] * search->target[i];
    for (int s = 0; s < (*given[0] > 0 ? 1 : N_SHARPNESSES); s++) {
        const double sharpness = *given[0] > 0 ? *given[0] : sharpnesses[s];
        compare_features(search, sharpness);
        for (int d = 0; d < (*given[1] > 0 ? 1 : N_DECAYS); d++) {
            const double decay = *given[1] > 0 ? *given[1] : decays[d];
            const double error = squared_error(search, decay);
            if (!is_better(error, best, energy)) continue;
            best = error, self->sharpness = (float)sharpness, self->decay = (float)decay;
        }
    }
}

static int fit(struct kv_state *state, const struct kv_sample *sample, struct kv_error *err)
{
    struct linear_state *self = (struct linear_state *)state;
    const struct kv_geometry *geometry = self->geometry;
    if ((self->config.sharpness > 0 && self->config.decay > 0) || !sample->n) return KV_OK;
    if (!sample->queries) return kv_fail(err, KV_ESKIPPED, "linear-state: no queries to fit on");
    const uint32_t n = sample->n, times = n < FITTED_QUERIES ? n : FITTED_QUERIES;
    struct search search = {.self = self,
                            .sample = sample,
                            .first = n - times,
                            .n_times = times,
                            .n_rows = times * geometry->group};
    const size_t width = geometry->value_dim, rows = search.n_rows, features = self->n_features;
    double *memory =
        calloc(rows * width + width + n + rows * n + n * features + features, sizeof *memory);
    if (!memory) return kv_fail(err, KV_EMEMORY, "linear-state: no memory for %u rows", n);
    search.target = memory, search.got = search.target + rows * width;
    search.weights = search.got + width, search.similar = search.weights + n;
    search.keys = search.similar + rows * n, search.query = search.keys + n * features;
    find_best(&search, self);
    free(memory);
    return KV_OK;
}

static int create(struct kv_state **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    struct linear_state *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "linear-state: no memory");
    self->geometry = setup->geometry, self->kernels = setup->kernels;
    self->head = setup->head, self->config = *config;
    self->n_features = setup->geometry->key_dim * (config->features == HEDGEHOG ? 2 : 1);
    self->sharpness = config->sharpness > 0 ? (float)config->sharpness : 1;
    self->decay = config->decay > 0 ? (float)config->decay : 1;
    const size_t bytes = self->n_features * sizeof(float);
    self->sums = kv_pool_reserve(setup->pool, KV_PAYLOAD, bytes * setup->geometry->value_dim);
    self->total = kv_pool_reserve(setup->pool, KV_METADATA, bytes);
    self->phi = kv_pool_reserve(setup->pool, KV_WORKSPACE, bytes);
    if (!self->sums || !self->total || !self->phi)
        return kv_fail(err, KV_EMEMORY, "linear-state: no memory for %u features",
                       self->n_features);
    kv_pool_charge(setup->pool, KV_BASIS_ONLINE,
                   4 * (int64_t)((config->sharpness <= 0) + (config->decay <= 0)));
    *out = &self->state;
    return KV_OK;
}

const struct kv_answer kv_answer_linear_state = {
    .name = "linear-state",
    .summary = "a state of constant size instead of rows: linear attention, fitted to the head",
    .paper = "Katharopoulos et al., arXiv 2006.16236; Hedgehog (arXiv 2402.04347)",
    .params = params,
    .config_size = sizeof(struct config),
    .create = create,
    .fit = fit,
    .append = append,
    .answer = answer};
