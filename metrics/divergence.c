/* Divergence from gradient probes; see divergence.h. Formulas: replay.md "Errors". */
#include "metrics/divergence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/status.h"
#include "metrics/output_error.h"
#include "metrics/statistics.h"

/* Above it the estimate still ranks but reads low by 1.3-1.5 (real-model.md section 3). */
static const double low_validity = 0.1;

/* Tokens of all windows together: W. */
static uint32_t window_tokens(uint32_t n_windows, const uint32_t (*windows)[2])
{
    uint32_t tokens = 0;
    for (uint32_t w = 0; w < n_windows; w++) tokens += windows[w][1] - windows[w][0];
    return tokens;
}

/* Index of token in the ascending list, or n when it is not there. */
static uint32_t scored_index(const uint32_t *scored, uint32_t n, uint32_t token)
{
    uint32_t low = 0, high = n;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (scored[middle] < token) low = middle + 1;
        else high = middle;
    }
    return low < n && scored[low] == token ? low : n;
}

/* index [W]: where each window token stands among the scored ones. */
static void find_window_tokens(const struct kv_measured *in, uint32_t *index)
{
    for (uint32_t w = 0; w < in->n_windows; w++)
        for (uint32_t token = in->windows[w][0]; token < in->windows[w][1]; token++)
            *index++ = scored_index(in->scored, in->n_scored, token);
}

/* sum over heads of <g, delta> at column `column` of the windows. */
static double probe_dot(const struct kv_measured *in, const struct kv_gradient_view *probe,
                        uint32_t column, uint32_t index, float *gradient)
{
    const uint32_t dim = in->geometry->value_dim;
    double sum = 0;
    for (uint32_t head = 0; head < in->geometry->q_heads; head++) {
        const size_t at = kv_measured_row(in, head, index) * dim;
        kv_tensor_widen(&probe->tensor, head, column, 1, gradient);
        for (uint32_t i = 0; i < dim; i++)
            sum += gradient[i] * ((double)in->answer[at + i] - in->exact[at + i]);
    }
    return sum * probe->unit;
}

static void probe_dots(const struct kv_measured *in, const struct kv_gradient_view *probe,
                       const uint32_t *index, uint32_t n, float *gradient, double *dots)
{
    for (uint32_t column = 0; column < n; column++)
        dots[column] = index[column] < in->n_scored
                           ? probe_dot(in, probe, column, index[column], gradient)
                           : NAN;
}

int kv_measure_probes(struct kv_layer_measures *out, const struct kv_measured *in)
{
    const uint32_t n = out->window_tokens = window_tokens(in->n_windows, in->windows);
    int status = KV_EMEMORY;
    if (!n || (!in->label && !in->n_fisher)) return KV_OK;
    uint32_t *index = malloc(n * sizeof *index);
    float *gradient = malloc(in->geometry->value_dim * sizeof *gradient);
    if (in->label) out->label_dot = malloc(n * sizeof *out->label_dot);
    if (in->n_fisher) out->fisher_dot = malloc((size_t)in->n_fisher * n * sizeof *out->fisher_dot);
    if (!index || !gradient || (in->label && !out->label_dot) || (in->n_fisher && !out->fisher_dot))
        goto out;

    out->n_fisher = in->n_fisher;
    find_window_tokens(in, index);
    if (in->label) probe_dots(in, in->label, index, n, gradient, out->label_dot);
    for (uint32_t s = 0; s < in->n_fisher; s++)
        probe_dots(in, in->fisher + s, index, n, gradient, out->fisher_dot + (size_t)s * n);
    status = KV_OK;
out:
    free(gradient);
    free(index);
    return status;
}

/* Every layer has what is asked for, for the same windows. */
static bool have_probes(const struct kv_pool_input *in, bool label)
{
    for (uint32_t l = 0; l < in->n_layers; l++) {
        const struct kv_layer_measures *layer = in->layers + l;
        if (label ? !layer->label_dot : !layer->fisher_dot) return false;
        if (layer->n_fisher != in->layers->n_fisher && !label) return false;
    }
    return in->n_layers > 0;
}

static double fisher_sum(const struct kv_pool_input *in, uint32_t s, uint32_t column)
{
    const size_t at = (size_t)s * in->layers->window_tokens + column;
    double sum = 0;
    for (uint32_t l = 0; l < in->n_layers; l++) sum += in->layers[l].fisher_dot[at];
    return sum;
}

