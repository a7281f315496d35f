/* Rows of a cell; see cell_row.h. */
#include "harness/run/cell_row.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/replay/layout.h"
#include "harness/replay/question.h"
#include "harness/output/row.h"
#include "methods/spec/spec_wants.h"

void kv_account_add(struct kv_replay_account *sum, const struct kv_replay_account *one)
{
    for (int side = 0; side < 2; side++) {
        sum->bytes.payload[side] += one->bytes.payload[side];
        sum->bytes.metadata[side] += one->bytes.metadata[side];
        sum->bytes.residual[side] += one->bytes.residual[side];
        sum->bytes.basis[side] += one->bytes.basis[side];
        sum->bytes.offloaded[side] += one->bytes.offloaded[side];
    }
    sum->bytes.joint |= one->bytes.joint;
    sum->bytes.calibrated |= one->bytes.calibrated;
    sum->policy_bytes += one->policy_bytes;
    sum->shared_basis += one->shared_basis;
    if (one->workspace_bytes > sum->workspace_bytes) sum->workspace_bytes = one->workspace_bytes;
    if (one->allocated_bytes > sum->allocated_bytes) sum->allocated_bytes = one->allocated_bytes;
    sum->read_bytes += one->read_bytes;
    sum->offloaded_read_bytes += one->offloaded_read_bytes;
    sum->held_rows += one->held_rows;
    sum->settled_rows += one->settled_rows;
    sum->coded_rows += one->coded_rows;
    sum->key_error2 += one->key_error2, sum->key_norm2 += one->key_norm2;
    sum->value_error2 += one->value_error2, sum->value_norm2 += one->value_norm2;
}

static int name_row(struct kv_row *row, const struct kv_cell_facts *facts, const char *layer)
{
    const struct kv_trace_summary *trace = facts->summary;
    row->seed = (int64_t)facts->seed;
    row->tokens = trace->tokens, row->prefill_length = trace->prefill;
    if (kv_text_set(&row->trace, "%s", trace->name) != KV_OK ||
        kv_text_set(&row->trace_hash, "%s%s", trace->hash, trace->verified ? "" : "!") != KV_OK ||
        kv_text_set(&row->model, "%s", trace->model) != KV_OK ||
        kv_text_set(&row->method, "%s", facts->spec->text) != KV_OK ||
        kv_text_set(&row->family, "%s", facts->spec->family) != KV_OK ||
        kv_text_set(&row->layer, "%s", layer) != KV_OK || kv_text_set(&row->isa, "%s", facts->isa) != KV_OK)
        return KV_EMEMORY;
    return KV_OK;
}

int kv_cell_name(struct kv_cell *cell, const struct kv_cell_facts *facts)
{
    return name_row(&cell->row, facts, "all");
}

struct elements { double key, value; uint64_t lanes; };

/* Elements are the recorded ones; lanes, what the spec's caches have. */
static struct elements elements_of(const struct kv_layer_part *part, const struct kv_spec *spec)
{
    const struct kv_geometry *geometry = &part->info->geometry;
    const double rows = part->reads_shared ? 0.0 : (double)geometry->kv_heads * geometry->tokens;
    const double values = geometry->values_in_keys ? 0.0 : rows * geometry->value_dim;
    const uint32_t lanes = kv_layout_lanes(spec, part->info);
    return (struct elements){rows * geometry->key_dim, values, part->reads_shared ? 0 : lanes};
}

static double ratio_or_empty(double over, double under) { return under > 0.0 ? over / under : NAN; }

