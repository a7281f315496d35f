/* Errors fall by 4x a bit (a uniform quantizer) and grow as tokens go (an evictor), with a
 * seeded jitter: close enough to real tables to judge layout by. */
#include "tests/unit/output_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/rng.h"
#include "harness/output/row.h"

/* Defaults, as they are printed. */
#define STEPS ":recent=0:recent_percent=0:when=step:pooled_heads=0"
#define RANDOM ":sinks=0:recent=0:recent_percent=50:when=step:pooled_heads=0"
#define H2O RANDOM ":prefill_score=sum:decay=1:reduce=sum:oracle=none"
#define SNAPKV ":sinks=0:recent=0:recent_percent=0:when=prefill:pooled_heads=0" \
               ":observation_window=64:kernel=5:pooling=mean"
#define TURBOQUANT ":rotation=auto:norm=raw:sketch=gaussian"

static const struct { const char *spec, *family, *flags; double bits, quality; } methods[] = {
    {"h2o:budget=0.2" H2O,
     "evictor", "", 3.23, 0.9},
    {"kivi:bits=2:group_size=32:residual_length=128", "quantizer", "", 4.68, 0.030},
    {"turboquant:bits=3:mode=mse" TURBOQUANT, "quantizer", "", 3.25, 0.020},
    {"f16", "exact", "", 16, 1e-7},
    {"kivi:bits=4:group_size=32:residual_length=128", "quantizer", "", 6.43, 0.0016},
    {"int:bits=4:axis=token:group_size=64", "quantizer", "", 5, 0.011},
    {"int:bits=8:axis=token:group_size=64", "quantizer", "", 9, 6e-5},
    {"q8_0", "quantizer", "", 8.5, 4e-5},
    {"q4_0", "quantizer", "", 4.5, 0.015},
    {"snapkv:budget=0.2" SNAPKV,
     "evictor", "", 3.2, 0.31},
    {"streaming:budget=0.2:sinks=4" STEPS, "evictor", "", 3.2, 1.4},
    {"window:budget=0.2:sinks=0" STEPS, "evictor",
     "same-as:streaming:budget=0.2:sinks=4" STEPS, 3.2, 1.4},
    {"quest:budget=0.2:page_size=8:dense_layers=2", "sparse reader", "saves-reads", 16.5, 0.05},
    {"random:budget=0.2" RANDOM, "evictor", "random", 3.2, 2.6},
    {"topk:budget=0.2", "sparse reader", "oracle, saves-reads", 16, 0.004},
    {"snapkv:budget=0.2" SNAPKV "+"
     "kivi:bits=2:group_size=32:residual_length=128",
     "hybrid", "", 1.1, 0.42},
    {"svd:rank=0.5", "low rank", "", 8.6, 0.07},
    {"turboquant:bits=2:mode=mse" TURBOQUANT, "quantizer", "", 2.25, 0.13},
    {"turboquant:bits=4:mode=mse" TURBOQUANT, "quantizer", "", 4.25, 0.0041},
    {"turboquant:bits=3:mode=prod" TURBOQUANT, "quantizer", "", 3.5, 0.029},
    {"turboquant:bits=4:mode=prod" TURBOQUANT, "quantizer", "", 4.5, 0.0064},
    {"f32", "exact", "", 32, 0},
    {"bf16", "exact", "", 16, 5e-6},
    {"int:bits=2:axis=token:group_size=64", "quantizer", "", 3, 1.9},
    {"int:bits=3:axis=token:group_size=64", "quantizer", "", 4, 0.16},
    {"int:bits=2:axis=channel:group_size=64", "quantizer", "", 3, 0.35},
    {"int:bits=3:axis=channel:group_size=64", "quantizer", "", 4, 0.05},
    {"int:bits=4:axis=channel:group_size=64", "quantizer", "", 5, 0.0084},
    {"int:bits=6:axis=token:group_size=64", "quantizer", "", 7, 0.0007},
    {"h2o:budget=0.5" H2O, "evictor", "", 8.05, 0.18},
    {"h2o:budget=0.1" H2O, "evictor", "", 1.62, 2.2},
    {"snapkv:budget=0.5" SNAPKV, "evictor", "", 8.0, 0.05},
    {"snapkv:budget=0.1" SNAPKV, "evictor", "", 1.6, 0.9},
    {"streaming:budget=0.5:sinks=4" STEPS, "evictor", "", 8.0, 0.5},
    {"random:budget=0.5" RANDOM, "evictor", "random", 8.0, 1.3},
    {"quest:budget=0.5:page_size=8:dense_layers=2", "sparse reader", "saves-reads", 16.5, 0.008},
    {"svd:rank=0.25", "low rank", "", 4.5, 0.6},
    {"svd:rank=0.5+int:bits=4:axis=token:group_size=64", "hybrid", "", 2.8, 0.09},
    {"h2o:budget=0.5" H2O "+turboquant:bits=4:mode=mse" TURBOQUANT, "hybrid", "",
     2.2, 0.2},
    {"snapkv:budget=0.5" SNAPKV "+turboquant:bits=3:mode=mse" TURBOQUANT,
     "hybrid", "", 1.75, 0.085},
};
enum { N_METHODS = sizeof methods / sizeof methods[0] };

