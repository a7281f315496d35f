/* The exact reference; see reference.h. */
#include "harness/replay/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/clock.h"
#include "harness/base/half.h"
#include "harness/base/rng.h"
#include "harness/replay/scored_sweep.h"
#include "metrics/exact.h"
#include "metrics/measures.h"

enum { AUDITED = 4, STREAM = 0x41554449 };   /* queries a layer; "AUDI" */

enum { ARRAYS = 4 };            /* outputs, log-sum-exps, masses of spans, and a double */

/* Bytes of each; their sum. */
static size_t sizes_of(const struct kv_reference_input *input, size_t bytes[ARRAYS])
{
    const struct kv_geometry *geometry = &input->layer->info->geometry;
    const size_t rows = (size_t)geometry->q_heads * input->n_scored * sizeof(float);
    const size_t sizes[ARRAYS] = {rows * geometry->value_dim, rows, rows * input->spans.n, sizeof(double)};
    memcpy(bytes, sizes, sizeof sizes);
    return sizes[0] + sizes[1] + sizes[2] + sizes[3];
}

static int reserve(struct kv_reference *reference, const size_t bytes[ARRAYS], struct kv_error *err)
{
    reference->pool = kv_pool_create(0);
    if (reference->pool) {
        reference->outputs = kv_pool_take(reference->pool, bytes[0]);
        reference->log_sum_exp = kv_pool_take(reference->pool, bytes[1]);
        reference->span_mass = kv_pool_take(reference->pool, bytes[2]);
    }
    if (reference->pool && reference->outputs && reference->log_sum_exp && reference->span_mass) return KV_OK;
    return kv_fail(err, KV_EMEMORY, "out of memory for the exact reference");
}

/* Whether an earlier run kept it. */
static bool load(struct kv_reference *reference, const char *path, const size_t bytes[ARRAYS])
{
    if (!kv_store_map(&reference->stored, path, bytes, ARRAYS)) return false;
    reference->outputs = reference->stored.arrays;
    reference->log_sum_exp = reference->outputs + bytes[0] / sizeof(float);
    reference->span_mass = reference->log_sum_exp + bytes[1] / sizeof(float);
    memcpy(&reference->projected2, reference->span_mass + bytes[2] / sizeof(float), sizeof(double));
    return true;
}

/* The reference is the replay of the identity: everything stays, as recorded. So a lossless method
 * differs from it by exactly nothing. */
static int sweep_head(struct kv_reference *reference, const struct kv_reference_input *input, uint32_t head,
                      struct kv_pool *pool, struct kv_error *err)
{
    const struct kv_geometry *geometry = &input->layer->info->geometry;
    const struct kv_scored scored = {input->layer, input->kernels, input->n_scored, input->scored};
    const uint32_t n = input->n_scored * geometry->group;
    const size_t row = (size_t)head * n;
    struct kv_rows rows;
    struct kv_scored_sweep exact;
    int status = kv_scored_rows(&rows, &scored, head, pool, err);
    if (status == KV_OK) status = kv_scored_sweep_create(&exact, &scored, head, &rows, pool, err);
    if (status != KV_OK) return status;
    exact.sweep.answers = (struct kv_answers){.outputs = reference->outputs + row * geometry->value_dim,
                                              .log_sum_exp = reference->log_sum_exp + row};
    kv_sweep_run(&exact.sweep, exact.scratch);
    if (!input->spans.n) return KV_OK;
    /* Span masses need the finished log_sum_exp: a second pass, only on traces that name spans. */
    float *unused = kv_pool_take(pool, 3 * (size_t)n * sizeof *unused);
    const struct kv_compare compare = {
        .keys = &input->layer->k, .head = head, .exact_log_sum_exp = reference->log_sum_exp + row,
        .spans = input->spans, .divergence = unused, .held_mass = unused + n, .drift = unused + 2 * n,
        .span_mass = reference->span_mass + row * input->spans.n};
    exact.sweep.compare = &compare;
    float *scratch = kv_pool_room(pool, kv_sweep_scratch(&exact.sweep) * sizeof *scratch);
    if (!unused || !scratch) return kv_fail(err, KV_EMEMORY, "out of memory for the exact reference");
    kv_sweep_run(&exact.sweep, scratch);
    return KV_OK;
}

static int compute_head(struct kv_reference *reference, const struct kv_reference_input *input, uint32_t head,
                        struct kv_error *err)
{
    struct kv_pool *pool = kv_pool_create(0);
    if (!pool) return kv_fail(err, KV_EMEMORY, "out of memory for the exact reference");
    const int status = sweep_head(reference, input, head, pool, err);
    kv_pool_destroy(pool);
    return status;
}

