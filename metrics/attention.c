/* Measures of the attention weights; see attention.h. */
#include "metrics/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/status.h"
#include "metrics/output_error.h"
#include "metrics/statistics.h"

static const double nobody_looks = 1e-3;

/* Mean of what is not NaN; NaN of nothing. */
static double mean_known(const float *values, size_t n)
{
    double sum = 0;
    size_t known = 0;
    for (size_t i = 0; values && i < n; i++)
        if (!isnan(values[i])) sum += values[i], known++;
    return known ? sum / (double)known : NAN;
}

static double mean_of_all(const float *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; values && i < n; i++) sum += values[i];
    return values && n ? sum / (double)n : NAN;
}

/* Mass that the exact softmax gives to keys: 1, less the sink logit's share. */
static double exact_mass(const struct kv_measured *in, uint32_t head, size_t row)
{
    const float *sinks = in->geometry->sink_logits;
    if (!sinks) return 1;
    return in->exact_log_sum_exp ? 1 - exp((double)sinks[head] - in->exact_log_sum_exp[row]) : NAN;
}

/* Negative only by the rounding of f32 masses, as is the divergence: a mean below 0 is 0. */
static double mean_lost_mass(const struct kv_measured *in, size_t rows)
{
    double lost = 0;
    if (in->reads_all) return 0;
    if (!in->held_mass || !rows) return NAN;
    for (uint32_t head = 0; head < in->geometry->q_heads; head++)
        for (uint32_t t = 0; t < in->n_scored; t++) {
            const size_t row = kv_measured_row(in, head, t);
            lost += exact_mass(in, head, row) - in->held_mass[row];
        }
    return lost < 0 ? 0 : lost / (double)rows;
}

void kv_measure_weights(struct kv_layer_measures *out, const struct kv_measured *in)
{
    const size_t rows = (size_t)in->n_scored * in->geometry->q_heads;
    const double divergence = mean_of_all(in->divergence, rows);
    out->attention_kl = divergence < 0 ? 0 : divergence;
    out->mass_drift = mean_known(in->drift, rows);
    out->lost_mass = mean_lost_mass(in, rows);
}

/* by_head [q_heads] sums of a span's mass over the scored queries. */
static void sum_span(const struct kv_measured *in, const float *mass, uint32_t span,
                     double *by_head)
{
    for (uint32_t head = 0; head < in->geometry->q_heads; head++) {
        by_head[head] = 0;
        for (uint32_t t = 0; t < in->n_scored; t++)
            by_head[head] += mass[kv_measured_row(in, head, t) * in->n_spans + span];
    }
}

static double retention(const double *exact, const double *answer, double *known, uint32_t heads,
                        uint32_t n_scored)
{
    double exact_sum = 0, answer_sum = 0;
    uint32_t looking = 0;
    memcpy(known, exact, heads * sizeof *known);
    const double least = kv_quantile(known, kv_gather_known(known, heads), 0.95);
    for (uint32_t head = 0; head < heads; head++)
        if (exact[head] >= least) exact_sum += exact[head], answer_sum += answer[head], looking++;
    const double mean = exact_sum / ((double)looking * n_scored);
    return mean >= nobody_looks ? answer_sum / exact_sum : NAN;
}

int kv_measure_spans(struct kv_layer_measures *out, const struct kv_measured *in)
{
    const uint32_t heads = in->geometry->q_heads;
    double sum = 0;
    uint32_t known = 0;
    out->span_retention = NAN;
    if (!in->n_spans || !in->span_exact || !in->span_answer || !in->n_scored) return KV_OK;
    double *exact = malloc(3 * (size_t)heads * sizeof *exact);
    if (!exact) return KV_EMEMORY;
    double *answer = exact + heads, *gathered = answer + heads;
    for (uint32_t span = 0; span < in->n_spans; span++) {
        sum_span(in, in->span_exact, span, exact);
        sum_span(in, in->span_answer, span, answer);
        const double value = retention(exact, answer, gathered, heads, in->n_scored);
        if (!isnan(value)) sum += value, known++;
    }
    if (known) out->span_retention = sum / known;
    free(exact);
    return KV_OK;
}
