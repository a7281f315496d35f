/* Claims about attention itself, from recorded queries and keys: H2O's sparsity (arXiv 2306.14048,
 * figure 2a) and the power law of accumulated scores (figure 2b). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/claims/claim_codec.h"
#include "harness/claims/claim_layers.h"

struct attention {
    const struct kv_measuring *measuring;
    double threshold, above, share;       /* of a setting */
    double sum;                           /* of the layers' (heads') figures */
    uint32_t n, passing;
};

struct weights {                          /* of one query head, row after row */
    const struct kv_layer *layer;
    const struct kv_kernels *kernels;
    uint32_t q_head, n;
    float *keys, *row;                    /* [n][key_dim], [n] */
};

static void free_weights(struct weights *weights)
{
    free(weights->keys);
    free(weights->row);
}

static int make_weights(struct weights *weights, const struct kv_layer *layer, uint32_t q_head,
                        const struct kv_kernels *kernels, struct kv_error *err)
{
    const struct kv_geometry *geometry = &layer->info->geometry;
    const uint32_t n = geometry->tokens;
    *weights = (struct weights){.layer = layer, .kernels = kernels, .q_head = q_head, .n = n};
    weights->keys = malloc((size_t)n * geometry->key_dim * sizeof(float));
    weights->row = malloc(n * sizeof(float));
    if (!weights->keys || !weights->row) return kv_fail(err, KV_EMEMORY, "claim: no memory");
    kv_tensor_widen(&layer->k, q_head / geometry->group, 0, n, weights->keys);
    return KV_OK;
}

static void attend(const struct weights *weights, uint32_t token)
{
    kv_claim_weights(weights->layer, weights->kernels, weights->q_head, token, weights->keys,
                     weights->n, weights->row);
}

/* ---- figure 2a: weights below a share of their row's largest ---- */

/* Rows of the decode tokens: the longest, every 4th (neighbours look alike). */
static void count_small(const struct weights *weights, double threshold, uint64_t *small,
                        uint64_t *visible)
{
    const struct kv_geometry *geometry = &weights->layer->info->geometry;
    for (uint32_t token = geometry->prefill; token < geometry->tokens; token += 4) {
        const uint32_t window = geometry->window, seen = token + 1;
        const uint32_t first = window && seen > window ? seen - window : 0;
        attend(weights, token);
        const float least = (float)threshold * weights->kernels->max(weights->row, seen);
        for (uint32_t j = first; j < seen; j++) *small += weights->row[j] < least;
        *visible += seen - first;
    }
}

static int visit_sparsity(void *data, const struct kv_layer *layer, struct kv_error *err)
{
    struct attention *attention = data;
    uint64_t small = 0, visible = 0;
    for (uint32_t h = 0; h < layer->info->geometry.q_heads; h++) {
        struct weights weights;
        const int status = make_weights(&weights, layer, h, attention->measuring->kernels, err);
        if (status == KV_OK) count_small(&weights, attention->threshold, &small, &visible);
        free_weights(&weights);
        if (status != KV_OK) return status;
    }
    const double sparsity = (double)small / (double)visible;
    attention->sum += sparsity;
    attention->passing += sparsity > attention->above;
    attention->n++;
    return KV_OK;
}

static struct attention read_attention(const char *setting, const struct kv_measuring *measuring)
{
    return (struct attention){.measuring = measuring,
                              .threshold = kv_setting_number(setting, "threshold", 0.01),
                              .above = kv_setting_number(setting, "above", 0.95),
                              .share = kv_setting_number(setting, "share", 0.2)};
}

int kv_claim_sparse_layers(double *figure, const char *setting,
                           const struct kv_measuring *measuring, char reason[256],
                           struct kv_error *err)
{
    struct attention attention = read_attention(setting, measuring);
    const int status = kv_claim_each_layer(measuring, visit_sparsity, &attention, figure, reason,
                                           err);
    if (status == KV_OK && attention.n) *figure = (double)attention.passing / attention.n;
    return status;
}

int kv_claim_sparsity(double *figure, const char *setting, const struct kv_measuring *measuring,
                      char reason[256], struct kv_error *err)
{
    struct attention attention = read_attention(setting, measuring);
    const int status = kv_claim_each_layer(measuring, visit_sparsity, &attention, figure, reason,
                                           err);
    if (status == KV_OK && attention.n) *figure = attention.sum / attention.n;
    return status;
}

/* ---- figure 2b: scores accumulated over queries ---- */

