/* Claims about policies, from recorded tensors: which of the weightiest rows a step still reads (Quest, arXiv
 * 2406.10774, figure 4), what stays (TOVA, 2401.06104, figure 9), whether a score foretells attention (Expected
 * Attention, 2510.00636, figure 10; L2 norms, 2406.11430; KeyDiff, 2504.15364), and errors of one method beside
 * others' (Expected Attention, appendix A; Ada-KV, 2407.11550). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/claims/claim_layers.h"
#include "harness/replay/prompt_statistics.h"
#include "harness/replay/query_rows.h"
#include "harness/output/row.h"
#include "harness/run/run.h"
#include "methods/spec/spec_wants.h"

enum { MOST_TOP = 64 };

struct policy_figure {
    const struct kv_measuring *measuring;
    struct kv_spec_list specs;
    uint32_t top;
    double sum, count;                    /* the figure is sum / count */
};

struct stepper {                          /* one layer's heads, driven step by step */
    const struct kv_layer *layer;
    const struct kv_geometry *geometry;
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    struct kv_cache *cache;
    struct kv_prompt *prompts;
    float *keys, *queries, *exact;        /* [heads][tokens][dim], [heads][group][dim], [heads][group][tokens] */
    float **held;                         /* [heads] -> [group][tokens] weights over held rows */
    struct kv_observed *observed;         /* [heads] the same */
    uint8_t *reads;                       /* [group][tokens] */
    float *columns;                       /* [tokens] scratch of policies */
};

static int make_stepper(struct stepper *s, const struct kv_layer *layer, const struct kv_spec *spec,
                        const struct kv_measuring *measuring, struct kv_error *err)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const size_t tokens = geometry->tokens, heads = geometry->kv_heads, group = geometry->group;
    *s = (struct stepper){.layer = layer, .geometry = geometry, .kernels = measuring->kernels,
                          .pool = kv_pool_create(0)};
    if (!s->pool) return kv_fail(err, KV_EMEMORY, "claim: no memory");
    s->prompts = kv_pool_take(s->pool, heads * sizeof *s->prompts);
    s->keys = kv_pool_take(s->pool, heads * tokens * geometry->key_dim * sizeof(float));
    s->queries = kv_pool_take(s->pool, heads * group * geometry->key_dim * sizeof(float));
    s->exact = kv_pool_take(s->pool, heads * group * tokens * sizeof(float));
    s->held = kv_pool_take(s->pool, heads * sizeof *s->held);
    s->observed = kv_pool_take(s->pool, heads * sizeof *s->observed);
    s->reads = kv_pool_take(s->pool, group * tokens);
    s->columns = kv_pool_take(s->pool, tokens * sizeof(float));
    if (!s->prompts || !s->keys || !s->queries || !s->exact || !s->held || !s->observed || !s->reads || !s->columns)
        return kv_fail(err, KV_EMEMORY, "claim: no memory");
    const struct kv_wants wants = kv_cache_wants(&spec->caches[0]);
    int status = KV_OK;
    for (uint32_t h = 0; status == KV_OK && h < heads; h++) {
        s->held[h] = kv_pool_take(s->pool, group * tokens * sizeof(float));
        kv_widen_rows(&layer->k, h, 0, geometry->tokens, s->kernels, s->keys + h * tokens * geometry->key_dim);
        status = s->held[h] ? kv_prompt_compute(&s->prompts[h], layer, h, &wants, s->kernels, s->pool, err)
                            : kv_fail(err, KV_EMEMORY, "claim: no memory");
    }
    const struct kv_cache_plan plan = {
        .source = {.geometry = geometry, .keys = &layer->k, .values = &layer->v, .queries = &layer->q},
        .spec = &spec->caches[0], .kernels = s->kernels, .pool = s->pool, .prompts = s->prompts,
        .n_heads = geometry->kv_heads, .seed = measuring->seed};
    if (status == KV_OK) status = kv_cache_create(&s->cache, &plan, err);
    return status == KV_OK ? kv_cache_prefill(s->cache, err) : status;
}

