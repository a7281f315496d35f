/* Layers pooled; see kv_pool_measures in measures.h. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "harness/base/status.h"
#include "metrics/divergence.h"
#include "metrics/measures.h"
#include "metrics/statistics.h"

static double measure_at(const struct kv_layer_measures *layer, size_t offset)
{
    return *(const double *)((const char *)layer + offset);
}

static double mean_of_layers(const struct kv_pool_input *in, size_t offset)
{
    double sum = 0;
    for (uint32_t l = 0; l < in->n_layers; l++) sum += measure_at(in->layers + l, offset);
    return in->n_layers ? sum / in->n_layers : NAN;
}

static double mean_where_defined(const struct kv_pool_input *in, size_t offset)
{
    double sum = 0;
    uint32_t known = 0;
    for (uint32_t l = 0; l < in->n_layers; l++) {
        const double value = measure_at(in->layers + l, offset);
        if (!isnan(value)) sum += value, known++;
    }
    return known ? sum / known : NAN;
}

static double largest_of_layers(const struct kv_pool_input *in)
{
    double largest = 0;
    for (uint32_t l = 0; l < in->n_layers; l++) {
        if (isnan(in->layers[l].error_max)) return NAN;
        largest = fmax(largest, in->layers[l].error_max);
    }
    return in->n_layers ? largest : NAN;
}

/* Fewer scored tokens than bins leave some empty: nothing was asked there. */
static bool bin_is_empty(uint64_t bin, uint64_t n_scored)
{
    return (bin * n_scored + KV_DEPTH_BINS - 1) / KV_DEPTH_BINS ==
           ((bin + 1) * n_scored + KV_DEPTH_BINS - 1) / KV_DEPTH_BINS;
}

static double bin_of_layers(const struct kv_pool_input *in, uint32_t bin)
{
    double sum = 0;
    if (!in->n_layers || bin_is_empty(bin, in->layers->n_scored)) return NAN;
    for (uint32_t l = 0; l < in->n_layers; l++)
        sum += kv_root_ratio(in->layers[l].bin_delta2[bin], in->layers[l].bin_exact2[bin]);
    return sum / in->n_layers;
}

#define LAYER(member) offsetof(struct kv_layer_measures, member)

static void pool_means(struct kv_pooled *out, const struct kv_pool_input *in)
{
    out->output_error = mean_of_layers(in, LAYER(output_error));
    out->residual_error = mean_of_layers(in, LAYER(residual_error));
    out->wo_error = mean_of_layers(in, LAYER(wo_error));
    out->attention_kl = mean_of_layers(in, LAYER(attention_kl));
    out->lost_mass = mean_of_layers(in, LAYER(lost_mass));
    out->error_p50 = mean_of_layers(in, LAYER(error_p50));
    out->error_p95 = mean_of_layers(in, LAYER(error_p95));
    out->error_p99 = mean_of_layers(in, LAYER(error_p99));
    out->error_max = largest_of_layers(in);
    out->mass_drift = mean_where_defined(in, LAYER(mass_drift));
    out->span_retention = mean_where_defined(in, LAYER(span_retention));
    out->key_error = mean_where_defined(in, LAYER(key_error));
    out->value_error = mean_where_defined(in, LAYER(value_error));
    for (uint32_t bin = 0; bin < KV_DEPTH_BINS; bin++) out->bin_error[bin] = bin_of_layers(in, bin);
}

/* Stretches of scored tokens without a gap. */
static uint32_t cut_runs_at_gaps(const uint32_t *scored, uint32_t n, uint32_t *run_items)
{
    uint32_t runs = 0;
    for (uint32_t t = 0; t < n; t++) {
        if (t == 0 || scored[t] != scored[t - 1] + 1) run_items[runs++] = 0;
        run_items[runs - 1]++;
    }
    return runs;
}

static void sum_block(const double *tokens, const uint32_t *ends, uint32_t n_blocks, double *sums)
{
    for (uint32_t block = 0, t = 0; block < n_blocks; block++) {
        sums[block] = 0;
        while (t < ends[block]) sums[block] += tokens[t++];
    }
}

static int output_interval(struct kv_pooled *out, const struct kv_pool_input *in,
                           const uint32_t *ends, uint32_t n_blocks)
{
    const size_t sums_of_side = (size_t)in->n_layers * n_blocks;
    double *top = malloc((2 * sums_of_side + 1) * sizeof *top);
    if (!top) return KV_EMEMORY;
    double *bottom = top + sums_of_side;
    for (uint32_t l = 0; l < in->n_layers; l++) {
        const size_t row = (size_t)l * n_blocks;
        sum_block(in->layers[l].token_delta2, ends, n_blocks, top + row);
        sum_block(in->layers[l].token_exact2, ends, n_blocks, bottom + row);
    }
    const struct kv_block_sums sums = {n_blocks, in->n_layers, top, bottom, true};
    const int status = kv_bootstrap(&sums, in->seed, &out->output_error_low,
                                    &out->output_error_high);
    free(top);
    return status;
}

static int pool_intervals(struct kv_pooled *out, const struct kv_pool_input *in)
{
    const uint32_t n = in->n_layers ? in->layers->n_scored : 0;
    out->output_error_low = out->output_error_high = NAN;
    if (!n) return KV_OK;
    uint32_t *run_items = malloc(2 * (size_t)n * sizeof *run_items);
    if (!run_items) return KV_EMEMORY;
    const uint32_t n_runs = cut_runs_at_gaps(in->scored, n, run_items);
    const uint32_t n_blocks = kv_cut_blocks(run_items, n_runs, run_items + n);
    const int status = output_interval(out, in, run_items + n, n_blocks);
    free(run_items);
    return status;
}

int kv_pool_measures(struct kv_pooled *out, const struct kv_pool_input *in)
{
    *out = (struct kv_pooled){0};
    pool_means(out, in);
    const int status = pool_intervals(out, in);
    return status == KV_OK ? kv_pool_probes(out, in) : status;
}