static void accumulate(const struct weights *weights, uint32_t from, uint32_t until, double *scores)
{
    for (uint32_t token = from; token < until; token++) {
        attend(weights, token);
        for (uint32_t j = 0; j <= token; j++) scores[j] += weights->row[j];
    }
}

static int descending(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a < b) - (a > b);
}

/* R^2 of the line through (log rank, log score) of the heaviest `share` of the tokens. */
static double straightness(double *scores, uint32_t n, double share)
{
    double x = 0, y = 0, xx = 0, xy = 0, yy = 0;
    qsort(scores, n, sizeof *scores, descending);
    n = (uint32_t)fmin(n, ceil(share * n));
    while (n && scores[n - 1] <= 0) n--;      /* nobody looked: no logarithm */
    for (uint32_t rank = 1; rank <= n; rank++) {
        const double u = log(rank), v = log(scores[rank - 1]);
        x += u, y += v, xx += u * u, xy += u * v, yy += v * v;
    }
    const double cross = n * xy - x * y;
    return cross * cross / ((n * xx - x * x) * (n * yy - y * y));
}

/* Prompt tokens that stand among the heaviest `kept` by both scores, as a share of kept. */
static double common_share(const double *scores, const double *others, uint32_t n, uint32_t kept,
                           double *sorted)
{
    memcpy(sorted, scores, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, descending);
    const double least = sorted[kept - 1];
    memcpy(sorted, others, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, descending);
    uint32_t common = 0;
    for (uint32_t j = 0; j < n; j++) common += scores[j] >= least && others[j] >= sorted[kept - 1];
    return (double)common / kept;
}

/* scores [3][n]: by prompt queries, by decode queries, scratch. */
static void measure_head(struct attention *attention, const struct weights *weights, bool overlap,
                         double *scores)
{
    const struct kv_geometry *geometry = &weights->layer->info->geometry;
    const uint32_t n = weights->n, prompt = geometry->prefill;
    double *later = scores + n, *scratch = scores + 2 * (size_t)n;
    memset(scores, 0, 3 * (size_t)n * sizeof *scores);
    accumulate(weights, 0, prompt, scores);
    accumulate(weights, prompt, geometry->tokens, later);
    if (overlap) {
        /* What decoding will look at, against what the prompt alone foretells. */
        const uint32_t kept = (uint32_t)fmax(1, attention->share * prompt);
        attention->sum += common_share(scores, later, prompt, kept, scratch);
    } else {
        for (uint32_t j = 0; j < n; j++) scratch[j] = scores[j] + later[j];
        attention->sum += straightness(scratch, n, attention->share);
    }
    attention->n++;
}

static int visit_scores(struct attention *attention, const struct kv_layer *layer, bool overlap,
                        struct kv_error *err)
{
    double *scores = malloc(3 * (size_t)layer->info->geometry.tokens * sizeof *scores);
    int status = scores ? KV_OK : kv_fail(err, KV_EMEMORY, "claim: no memory");
    for (uint32_t h = 0; status == KV_OK && h < layer->info->geometry.q_heads; h++) {
        struct weights weights;
        status = make_weights(&weights, layer, h, attention->measuring->kernels, err);
        if (status == KV_OK) measure_head(attention, &weights, overlap, scores);
        free_weights(&weights);
    }
    free(scores);
    return status;
}

static int visit_power_law(void *data, const struct kv_layer *layer, struct kv_error *err)
{
    return visit_scores(data, layer, false, err);
}

static int visit_overlap(void *data, const struct kv_layer *layer, struct kv_error *err)
{
    return visit_scores(data, layer, true, err);
}

int kv_claim_power_law(double *figure, const char *setting, const struct kv_measuring *measuring,
                       char reason[256], struct kv_error *err)
{
    struct attention attention = read_attention(setting, measuring);
    const int status = kv_claim_each_layer(measuring, visit_power_law, &attention, figure, reason,
                                           err);
    if (status == KV_OK && attention.n) *figure = attention.sum / attention.n;
    return status;
}

int kv_claim_overlap(double *figure, const char *setting, const struct kv_measuring *measuring,
                     char reason[256], struct kv_error *err)
{
    struct attention attention = read_attention(setting, measuring);
    const int status = kv_claim_each_layer(measuring, visit_overlap, &attention, figure, reason,
                                           err);
    if (status == KV_OK && attention.n) *figure = attention.sum / attention.n;
    return status;
}