static void set_bytes(struct kv_row *row, double bits)
{
    const double elements = 2.0 * 3 * 64 * 1024;
    row->bits_per_element = bits;
    row->bits_key = bits * 1.05;
    row->bits_value = bits * 0.95;
    row->compression_ratio = 16 / bits;
    row->resident_bytes = (int64_t)(bits * elements / 8);
    const bool exact = strcmp(row->family, "exact") == 0 || strcmp(row->family, "evictor") == 0;
    row->metadata_bytes = exact ? 0 : row->resident_bytes / 7;
    row->residual_bytes = strncmp(row->method, "kivi", 4) == 0 ? row->resident_bytes / 2 : 0;
    row->basis_bytes = strncmp(row->method, "svd", 3) == 0 ? row->resident_bytes / 5 : 0;
    row->payload_bytes =
        row->resident_bytes - row->metadata_bytes - row->residual_bytes - row->basis_bytes;
    row->workspace_bytes = 4096;
    row->read_bytes_per_step = row->resident_bytes * 0.87;
}

static void set_errors(struct kv_row *row, double dkl, bool probes)
{
    row->output_error = sqrt(dkl) * 0.6;
    row->output_error_low = row->output_error * 0.9;
    row->output_error_high = row->output_error * 1.13;
    row->wo_error = row->output_error * 0.93;
    row->attention_kl = dkl * 0.71;
    row->mass_drift = -dkl * 0.02;
    row->lost_mass = strcmp(row->family, "evictor") == 0 ? 0.11 : 0;
    row->error_p50 = row->output_error * 0.8;
    row->error_p95 = row->output_error * 1.9;
    row->error_p99 = row->output_error * 3.1;
    row->error_max = row->output_error * 7.7;
    row->key_error = row->output_error * 0.5;
    row->value_error = row->output_error * 0.4;
    if (!probes) return;
    row->dkl = dkl;
    row->dkl_low = dkl * 0.78;
    row->dkl_high = dkl * 1.31;
    row->dkl_p99 = dkl * 9.3;
    row->dkl_max = dkl * 31.7;
    row->dnll1 = dkl * (dkl < 0.01 ? -0.6 : 0.4);
    row->ppl_est = exp(2.851 + row->dnll1 + dkl);
    kv_text_set(&row->validity, dkl > 0.1 ? "low" : "ok");
}

static void set_identity(struct kv_row *row, const struct kv_trace_summary *trace, uint32_t m)
{
    kv_row_init(row);
    kv_text_set(&row->trace, "%s", trace->name);
    kv_text_set(&row->trace_hash, "%s", trace->hash);
    kv_text_set(&row->model, "%s", trace->model);
    kv_text_set(&row->method, "%s", methods[m].spec);
    kv_text_set(&row->family, "%s", methods[m].family);
    kv_text_set(&row->isa, "avx512");
    kv_text_set(&row->status, "ok");
    kv_text_set(&row->calibration, "none");
    kv_text_set(&row->flags, "open-loop%s%s", methods[m].flags[0] ? ", " : "", methods[m].flags);
    row->seed = 1;
    row->tokens = trace->tokens;
    row->prefill_length = trace->prefill;
    row->scored_queries = 9 * 256;
}

static void fill_layers(struct kv_cell *cell, const struct kv_trace_summary *trace, uint32_t m,
                        struct kv_rng *rng)
{
    cell->n_layers = trace->n_layers;
    cell->layers = calloc(trace->n_layers, sizeof *cell->layers);
    cell->q_heads = 9;
    cell->head_error = calloc((size_t)trace->n_layers * 9, sizeof(double));
    for (uint32_t l = 0; l < trace->n_layers; l++) {
        set_identity(&cell->layers[l], trace, m);
        kv_text_set(&cell->layers[l].layer, "%u", l * 30 / trace->n_layers);
        const double scale = exp(0.35 * kv_rng_normal(rng)) * (0.5 + (double)l / trace->n_layers);
        set_bytes(&cell->layers[l], methods[m].bits);
        set_errors(&cell->layers[l], methods[m].quality * scale * scale, trace->has_probes);
        for (uint32_t h = 0; h < 9; h++) {
            cell->head_error[l * 9 + h] = cell->layers[l].output_error * (0.6 + 0.1 * h);
        }
    }
}