/* 1/2 mean_s ( sum over tokens first .. end - 1 of the sum over layers )^2 */
static double half_square(const struct kv_pool_input *in, uint32_t first, uint32_t end)
{
    const uint32_t n_fisher = in->layers->n_fisher;
    double squares = 0;
    for (uint32_t s = 0; s < n_fisher; s++) {
        double sum = 0;
        for (uint32_t column = first; column < end; column++) sum += fisher_sum(in, s, column);
        squares += sum * sum;
    }
    return 0.5 * squares / n_fisher;
}

static double sequence_form(const struct kv_pool_input *in)
{
    double sum = 0;
    uint32_t first = 0;
    for (uint32_t w = 0; w < in->n_windows; w++) {
        const uint32_t end = first + in->windows[w][1] - in->windows[w][0];
        sum += half_square(in, first, end);
        first = end;
    }
    return sum / first;
}

struct token_sums { uint32_t n; double *value, *known, *top, *bottom; uint32_t *runs, *ends; };

static int divergence_interval(struct kv_pooled *out, const struct kv_pool_input *in,
                               struct token_sums *tokens)
{
    for (uint32_t w = 0; w < in->n_windows; w++)
        tokens->runs[w] = in->windows[w][1] - in->windows[w][0];
    const uint32_t n_blocks = kv_cut_blocks(tokens->runs, in->n_windows, tokens->ends);
    for (uint32_t block = 0, token = 0; block < n_blocks; block++) {
        tokens->top[block] = 0;
        tokens->bottom[block] = tokens->ends[block] - token;
        while (token < tokens->ends[block]) tokens->top[block] += tokens->value[token++];
    }
    const struct kv_block_sums sums = {n_blocks, 1, tokens->top, tokens->bottom, false};
    return kv_bootstrap(&sums, in->seed, &out->dkl_low, &out->dkl_high);
}

static int measure_divergence(struct kv_pooled *out, const struct kv_pool_input *in,
                              struct token_sums *tokens)
{
    double sum = 0;
    for (uint32_t t = 0; t < tokens->n; t++) sum += tokens->value[t] = half_square(in, t, t + 1);
    out->dkl = sum / tokens->n;
    if (isnan(out->dkl)) return KV_OK;
    memcpy(tokens->known, tokens->value, tokens->n * sizeof *tokens->known);
    const uint32_t known = kv_gather_known(tokens->known, tokens->n);
    out->dkl_p99 = kv_quantile(tokens->known, known, 0.99);
    out->dkl_max = kv_quantile(tokens->known, known, 1);
    out->dkl_seq = sequence_form(in);
    out->validity = out->dkl < low_validity ? "ok" : "low";
    return divergence_interval(out, in, tokens);
}

static int pool_fisher(struct kv_pooled *out, const struct kv_pool_input *in, uint32_t n)
{
    struct token_sums tokens = {.n = n};
    double *memory = malloc(4 * (size_t)n * sizeof *memory);
    uint32_t *counts = malloc((n + (size_t)in->n_windows) * sizeof *counts);
    int status = KV_EMEMORY;
    if (memory && counts) {
        tokens.value = memory, tokens.known = memory + n;
        tokens.top = memory + 2 * (size_t)n, tokens.bottom = memory + 3 * (size_t)n;
        tokens.ends = counts, tokens.runs = counts + n;
        status = measure_divergence(out, in, &tokens);
    }
    free(counts);
    free(memory);
    return status;
}

static double first_order(const struct kv_pool_input *in, uint32_t n)
{
    double sum = 0;
    for (uint32_t l = 0; l < in->n_layers; l++)
        for (uint32_t t = 0; t < n; t++) sum += in->layers[l].label_dot[t];
    return sum / n;
}

/* Mean NLL of what the windows' positions predict: position t predicts token t + 1. */
static double target_nll(const struct kv_pool_input *in, uint32_t n)
{
    double sum = 0;
    if (!in->nll) return NAN;
    for (uint32_t w = 0; w < in->n_windows; w++)
        for (uint32_t t = in->windows[w][0]; t < in->windows[w][1]; t++) {
            if (t + 1 >= in->tokens) return NAN;
            sum += in->nll[t + 1];
        }
    return sum / n;
}

int kv_pool_probes(struct kv_pooled *out, const struct kv_pool_input *in)
{
    const uint32_t n = window_tokens(in->n_windows, in->windows);
    int status = KV_OK;
    out->dkl = out->dkl_low = out->dkl_high = out->dkl_p99 = out->dkl_max = NAN;
    out->dkl_seq = out->dnll1 = out->ppl_est = NAN;
    out->validity = "";
    if (!n) return KV_OK;
    if (have_probes(in, true)) out->dnll1 = first_order(in, n);
    if (have_probes(in, false)) status = pool_fisher(out, in, n);
    out->ppl_est = exp(target_nll(in, n) + out->dnll1 + out->dkl);
    return status;
}