static void fill_bytes(struct kv_row *row, const struct kv_replay_account *account,
                       const struct elements *elements, uint32_t element_bits, uint32_t steps)
{
    const struct kv_cache_bytes *bytes = &account->bytes;
    int64_t side[2];
    for (int s = 0; s < 2; s++)
        side[s] = kv_side_bytes(bytes, s);
    row->payload_bytes = bytes->payload[0] + bytes->payload[1];
    row->metadata_bytes = bytes->metadata[0] + bytes->metadata[1] + account->policy_bytes;
    row->residual_bytes = bytes->residual[0] + bytes->residual[1];
    row->basis_bytes = bytes->basis[0] + bytes->basis[1] + account->shared_basis;
    row->resident_bytes = side[0] + side[1] + account->policy_bytes;
    row->workspace_bytes = account->workspace_bytes;
    row->bits_per_element =
        ratio_or_empty(8.0 * (double)row->resident_bytes, elements->key + elements->value);
    if (!bytes->joint) {
        row->bits_key = ratio_or_empty(8.0 * (double)side[0], elements->key);
        row->bits_value = ratio_or_empty(8.0 * (double)side[1], elements->value);
    }
    row->compression_ratio = row->resident_bytes > 0 ? element_bits / row->bits_per_element : NAN;
    row->read_bytes_per_step = account->read_bytes / steps;
    row->offloaded_bytes = bytes->offloaded[0] + bytes->offloaded[1];
    row->offloaded_read_bytes_per_step = account->offloaded_read_bytes / steps;
    /* A method without rows holds none, and an evictor one at least. */
    if (account->held_rows)
        row->kept_tokens = ratio_or_empty((double)account->held_rows, (double)elements->lanes);
}

static int fill_measures(struct kv_row *row, const struct kv_pooled *pooled, bool full)
{
    if (full) row->dkl_seq = pooled->dkl_seq;
    row->dkl = pooled->dkl, row->dkl_low = pooled->dkl_low, row->dkl_high = pooled->dkl_high;
    row->dkl_p99 = pooled->dkl_p99, row->dkl_max = pooled->dkl_max;
    row->dnll1 = pooled->dnll1, row->ppl_est = pooled->ppl_est;
    row->output_error = pooled->output_error;
    row->output_error_low = pooled->output_error_low, row->output_error_high = pooled->output_error_high;
    row->residual_error = pooled->residual_error, row->wo_error = pooled->wo_error;
    row->attention_kl = pooled->attention_kl, row->mass_drift = pooled->mass_drift;
    row->lost_mass = pooled->lost_mass, row->span_retention = pooled->span_retention;
    row->error_p50 = pooled->error_p50, row->error_p95 = pooled->error_p95;
    row->error_p99 = pooled->error_p99, row->error_max = pooled->error_max;
    row->key_error = pooled->key_error, row->value_error = pooled->value_error;
    return kv_text_set(&row->validity, "%s", pooled->validity ? pooled->validity : "");
}

static int fill_flags(struct kv_row *row, const struct kv_cell_facts *facts,
                      const struct kv_replay_account *account)
{
    const struct kv_spec *spec = facts->spec;
    const struct kv_wants wants = kv_spec_wants(spec);
    const bool oracle = spec->oracle || wants.future, probed = wants.fisher || wants.label;
    bool selects = false, policies = false;
    for (uint32_t c = 0; c < spec->n_caches; c++) {
        selects |= kv_cache_selects(&spec->caches[c]);
        policies |= spec->caches[c].n_policies > 0;
    }
    char flags[256] = "open-loop";
    if (oracle) strcat(flags, " oracle");
    if (spec->random) strcat(flags, " random");
    if (selects) strcat(flags, " saves-reads");
    if (facts->trace->question_start < facts->trace->prefill && (spec->query_agnostic || policies))
        strcat(flags, spec->query_agnostic ? " query-agnostic" : " query-aware");
    /* Nothing became smaller: a budget above the length, a window that held everything. */
    if (row->compression_ratio <= 1.0 && strcmp(spec->family, "exact") != 0 && !selects)
        strcat(flags, " inactive");
    if (!facts->summary->has_probes) strcat(flags, " no-gradients");
    if (!facts->summary->verified) strcat(flags, " not-verified");
    if (kv_text_set(&row->flags, "%s", flags) != KV_OK) return KV_EMEMORY;
    return kv_text_set(&row->calibration, "%s",
                       oracle || probed ? "oracle"
                                                : account->bytes.calibrated ? facts->calibrated_as
                                                : row->basis_bytes > 0   ? "online"
                                                                         : "none");
}

