/* Claims about random unit vectors: what an encoding loses of them, of their inner products, and
 * of a softmax over them. Settings: spec, dim, vectors, seeds (codec objects, each with its own
 * random matrices; vectors are shared out among them). */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "harness/base/rng.h"
#include "harness/claims/claim_codec.h"

enum { PARTNERS = 16, PARTNER_POOL = 256 }; /* vectors y that each x meets, of so many */

struct vectors {
    const struct kv_measuring *measuring;
    char spec[128];
    uint32_t dim, n, seeds;
    float *rows, *decoded, *partners;
};

/* Uniform on the sphere of the given radius. */
static void random_rows(float *rows, uint32_t n, uint32_t dim, double radius, uint64_t seed,
                        uint32_t purpose)
{
    for (uint32_t i = 0; i < n; i++, rows += dim) {
        struct kv_rng rng = kv_rng_stream(seed, purpose, dim, i);
        double square = 0;
        for (uint32_t c = 0; c < dim; c++) {
            const double value = kv_rng_normal(&rng);
            rows[c] = (float)value;
            square += value * value;
        }
        for (uint32_t c = 0; c < dim; c++) rows[c] = (float)(rows[c] * (radius / sqrt(square)));
    }
}

static void free_vectors(struct vectors *vectors)
{
    free(vectors->rows);
    free(vectors->decoded);
    free(vectors->partners);
}

static int make_vectors(struct vectors *vectors, const char *setting,
                        const struct kv_measuring *measuring, struct kv_error *err)
{
    *vectors = (struct vectors){.measuring = measuring};
    vectors->dim = (uint32_t)kv_setting_number(setting, "dim", 128);
    vectors->n = (uint32_t)kv_setting_number(setting, "vectors", 4000);
    vectors->seeds = (uint32_t)kv_setting_number(setting, "seeds", 1);
    if (!kv_setting_text(setting, "spec", vectors->spec, sizeof vectors->spec) || !vectors->dim ||
        !vectors->seeds)
        return kv_fail(err, KV_EINPUT, "claim: expected a setting with spec= and dim=, found %s",
                       setting);
    const size_t size = (size_t)vectors->n * vectors->dim * sizeof(float);
    vectors->rows = malloc(size + 1);
    vectors->decoded = malloc(size + 1);
    vectors->partners = malloc((size_t)PARTNER_POOL * vectors->dim * sizeof(float));
    if (!vectors->rows || !vectors->decoded || !vectors->partners)
        return kv_fail(err, KV_EMEMORY, "claim: no memory for %u vectors", vectors->n);
    random_rows(vectors->rows, vectors->n, vectors->dim, 1, measuring->seed, 1);
    random_rows(vectors->partners, PARTNER_POOL, vectors->dim, 1, measuring->seed, 2);
    return KV_OK;
}

/* decoded := each share of the rows through its own codec object. */
static int round_trip(struct vectors *vectors, const char *spec, struct kv_error *err)
{
    const uint32_t share = vectors->n / vectors->seeds;
    for (uint32_t s = 0; s < vectors->seeds; s++) {
        struct kv_claim_codec codec;
        const size_t at = (size_t)s * share * vectors->dim;
        const int status =
            kv_claim_codec_open(&codec, spec, vectors->dim, KV_KEYS, 0,
                                vectors->measuring->seed + s, vectors->measuring->kernels, err);
        if (status != KV_OK) return status;
        kv_claim_round_trip(&codec, vectors->rows + at, share, vectors->decoded + at);
        kv_claim_codec_close(&codec);
    }
    vectors->n = share * vectors->seeds;
    return KV_OK;
}

static double mean_distortion(const struct vectors *vectors)
{
    const size_t size = (size_t)vectors->n * vectors->dim;
    double sum = 0;
    for (size_t i = 0; i < size; i++) {
        const double difference = (double)vectors->rows[i] - vectors->decoded[i];
        sum += difference * difference;
    }
    return sum / vectors->n;
}

static double product_error(const float *row, const float *decoded, const float *partner,
                            uint32_t dim)
{
    double sum = 0;
    for (uint32_t c = 0; c < dim; c++) sum += partner[c] * ((double)row[c] - decoded[c]);
    return sum * sum;
}

/* Each x meets 16 of 256 partners, in turn: as good as fresh ones, which would cost most of the
 * time. */
static double mean_product_error(const struct vectors *vectors)
{
    const uint32_t dim = vectors->dim;
    double sum = 0;
    for (uint32_t i = 0; i < vectors->n; i++)
        for (uint32_t j = 0; j < PARTNERS; j++) {
            const size_t partner = (i * PARTNERS + j) % PARTNER_POOL, at = (size_t)i * dim;
            sum += product_error(vectors->rows + at, vectors->decoded + at,
                                 vectors->partners + partner * dim, dim);
        }
    return sum / ((double)vectors->n * PARTNERS);
}

int kv_claim_distortion(double *figure, const char *setting, const struct kv_measuring *measuring,
                        char reason[256], struct kv_error *err)
{
    struct vectors vectors;
    int status = make_vectors(&vectors, setting, measuring, err);
    if (status == KV_OK) status = round_trip(&vectors, vectors.spec, err);
    if (status == KV_OK) *figure = mean_distortion(&vectors);
    free_vectors(&vectors);
    return kv_claim_cannot(status, figure, reason, err);
}