/* Exact weights of the step's queries over all tokens. */
static void attend(struct stepper *s, uint32_t t)
{
    const struct kv_geometry *geometry = s->geometry;
    const size_t tokens = geometry->tokens;
    for (uint32_t h = 0; h < geometry->q_heads; h++)
        kv_claim_weights(s->layer, s->kernels, h, t,
                         s->keys + h / geometry->group * tokens * geometry->key_dim, geometry->tokens,
                         s->exact + h * tokens);
}

/* What attention over the held rows alone gives them: their exact weights, of the sum 1 again. */
static void weigh_held(struct stepper *s, uint32_t head)
{
    const struct kv_held *lane = &s->cache->lanes[head];
    const size_t tokens = s->geometry->tokens;
    for (uint32_t g = 0; g < s->geometry->group; g++) {
        const float *exact = s->exact + ((size_t)head * s->geometry->group + g) * tokens;
        float *out = s->held[head] + g * tokens, sum = 0.0f;
        for (uint32_t i = 0; i < lane->n; i++)
            sum += out[lane->positions[i]] = exact[lane->positions[i]];
        for (uint32_t i = 0; i < lane->n && sum > 0.0f; i++) out[lane->positions[i]] /= sum;
    }
    s->observed[head] = (struct kv_observed){s->held[head], lane->positions, s->geometry->tokens, s->columns};
}

/* Positions of the `top` largest of weights[0 .. n-1]. */
static void largest(const float *weights, uint32_t n, uint32_t top, uint32_t *positions)
{
    for (uint32_t k = 0; k < top; k++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t j = 0; j < n; j++) {
            bool taken = false;
            for (uint32_t i = 0; i < k; i++) taken = taken || positions[i] == j;
            if (!taken && (best == UINT32_MAX || weights[j] > weights[best])) best = j;
        }
        positions[k] = best;
    }
}

static double recall(const struct stepper *s, uint32_t head, uint32_t g, uint32_t t, uint32_t top)
{
    uint32_t positions[MOST_TOP], found = 0;
    const struct kv_held *lane = &s->cache->lanes[head];
    const uint8_t *reads = s->reads + (size_t)g * lane->n;
    largest(s->exact + ((size_t)head * s->geometry->group + g) * s->geometry->tokens, t + 1, top, positions);
    for (uint32_t k = 0; k < top; k++)
        for (uint32_t i = 0; i < lane->n; i++) found += reads[i] && lane->positions[i] == positions[k];
    return (double)found / top;
}

typedef void step_measure(struct policy_figure *figure, struct stepper *s, uint32_t head, uint32_t t);

static void measure_recall(struct policy_figure *figure, struct stepper *s, uint32_t head, uint32_t t)
{
    for (uint32_t g = 0; g < s->geometry->group; g++) {
        figure->sum += recall(s, head, g, t, figure->top);
        figure->count += 1.0;
    }
}

/* How many of the held rows a window of as many would hold. */
static void measure_recency(struct policy_figure *figure, struct stepper *s, uint32_t head, uint32_t t)
{
    const struct kv_held *lane = &s->cache->lanes[head];
    for (uint32_t i = 0; i < lane->n; i++) figure->sum += lane->positions[i] + lane->n > t;
    figure->count += lane->n;
}

static void measure_first(struct policy_figure *figure, struct stepper *s, uint32_t head, uint32_t t)
{
    if (t + 1 < s->geometry->tokens) return;
    figure->sum += s->cache->lanes[head].n > 0 && s->cache->lanes[head].positions[0] == 0;
    figure->count += 1.0;
}

/* Every step of a layer; the measure is taken at every 4th and at the last. */
static int step_layer(struct policy_figure *figure, const struct kv_layer *layer, step_measure *measure,
                      struct kv_error *err)
{
    struct stepper s;
    int status = make_stepper(&s, layer, &figure->specs.specs[0], figure->measuring, err);
    const struct kv_geometry *geometry = &layer->info->geometry;
    const size_t width = (size_t)geometry->group * geometry->key_dim;
    for (uint32_t t = geometry->prefill; status == KV_OK && t < geometry->tokens; t++) {
        for (uint32_t h = 0; h < geometry->kv_heads; h++)
            kv_widen_queries(layer, h, &t, 1, s.kernels, s.queries + h * width);
        kv_cache_begin(s.cache, t, s.queries);
        attend(&s, t);
        for (uint32_t h = 0; h < geometry->kv_heads; h++) {
            kv_cache_select(s.cache, geometry, t, h, s.queries, NULL, s.reads);
            if (t % 4 == 0 || t + 1 == geometry->tokens) measure(figure, &s, h, t);
            weigh_held(&s, h);
        }
        kv_cache_end(s.cache, t, s.observed);
    }
    kv_pool_destroy(s.pool);
    return status;
}