/* Names the layers that share objects, of layer l or (l = UINT32_MAX) of all. */
static int flag_groups(struct kv_row *row, const struct kv_cell_facts *facts, uint32_t l)
{
    const struct kv_layer_groups *groups = facts->groups;
    const char *join = " joined:";
    for (uint32_t g = 0; groups && g < groups->n; g++) {
        const struct kv_layer_group *group = &groups->groups[g];
        bool wanted = l == UINT32_MAX && !group->reads_shared;
        for (uint32_t m = 0; m < group->n; m++) wanted |= group->layers[m] == l;
        for (uint32_t m = 0; wanted && group->n > 1 && m < group->n; m++, join = m < group->n ? "+" : "/")
            if (kv_text_set(&row->flags, "%s%s%u", row->flags, join,
                            facts->parts[group->layers[m]].info->index) != KV_OK)
                return KV_EMEMORY;
    }
    return KV_OK;
}

/* A basis of all texts is no memory of one text; a reader who has but this text finds here what it
 * costs him. */
static int flag_shared_basis(struct kv_row *row, const struct kv_replay_account *account,
                             const struct elements *elements)
{
    if (account->shared_basis == 0) return KV_OK;
    const double bits = 8.0 * (double)(row->resident_bytes + account->shared_basis);
    return kv_text_set(&row->flags, "%s shared-basis:%" PRId64 " amortised-bits:%.6g", row->flags,
                       account->shared_basis, bits / (elements->key + elements->value));
}

/* Ratios are of what stays on the device; here is what all of it comes to. */
static int flag_offloaded(struct kv_row *row, const struct elements *elements)
{
    if (row->offloaded_bytes == 0) return KV_OK;
    const double bits = 8.0 * (double)(row->resident_bytes + row->offloaded_bytes);
    return kv_text_set(&row->flags, "%s offloaded bits-with-host:%.6g", row->flags,
                       bits / (elements->key + elements->value));
}

static int pool(struct kv_pooled *pooled, const struct kv_cell_facts *facts,
                const struct kv_layer_measures *layers, uint32_t n)
{
    const struct kv_trace *trace = facts->trace;
    const struct kv_pool_input input = {
        .n_layers = n, .layers = layers, .n_windows = trace->n_windows,
        .windows = (const uint32_t (*)[2])trace->windows, .scored = facts->scored, .nll = trace->nll,
        .tokens = trace->tokens, .seed = facts->seed};
    return kv_pool_measures(pooled, &input);
}

static int fill_row(struct kv_row *row, const struct kv_cell_facts *facts, uint32_t l,
                    const struct kv_replay_account *account, const struct elements *elements,
                    const struct kv_pooled *pooled)
{
    char layer[16] = "all";
    if (l != UINT32_MAX) snprintf(layer, sizeof layer, "%u", facts->parts[l].info->index);
    row->scored_queries = facts->n_scored;
    fill_bytes(row, account, elements, facts->summary->element_bits,
               facts->trace->tokens - kv_question_prefill(facts->spec, facts->trace->question_start,
                                                          facts->trace->prefill));
    if (name_row(row, facts, layer) != KV_OK || fill_measures(row, pooled, facts->full_metrics) != KV_OK ||
        fill_flags(row, facts, account) != KV_OK || flag_groups(row, facts, l) != KV_OK ||
        flag_shared_basis(row, account, elements) != KV_OK || flag_offloaded(row, elements) != KV_OK)
        return KV_EMEMORY;
    return kv_text_set(&row->status, "ok");
}

static int fill_layer(struct kv_cell *cell, const struct kv_cell_facts *facts, uint32_t l)
{
    const struct kv_layer_part *part = &facts->parts[l];
    const struct elements elements = elements_of(part, facts->spec);
    struct kv_pooled pooled;
    kv_row_init(&cell->layers[l]);
    if (pool(&pooled, facts, &part->measures, 1) != KV_OK) return KV_EMEMORY;
    memcpy(cell->head_error + (size_t)l * cell->q_heads, part->measures.head_error,
           part->measures.q_heads * sizeof *cell->head_error);
    return fill_row(&cell->layers[l], facts, l, &part->account, &elements, &pooled);
}