static int compute(struct kv_reference *reference, const struct kv_reference_input *input,
                   struct kv_error *err)
{
    const uint32_t heads = input->layer->info->geometry.kv_heads;
    int worst = KV_OK;
#pragma omp parallel for schedule(dynamic, 1) num_threads(input->threads)
    for (uint32_t head = 0; head < heads; head++) {
        struct kv_error own = {{0}};
        const int status = compute_head(reference, input, head, &own);
#pragma omp critical
        if (status != KV_OK) worst = status, *err = own;
    }
    return worst;
}

/* The dearest measure of the exact answers, and the same for every method: by all threads. */
static void project(struct kv_reference *reference, const struct kv_reference_input *input)
{
    const struct kv_measured exact = {
        .geometry = &input->layer->info->geometry, .n_scored = input->n_scored, .scored = input->scored,
        .exact = reference->outputs, .w_o = input->layer->w_o, .hidden = input->layer->hidden};
#pragma omp parallel num_threads(input->threads)
#pragma omp single
    reference->projected2 = kv_projected_energy(&exact);
}

static bool store_path(const struct kv_reference_input *input, char *path, size_t capacity)
{
    const size_t scored = input->n_scored * sizeof *input->scored;
    char text[256];
    const int length = snprintf(text, sizeof text, "%s|%s|%u|%u|", input->version,
                                input->kernels->isa, input->layer->info->index, input->spans.n);
    char *key = malloc((size_t)length + scored);
    if (!key) return false;
    memcpy(key, text, (size_t)length);
    memcpy(key + length, input->scored, scored);
    const bool there = kv_store_path(path, capacity, input->content_hash, key, (size_t)length + scored);
    free(key);
    return there;
}