static void fill_cell(struct kv_cell *cell, const struct kv_trace_summary *trace, uint32_t m)
{
    struct kv_rng rng = kv_rng_stream(7, m, trace->tokens, 0);
    kv_cell_init(cell);
    set_identity(&cell->row, trace, m);
    kv_text_set(&cell->row.layer, "all");
    cell->done = true;
    if (m == 5) {
        kv_text_set(&cell->row.status, "timeout");
        kv_text_set(&cell->row.reason, "over 10 s, \"--timeout\" reached");
        return;
    }
    set_bytes(&cell->row, methods[m].bits);
    set_errors(&cell->row, methods[m].quality * exp(0.1 * kv_rng_normal(&rng)), trace->has_probes);
    fill_layers(cell, trace, m, &rng);
    const bool evicts = strstr(methods[m].spec, "budget") && methods[m].bits < 16;
    const double share = evicts ? strtod(strstr(methods[m].spec, "budget=") + 7, NULL) : 1;
    cell->row.kept_tokens = evicts ? floor(share * trace->prefill) : trace->tokens;
    if (evicts) {
        snprintf(cell->asked_budget, sizeof cell->asked_budget, "%.0f%% = %.0f", 100 * share,
                 floor(share * trace->prefill));
    }
    for (uint32_t b = 0; b < KV_DEPTH_BINS; b++) {
        cell->bin_token[b] = trace->prefill + (b + 1) * (trace->tokens - trace->prefill) / KV_DEPTH_BINS - 1;
        cell->bin_error[b] = cell->row.output_error * (evicts ? 0.6 + 0.05 * b : 0.9 + 0.01 * b)
                           * exp(0.05 * kv_rng_normal(&rng));
    }
    cell->answer_digest = m == 11 ? 11 : 1 + m;
    cell->seconds = 0.01 * (1 + m);
    cell->replay_seconds = 0.007 * (1 + m);
    cell->measure_seconds = 0.003 * (1 + m);
    cell->allocated_bytes = cell->row.resident_bytes + 123456;
}

static void fill_trace(struct kv_trace_summary *trace, const char *name, uint32_t n_layers, bool probes)
{
    kv_text_set(&trace->name, "%s", name);
    kv_text_set(&trace->path, "traces/data/%s.h5", name);
    kv_text_set(&trace->hash, "%016llx", 0x3a91c07be5d20f64ull + (unsigned long long)strlen(name));
    kv_text_set(&trace->model, "SmolLM2-135M-Instruct");
    kv_text_set(&trace->text, "%s, public domain", name);
    trace->tokens = probes ? 1024 : 768;
    trace->prefill = probes ? 768 : 512;
    trace->n_layers = n_layers;
    trace->model_layers = 30;
    trace->n_windows = probes ? 2 : 0;
    trace->window_tokens = probes ? 64 : 0;
    trace->n_fisher = probes ? 2 : 0;
    trace->element_bits = 16;
    trace->verified = true;
    trace->has_probes = probes;
    trace->has_w_o = true;
    trace->audit_deviation = 1.31e-7;
    trace->audit_bound = 2.4e-6;
}

struct kv_results *output_fixture(uint32_t n_specs, uint32_t n_layers, bool probes_everywhere)
{
    struct kv_results *results = calloc(1, sizeof *results);
    if (n_specs > N_METHODS) n_specs = N_METHODS;
    results->n_traces = 2;
    results->traces = calloc(2, sizeof *results->traces);
    fill_trace(&results->traces[0], "smollm2-prose", n_layers, true);
    fill_trace(&results->traces[1], "smollm2-code", n_layers, probes_everywhere);
    results->n_cells = 2 * n_specs;
    results->cells = calloc(results->n_cells, sizeof *results->cells);
    results->n_specs = n_specs;
    results->specs = calloc(n_specs, sizeof *results->specs);
    for (uint32_t s = 0; s < n_specs; s++) {
        kv_text_set(&results->specs[s], "%s", methods[s].spec);
        fill_cell(&results->cells[s], &results->traces[0], s);
        fill_cell(&results->cells[n_specs + s], &results->traces[1], s);
    }
    kv_text_set(&results->command, "kvbench --methods h2o,kivi,turboquant");
    results->isa = "avx512";
    results->compiler = "gcc 12.2.0";
    results->version = "0.1.0";
    results->cpu = "a cpu";
    snprintf(results->code_version, sizeof results->code_version, "0.1.0-3a1b2c3");
    results->threads = 2;
    results->seed = 1;
    results->wall_seconds = 0.91;
    return results;
}

void output_fixture_free(struct kv_results *results)
{
    kv_results_free(results);
    free(results);
}