static void fill_bins(struct kv_cell *cell, const struct kv_cell_facts *facts,
                      const struct kv_pooled *pooled)
{
    memcpy(cell->bin_error, pooled->bin_error, sizeof cell->bin_error);
    for (uint32_t b = 0; b < KV_DEPTH_BINS; b++) {
        const uint64_t end = (uint64_t)facts->n_scored * (b + 1) / KV_DEPTH_BINS;
        cell->bin_token[b] = end > 0 ? facts->scored[end - 1] : facts->scored[0];
    }
}

/* "2.5b" becomes "2.5b = 204": the rows a head that it came to, on the average over heads. */
static void note_settled(struct kv_cell *cell, double rows, double lanes)
{
    const size_t length = strlen(cell->asked_budget);
    if (rows > 0.0 && lanes > 0.0)
        snprintf(cell->asked_budget + length, sizeof cell->asked_budget - length, " = %.5g",
                 rows / lanes);
}

int kv_cell_fill(struct kv_cell *cell, const struct kv_cell_facts *facts, struct kv_error *err)
{
    struct kv_replay_account sum = {0};
    struct elements elements = {0};
    struct kv_layer_measures *measures = calloc(facts->n_layers, sizeof *measures);
    uint32_t q_heads = 0;
    for (uint32_t l = 0; l < facts->n_layers; l++)
        if (facts->parts[l].info->geometry.q_heads > q_heads)
            q_heads = facts->parts[l].info->geometry.q_heads;
    cell->q_heads = q_heads;
    cell->n_layers = facts->n_layers;
    cell->layers = calloc(facts->n_layers, sizeof *cell->layers);
    cell->head_error = calloc((size_t)facts->n_layers * q_heads, sizeof *cell->head_error);
    int status = measures && cell->layers && cell->head_error ? KV_OK : KV_EMEMORY;
    for (uint32_t l = 0; status == KV_OK && l < facts->n_layers; l++) {
        const struct elements own = elements_of(&facts->parts[l], facts->spec);
        measures[l] = facts->parts[l].measures;
        elements.key += own.key, elements.value += own.value, elements.lanes += own.lanes;
        kv_account_add(&sum, &facts->parts[l].account);
        status = fill_layer(cell, facts, l);
    }
    struct kv_pooled pooled;
    if (status == KV_OK) status = pool(&pooled, facts, measures, facts->n_layers);
    if (status == KV_OK) status = fill_row(&cell->row, facts, UINT32_MAX, &sum, &elements, &pooled);
    if (status == KV_OK) fill_bins(cell, facts, &pooled);
    cell->allocated_bytes = sum.allocated_bytes;
    note_settled(cell, (double)sum.settled_rows, (double)elements.lanes);
    cell->done = status == KV_OK;
    free(measures);
    return status == KV_OK ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for rows");
}

void kv_cell_failed(struct kv_cell *cell, int status, const struct kv_error *err)
{
    const char *name = status == KV_EUNSUPPORTED ? "unsupported"
                       : status == KV_ETIMEOUT   ? "timeout"
                       : status == KV_EMEMORY    ? "oom"
                       : status == KV_EINTERRUPTED || status == KV_ESKIPPED ? "skipped"
                                                 : "failed";
    kv_text_set(&cell->row.status, "%s", name);
    kv_text_set(&cell->row.reason, "%s", err->text);
    cell->done = status != KV_EINTERRUPTED;
}

int kv_mark_same_answers(struct kv_cell *cells, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++) {
            if (!cells[i].layers || !cells[j].layers) continue;
            if (cells[i].answer_digest != cells[j].answer_digest) continue;
            if (kv_text_set(&cells[i].row.flags, "%s same-as:%s", cells[i].row.flags,
                            cells[j].row.method) != KV_OK)
                return KV_EMEMORY;
            break;
        }
    return KV_OK;
}