/* Four partial sums, which do not wait for each other. */
static double sum_squares(const float *row, uint32_t n)
{
    double sum[4] = {0};
    for (uint32_t c = 0; c + 4 <= n; c += 4)
        for (uint32_t k = 0; k < 4; k++) sum[k] += (double)row[c + k] * row[c + k];
    for (uint32_t c = n / 4 * 4; c < n; c++) sum[0] += (double)row[c] * row[c];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* By their bits, whose order is that of magnitudes. */
static double largest_magnitude(const float *row, uint32_t n)
{
    int32_t largest = 0;
    for (uint32_t c = 0; c < n; c++) {
        const int32_t bits = (int32_t)(kv_bits_of_float(row[c]) & 0x7fffffffu);
        largest = bits > largest ? bits : largest;
    }
    return kv_float_of_bits((uint32_t)largest);
}

/* Of the rows first .. end - 1. */
static double largest_norm(const struct kv_tensor *tensor, uint32_t head, uint32_t first, uint32_t end,
                           const struct kv_kernels *kernels, float *row)
{
    double worst = 0.0;
    for (uint32_t t = first; t < end; t++) {
        kv_widen_rows(tensor, head, t, 1, kernels, row);
        worst = fmax(worst, sum_squares(row, tensor->dim));
    }
    return sqrt(worst);
}

static double largest_value(const struct kv_tensor *tensor, uint32_t head, uint32_t end,
                            const struct kv_kernels *kernels, float *row)
{
    double worst = 0.0;
    for (uint32_t t = 0; t < end; t++) {
        kv_widen_rows(tensor, head, t, 1, kernels, row);
        worst = fmax(worst, largest_magnitude(row, tensor->dim));
    }
    return worst;
}

struct audited {                  /* one sampled query */
    uint32_t q_head, scored;
    double deviation, bound;      /* found, derived */
    bool done;                    /* false: out of memory */
};

/* One sampled query against the definition. */
static void audit_query(struct audited *audited, const struct kv_reference *reference,
                        const struct kv_reference_input *input)
{
    const struct kv_layer *layer = input->layer;
    const struct kv_kernels *kernels = input->kernels;
    const struct kv_geometry *geometry = &layer->info->geometry;
    const uint32_t q_head = audited->q_head, token = input->scored[audited->scored];
    const uint32_t head = q_head / geometry->group, dim = geometry->value_dim;
    const uint32_t widest = geometry->key_dim > dim ? geometry->key_dim : dim;
    const size_t row = ((size_t)head * input->n_scored + audited->scored) * geometry->group + q_head % geometry->group;
    const float *fast = reference->outputs + row * dim;
    double *output = malloc((dim + token + 1 + widest) * sizeof *output);
    if (!output) return;
    double *weights = output + dim, log_sum_exp;
    float *scratch = (float *)(weights + token + 1);
    kv_exact_answer(geometry, &layer->q, &layer->k, &layer->v, q_head, token, output, &log_sum_exp, weights);
    const uint32_t first = geometry->window && token >= geometry->window ? token - geometry->window + 1 : 0;
    const double key_norm = largest_norm(&layer->k, head, 0, token + 1, kernels, scratch);
    const double value_max = largest_value(&layer->v, head, token + 1, kernels, scratch);
    const double query_norm = largest_norm(&layer->q, q_head, token, token + 1, kernels, scratch);
    audited->bound = kv_sweep_bound(geometry, token + 1 - first, query_norm, key_norm, value_max);
    for (uint32_t c = 0; c < dim; c++) {
        const double delta = fabs(output[c] - fast[c]);
        if (!(delta <= audited->deviation)) audited->deviation = delta;
    }
    free(output);
    audited->done = true;
}

/* Notes the query that is closest to its bound. */
static int judge(struct kv_reference *reference, const struct kv_reference_input *input,
                 const struct audited *audited, struct kv_error *err)
{
    const double deviation = audited->deviation, bound = audited->bound;
    if (!audited->done) return kv_fail(err, KV_EMEMORY, "out of memory for the audit");
    if (reference->worst_bound == 0.0 ||
        deviation * reference->worst_bound > reference->worst_deviation * bound)
        reference->worst_deviation = deviation, reference->worst_bound = bound;
    if (deviation <= bound) return KV_OK;
    return kv_fail(err, KV_EGATE,
                   "layer %u, query head %u, token %u: fast attention is %.3g from the definition, "
                   "expected at most %.3g", input->layer->info->index, audited->q_head,
                   input->scored[audited->scored], deviation, bound);
}

static int audit(struct kv_reference *reference, const struct kv_reference_input *input,
                 struct kv_error *err)
{
    const struct kv_geometry *geometry = &input->layer->info->geometry;
    struct kv_rng rng = kv_rng_stream(0, geometry->layer, input->n_scored, STREAM);
    struct audited audited[AUDITED] = {0};
    for (int i = 0; i < AUDITED; i++) {
        audited[i].q_head = kv_rng_below(&rng, geometry->q_heads);
        audited[i].scored = kv_rng_below(&rng, input->n_scored);
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(input->threads)
    for (int i = 0; i < AUDITED; i++) audit_query(&audited[i], reference, input);
    int status = KV_OK;
    for (int i = 0; status == KV_OK && i < AUDITED; i++) status = judge(reference, input, &audited[i], err);
    return status;
}

/* Computes it, and keeps it where `path` is one. */
static int make(struct kv_reference *reference, const struct kv_reference_input *input, const char *path,
                const size_t bytes[ARRAYS], struct kv_error *err)
{
    int status = reserve(reference, bytes, err);
    if (status == KV_OK) status = compute(reference, input, err);
    if (status != KV_OK) return status;
    project(reference, input);
    const void *const arrays[ARRAYS] = {reference->outputs, reference->log_sum_exp, reference->span_mass,
                                        &reference->projected2};
    if (path) kv_store_save(path, arrays, bytes, ARRAYS);
    return KV_OK;
}

int kv_reference_get(struct kv_reference **out, const struct kv_reference_input *input,
                     struct kv_error *err)
{
    const double start = kv_clock_seconds();
    struct kv_reference *reference = calloc(1, sizeof *reference);
    if (!reference) return kv_fail(err, KV_EMEMORY, "out of memory for the exact reference");
    char path[4096];
    size_t bytes[ARRAYS];
    const bool keeps = store_path(input, path, sizeof path);
    reference->bytes = sizes_of(input, bytes);
    reference->from_disk = keeps && load(reference, path, bytes);
    int status = reference->from_disk ? KV_OK : make(reference, input, keeps ? path : NULL, bytes, err);
    /* A dump, which reads no W_o, may have been first. */
    if (status == KV_OK && input->layer->w_o && reference->projected2 == 0.0) project(reference, input);
    const double computed = kv_clock_seconds();
    if (status == KV_OK && !input->audited) status = audit(reference, input, err);
    reference->audit_seconds = kv_clock_seconds() - computed;
    reference->seconds = kv_clock_seconds() - start;
    if (status != KV_OK) {
        kv_reference_free(reference);
        return status;
    }
    *out = reference;
    return KV_OK;
}

void kv_reference_free(struct kv_reference *reference)
{
    if (!reference) return;
    kv_pool_destroy(reference->pool);
    kv_store_unmap(&reference->stored);
    free(reference);
}