static int visit_recall(void *data, const struct kv_layer *layer, struct kv_error *err)
{
    return step_layer(data, layer, measure_recall, err);
}

static int visit_recency(void *data, const struct kv_layer *layer, struct kv_error *err)
{
    return step_layer(data, layer, measure_recency, err);
}

static int visit_first(void *data, const struct kv_layer *layer, struct kv_error *err)
{
    return step_layer(data, layer, measure_first, err);
}

/* Parses `spec` of the setting and visits all layers with it. */
static int each_layer(kv_claim_visit *visit, double *figure, const char *setting,
                      const struct kv_measuring *measuring, char reason[256], struct kv_error *err)
{
    struct policy_figure all = {.measuring = measuring, .top = (uint32_t)kv_setting_number(setting, "top", 10)};
    char text[256];
    if (all.top > MOST_TOP) all.top = MOST_TOP;
    if (!kv_setting_text(setting, "spec", text, sizeof text))
        return kv_fail(err, KV_EINPUT, "claim: setting %.100s: expected spec=, found none", setting);
    int status = kv_spec_parse(&all.specs, text, err);
    if (status != KV_OK) return status;
    status = kv_claim_each_layer(measuring, visit, &all, figure, reason, err);
    if (status == KV_OK && all.count > 0.0) *figure = all.sum / all.count;
    kv_spec_free(&all.specs);
    return status;
}

int kv_claim_recall(double *figure, const char *setting, const struct kv_measuring *measuring,
                    char reason[256], struct kv_error *err)
{
    return each_layer(visit_recall, figure, setting, measuring, reason, err);
}

int kv_claim_recency(double *figure, const char *setting, const struct kv_measuring *measuring,
                     char reason[256], struct kv_error *err)
{
    return each_layer(visit_recency, figure, setting, measuring, reason, err);
}

int kv_claim_first_kept(double *figure, const char *setting, const struct kv_measuring *measuring,
                        char reason[256], struct kv_error *err)
{
    return each_layer(visit_first, figure, setting, measuring, reason, err);
}

/* ---- scores against the attention that comes ---- */

static double correlation(const double *x, const double *y, uint32_t n)
{
    double mx = 0.0, my = 0.0, xx = 0.0, yy = 0.0, xy = 0.0;
    for (uint32_t i = 0; i < n; i++) mx += x[i] / n, my += y[i] / n;
    for (uint32_t i = 0; i < n; i++)
        xx += (x[i] - mx) * (x[i] - mx), yy += (y[i] - my) * (y[i] - my), xy += (x[i] - mx) * (y[i] - my);
    return xx > 0.0 && yy > 0.0 ? xy / sqrt(xx * yy) : 0.0;
}

struct ranked { double value; uint32_t row; };