/* ---- independent normal values: formats whose error hangs on the size of values ---- */

static double share_of_squares(const struct vectors *vectors)
{
    const size_t size = (size_t)vectors->n * vectors->dim;
    double squares = 0;
    for (size_t i = 0; i < size; i++) squares += (double)vectors->rows[i] * vectors->rows[i];
    return mean_distortion(vectors) * vectors->n / squares;
}

static int normal_error(double *figure, struct vectors *vectors, const char *setting,
                        struct kv_error *err)
{
    char against[128];
    for (uint32_t i = 0; i < vectors->n; i++) {
        struct kv_rng rng = kv_rng_stream(vectors->measuring->seed, 4, vectors->dim, i);
        float *row = vectors->rows + (size_t)i * vectors->dim;
        for (uint32_t c = 0; c < vectors->dim; c++) row[c] = (float)kv_rng_normal(&rng);
    }
    int status = round_trip(vectors, vectors->spec, err);
    if (status == KV_OK) *figure = share_of_squares(vectors);
    if (status != KV_OK || !kv_setting_text(setting, "against", against, sizeof against))
        return status;
    status = round_trip(vectors, against, err);
    if (status == KV_OK) *figure /= share_of_squares(vectors);
    return status;
}

int kv_claim_normal_error(double *figure, const char *setting, const struct kv_measuring *measuring,
                          char reason[256], struct kv_error *err)
{
    struct vectors vectors;
    int status = make_vectors(&vectors, setting, measuring, err);
    if (status == KV_OK) status = normal_error(figure, &vectors, setting, err);
    free_vectors(&vectors);
    return kv_claim_cannot(status, figure, reason, err);
}

int kv_claim_inner_product(double *figure, const char *setting,
                           const struct kv_measuring *measuring, char reason[256],
                           struct kv_error *err)
{
    struct vectors vectors;
    int status = make_vectors(&vectors, setting, measuring, err);
    if (status == KV_OK) status = round_trip(&vectors, vectors.spec, err);
    if (status == KV_OK) *figure = vectors.dim * mean_product_error(&vectors);
    free_vectors(&vectors);
    return kv_claim_cannot(status, figure, reason, err);
}

/* ---- softmax over unit keys; queries have the length that gives logits the wanted spread ---- */

static void weights_of(const struct vectors *vectors, const float *query, const float *keys,
                       float *weights)
{
    const struct kv_kernels *kernels = vectors->measuring->kernels;
    for (uint32_t j = 0; j < vectors->n; j++)
        weights[j] = kernels->dot(query, keys + (size_t)j * vectors->dim, vectors->dim);
    const float sum = kernels->exp_sum(weights, vectors->n, 1.0f, kernels->max(weights, vectors->n));
    kernels->scale(weights, vectors->n, 1 / sum);
}

static double mean_divergence(struct vectors *vectors, double logit_sd, bool of_exact,
                              float *weights)
{
    float *exact = weights, *answer = weights + vectors->n;
    double sum = 0;
    /* q.k of unit vectors has sd 1 / sqrt(dim). */
    random_rows(vectors->partners, PARTNER_POOL, vectors->dim, logit_sd * sqrt(vectors->dim),
                vectors->measuring->seed, 3);
    for (uint32_t i = 0; i < PARTNER_POOL; i++) {
        const float *query = vectors->partners + (size_t)i * vectors->dim;
        weights_of(vectors, query, vectors->rows, exact);
        weights_of(vectors, query, vectors->decoded, answer);
        sum += of_exact ? kv_claim_divergence(exact, answer, vectors->n)
                        : kv_claim_divergence(answer, exact, vectors->n);
    }
    return sum / PARTNER_POOL;
}

static int softmax_ratio(double *figure, struct vectors *vectors, const char *setting,
                         struct kv_error *err)
{
    char against[128];
    const bool of_exact = kv_setting_number(setting, "kl_of_exact", 0) != 0;
    const double logit_sd = kv_setting_number(setting, "logit_sd", 4);
    if (!kv_setting_text(setting, "against", against, sizeof against))
        return kv_fail(err, KV_EINPUT, "claim: expected a setting with against=, found %s",
                       setting);
    float *weights = malloc(2 * (size_t)vectors->n * sizeof *weights);
    if (!weights) return kv_fail(err, KV_EMEMORY, "claim: no memory");
    int status = round_trip(vectors, vectors->spec, err);
    const double top = status == KV_OK ? mean_divergence(vectors, logit_sd, of_exact, weights) : 0;
    if (status == KV_OK) status = round_trip(vectors, against, err);
    if (status == KV_OK) *figure = top / mean_divergence(vectors, logit_sd, of_exact, weights);
    free(weights);
    return status;
}

int kv_claim_softmax_ratio(double *figure, const char *setting,
                           const struct kv_measuring *measuring, char reason[256],
                           struct kv_error *err)
{
    struct vectors vectors;
    int status = make_vectors(&vectors, setting, measuring, err);
    if (status == KV_OK) status = softmax_ratio(figure, &vectors, setting, err);
    free_vectors(&vectors);
    return kv_claim_cannot(status, figure, reason, err);
}
