/* Errors of the attention outputs; see output_error.h. Definitions: replay.md "Errors". */
#include "metrics/output_error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/status.h"
#include "metrics/projection.h"
#include "metrics/statistics.h"

/* Four sums side by side, i mod 4, joined in a fixed order: an order that lets a compiler use lanes
 * without changing a bit. The difference is taken in double: exact, since both are floats. */
static void row_squares(const float *answer, const float *exact, uint32_t dim, double *delta2,
                        double *exact2)
{
    double delta_sum[4] = {0}, exact_sum[4] = {0};
    for (uint32_t i = 0; i < dim; i++) {
        const double reference = exact[i], delta = answer[i] - reference;
        delta_sum[i % 4] += delta * delta;
        exact_sum[i % 4] += reference * reference;
    }
    *delta2 = (delta_sum[0] + delta_sum[1]) + (delta_sum[2] + delta_sum[3]);
    *exact2 = (exact_sum[0] + exact_sum[1]) + (exact_sum[2] + exact_sum[3]);
}

enum { AHEAD = 8 };    /* rows */

/* A query head's sums, over tokens in their order. */
struct head_sums { double delta2, exact2; };

/* Answers to all tokens have left the caches. */
static void fetch_row(const float *row, uint32_t dim)
{
    for (uint32_t i = 0; i < dim; i += 16) __builtin_prefetch(row + i);
}

static void add_row(struct kv_layer_measures *out, const struct kv_measured *in, uint32_t head, uint32_t t,
                    struct head_sums *sums)
{
    const uint32_t dim = in->geometry->value_dim;
    const size_t row = kv_measured_row(in, head, t);
    double delta2, exact2;
    if (row + AHEAD < (size_t)in->n_scored * in->geometry->q_heads) {
        fetch_row(in->answer + (row + AHEAD) * dim, dim);
        fetch_row(in->exact + (row + AHEAD) * dim, dim);
    }
    row_squares(in->answer + row * dim, in->exact + row * dim, dim, &delta2, &exact2);
    out->query_ratio[row] = kv_root_ratio(delta2, exact2);
    out->token_delta2[t] += delta2, out->token_exact2[t] += exact2;
    sums->delta2 += delta2, sums->exact2 += exact2;
}

/* The query heads of a KV head, in the order in which their rows lie: those of a token side by side. */
static int add_group(struct kv_layer_measures *out, const struct kv_measured *in, uint32_t kv_head)
{
    const uint32_t group = in->geometry->group, first = kv_head * group;
    struct head_sums *sums = calloc(group, sizeof *sums);
    if (!sums) return KV_EMEMORY;
    for (uint32_t t = 0; t < in->n_scored; t++)
        for (uint32_t g = 0; g < group; g++) add_row(out, in, first + g, t, &sums[g]);
    for (uint32_t g = 0; g < group; g++)
        out->head_error[first + g] = kv_root_ratio(sums[g].delta2, sums[g].exact2);
    free(sums);
    return KV_OK;
}

static void sum_tokens(struct kv_layer_measures *out)
{
    for (uint32_t t = 0; t < out->n_scored; t++) {
        const uint32_t bin = (uint32_t)((uint64_t)t * KV_DEPTH_BINS / out->n_scored);
        out->bin_delta2[bin] += out->token_delta2[t];
        out->bin_exact2[bin] += out->token_exact2[t];
        out->delta2 += out->token_delta2[t];
        out->exact2 += out->token_exact2[t];
    }
    out->output_error = kv_root_ratio(out->delta2, out->exact2);
}

static int measure_percentiles(struct kv_layer_measures *out)
{
    const uint32_t n = out->n_scored * out->q_heads;
    out->error_p50 = out->error_p95 = out->error_p99 = out->error_max = NAN;
    if (!isfinite(out->delta2)) return KV_OK;   /* a NaN answer is not left out: it empties them */
    double *ratios = malloc((n + 1) * sizeof *ratios);
    if (!ratios) return KV_EMEMORY;
    memcpy(ratios, out->query_ratio, n * sizeof *ratios);
    const uint32_t known = kv_gather_known(ratios, n);
    out->error_p50 = kv_quantile(ratios, known, 0.50);
    out->error_p95 = kv_quantile(ratios, known, 0.95);
    out->error_p99 = kv_quantile(ratios, known, 0.99);
    out->error_max = kv_quantile(ratios, known, 1);
    free(ratios);
    return KV_OK;
}

int kv_measure_outputs(struct kv_layer_measures *out, const struct kv_measured *in)
{
    int status = KV_OK;
    for (uint32_t head = 0; status == KV_OK && head < in->geometry->kv_heads; head++) status = add_group(out, in, head);
    if (status != KV_OK) return status;
    sum_tokens(out);
    return measure_percentiles(out);
}

int kv_measure_stream(struct kv_layer_measures *out, const struct kv_measured *in)
{
    out->residual_error = out->wo_error = NAN;
    if (!in->w_o || !in->n_scored) return KV_OK;
    const double exact2 = in->exact_projected2 > 0 ? in->exact_projected2 : kv_projected_energy(in);
    double *squares = malloc(in->n_scored * sizeof *squares);
    const int status = squares ? kv_project_squares(in, true, squares) : KV_EMEMORY;
    if (status == KV_OK) {
        double sum = 0, shares = 0;
        for (uint32_t t = 0; t < in->n_scored; t++) {
            sum += squares[t];
            if (in->x2) shares += kv_ratio(squares[t], in->x2[in->scored[t]]);
        }
        out->wo_error = kv_root_ratio(sum, exact2);
        if (in->x2 && !in->attn_post_norm) out->residual_error = shares / in->n_scored;
    }
    free(squares);
    return status;
}