static int ascending(const void *left, const void *right)
{
    const struct ranked *a = left, *b = right;
    if (a->value < b->value || a->value > b->value) return a->value < b->value ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

/* Replaces values by their ranks. */
static void to_ranks(double *values, uint32_t n, struct ranked *order)
{
    for (uint32_t i = 0; i < n; i++) order[i] = (struct ranked){values[i], i};
    qsort(order, n, sizeof *order, ascending);
    for (uint32_t i = 0; i < n; i++) values[order[i].row] = i;
}

/* Mean weight that the decode queries of a KV head's group give to each prompt row. */
static void watch(struct stepper *s, double *seen)
{
    const struct kv_geometry *geometry = s->geometry;
    for (uint32_t t = geometry->prefill; t < geometry->tokens; t++) {
        attend(s, t);
        for (uint32_t h = 0; h < geometry->q_heads; h++)
            for (uint32_t j = 0; j < geometry->prefill; j++)
                seen[(size_t)(h / geometry->group) * geometry->prefill + j] +=
                    s->exact[(size_t)h * geometry->tokens + j];
    }
}

static int visit_score(void *data, const struct kv_layer *layer, struct kv_error *err)
{
    struct policy_figure *figure = data;
    const struct kv_geometry *geometry = &layer->info->geometry;
    struct stepper s;
    int status = make_stepper(&s, layer, &figure->specs.specs[0], figure->measuring, err);
    const uint32_t n = geometry->prefill, first = figure->specs.specs[0].caches[0].policies[0]->trim.sinks;
    double *seen = calloc((size_t)geometry->kv_heads * n, sizeof *seen), *score = calloc(n, sizeof *score);
    struct ranked *order = calloc(n, sizeof *order);
    if (status == KV_OK && (!seen || !score || !order)) status = kv_fail(err, KV_EMEMORY, "claim: no memory");
    if (status == KV_OK) watch(&s, seen);
    for (uint32_t h = 0; status == KV_OK && n > first + 1 && h < geometry->kv_heads; h++) {
        for (uint32_t i = 0; i < n; i++) score[i] = s.cache->views[h].score[i];
        to_ranks(score + first, n - first, order);
        to_ranks(seen + (size_t)h * n + first, n - first, order);
        figure->sum += correlation(score + first, seen + (size_t)h * n + first, n - first);
        figure->count += 1.0;
    }
    free(seen), free(score), free(order);
    kv_pool_destroy(s.pool);
    return status;
}

/* Rank correlation, sinks left out. The budget must be below the prompt: a score is asked for only then. */
int kv_claim_score_correlation(double *figure, const char *setting, const struct kv_measuring *measuring,
                               char reason[256], struct kv_error *err)
{
    return each_layer(visit_score, figure, setting, measuring, reason, err);
}

/* ---- errors beside others' ---- */

/* Runs `specs` over the traces; values[spec] = mean output error over the traces. */
static int run_specs(const char *specs, const struct kv_measuring *measuring, double *values,
                     uint32_t most, uint32_t *n, struct kv_error *err)
{
    struct kv_spec_list list;
    struct kv_results results = {0};
    int status = kv_spec_parse(&list, specs, err);
    if (status != KV_OK) return status;
    const struct kv_run_request request = {
        .specs = &list, .traces = (char *const *)measuring->traces, .n_traces = measuring->n_traces,
        .isa = measuring->kernels->isa, .seed = measuring->seed, .seeds = 1, .no_verify = true};
    *n = list.n;
    status = list.n > most ? kv_fail(err, KV_EINPUT, "claim: %u specs, expected at most %u", list.n, most)
                           : kv_run(&request, &results, err);
    for (uint32_t s = 0; status == KV_OK && s < list.n; s++) {
        values[s] = 0.0;
        for (uint32_t t = 0; t < results.n_traces; t++)
            values[s] += results.cells[t * list.n + s].row.output_error / results.n_traces;
    }
    kv_results_free(&results);
    kv_spec_free(&list);
    return status;
}

/* `spec` is first of the list, `against` the others, joined by `|` since commas part settings' readers. */
static int compare_specs(double values[16], uint32_t *n, const char *setting,
                         const struct kv_measuring *measuring, struct kv_error *err)
{
    char spec[256], against[1024], list[1300];
    if (!kv_setting_text(setting, "spec", spec, sizeof spec) ||
        !kv_setting_text(setting, "against", against, sizeof against))
        return kv_fail(err, KV_EINPUT, "claim: setting %.100s: expected spec= and against=", setting);
    snprintf(list, sizeof list, "%s,%s", spec, against);
    for (char *bar = list; (bar = strchr(bar, '|'));) *bar = ',';
    return run_specs(list, measuring, values, 16, n, err);
}

int kv_claim_error_rank(double *figure, const char *setting, const struct kv_measuring *measuring,
                        char reason[256], struct kv_error *err)
{
    double values[16];
    uint32_t n = 0, better = 0;
    *figure = NAN;
    if (!measuring->n_traces) return snprintf(reason, 256, "needs a trace; name one with --trace"), KV_OK;
    const int status = compare_specs(values, &n, setting, measuring, err);
    for (uint32_t s = 1; status == KV_OK && s < n; s++) better += values[s] < values[0];
    if (status == KV_OK) *figure = 1.0 + better;
    return status;
}
