/* One trace through all specs; see trace_run.h. */
#include "harness/run/trace_run.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/clock.h"
#include "harness/replay/question.h"
#include "harness/run/batch.h"
#include "harness/run/cell_row.h"
#include "harness/run/job.h"
#include "harness/run/layers/calibration.h"
#include "harness/run/layers/open_layer.h"
#include "harness/run/layers/read_ahead.h"
#include "harness/run/scored.h"

#define SMALL_LAYER (UINT64_C(4) << 20)     /* bytes; its methods' memory is not worth giving back */

void kv_trace_run_spend(struct kv_trace_run *run, enum kv_stage_of_run stage, double *start)
{
    const double now = kv_clock_seconds();
    run->profile->seconds[stage] += now - *start;
    *start = now;
}

void kv_trace_run_drop_held(struct kv_trace_run *run)
{
    kv_layer_free(run->held);
    kv_reference_free(run->held_reference);
    run->held = NULL, run->held_reference = NULL;
}

struct kv_spans kv_trace_run_spans(const struct kv_trace_run *run)
{
    return (struct kv_spans){.n = run->n_spans, .range = (const uint32_t (*)[2])run->spans};
}

unsigned kv_trace_run_flags(const struct kv_trace_run *run)
{
    return run->request->no_verify ? KV_NO_VERIFY : 0;
}

bool kv_trace_run_stopped(const struct kv_trace_run *run)
{
    return run->request->stop && *run->request->stop;
}

uint32_t kv_spec_seeds(const struct kv_run_request *request, const struct kv_spec *spec)
{
    return spec->random && request->seeds > 1 ? request->seeds : 1;
}

static void note_budget(struct kv_cell *cell, const struct kv_spec *spec, uint32_t prompt)
{
    for (uint32_t c = 0; c < spec->n_caches; c++)
        for (uint32_t p = 0; p < spec->caches[c].n_policies; p++) {
            const struct kv_stage *stage = spec->caches[c].policies[p];
            if (!stage->policy->score || cell->asked_budget[0]) continue;
            const struct kv_budget budget = stage->trim.budget;
            char text[64];
            kv_budget_print(text, &budget);
            if (budget.share > 0.0)
                snprintf(cell->asked_budget, sizeof cell->asked_budget, "%g%% = %u",
                         100.0 * budget.share, kv_budget_tokens(budget, prompt));
            else snprintf(cell->asked_budget, sizeof cell->asked_budget, "%.31s", text);
        }
}

static int run_cells(struct kv_trace_run *run, struct kv_error *err)
{
    const uint32_t limit = kv_batch_size(run);
    struct kv_job *jobs = calloc(limit, sizeof *jobs);
    if (!jobs) return kv_fail(err, KV_EMEMORY, "out of memory for cells");
    uint32_t n = 0, at = 0;
    int status = KV_OK;
    for (uint32_t s = 0; s < run->request->specs->n; s++) {
        const struct kv_spec *spec = &run->request->specs->specs[s];
        for (uint32_t k = 0; k < kv_spec_seeds(run->request, spec); k++) {
            struct kv_cell *cell = &run->cells[at++];
            const uint64_t seed = run->request->seed + k;
            const struct kv_cell_facts facts = {.summary = run->summary, .spec = spec,
                                                .isa = run->kernels->isa, .seed = seed};
            if (status == KV_OK && kv_cell_name(cell, &facts) != KV_OK)
                status = kv_fail(err, KV_EMEMORY, "out of memory for rows");
            note_budget(cell, spec, kv_question_prefill(spec, run->trace->question_start, run->trace->prefill));
            if (status != KV_OK || kv_trace_run_stopped(run)) {
                const struct kv_error why = {"interrupted"};
                kv_cell_failed(cell, KV_EINTERRUPTED, &why);
                continue;
            }
            if (run->request->restore && run->request->restore(run->request->context, cell)) {
                run->n_done++;
                continue;
            }
            status = kv_job_start(run, &jobs[n++], cell, spec, seed, err);
            if (status == KV_OK && n == limit) status = kv_batch_run(run, jobs, n, err), n = 0;
        }
    }
    if (status == KV_OK && n > 0) status = kv_batch_run(run, jobs, n, err);
    free(jobs);
    if (status == KV_OK && kv_mark_same_answers(run->cells, run->n_cells) != KV_OK)
        status = kv_fail(err, KV_EMEMORY, "out of memory for flags");
    return status;
}

int kv_check_layers(const struct kv_trace *trace, const struct kv_run_request *request, struct kv_error *err)
{
    for (uint32_t w = 0; w < request->n_layers; w++)
        if (kv_trace_find_layer(trace, request->layers[w]) == trace->n_layers)
            return kv_fail(err, KV_EUSAGE, "%s: --layers %u: expected a recorded layer, found none of that index",
                           trace->path, request->layers[w]);
    return KV_OK;
}

static int choose_layers(struct kv_trace_run *run, struct kv_error *err)
{
    const struct kv_run_request *request = run->request;
    run->layers = calloc(run->trace->n_layers, sizeof *run->layers);
    run->audited = calloc(run->trace->n_layers, sizeof *run->audited);
    run->scored = calloc(run->trace->tokens, sizeof *run->scored);
    if (!run->layers || !run->audited || !run->scored) return kv_fail(err, KV_EMEMORY, "out of memory for a trace");
    int status = kv_check_layers(run->trace, request, err);
    if (status != KV_OK) return status;
    for (uint32_t i = 0; i < run->trace->n_layers; i++) {
        bool wanted = request->n_layers == 0;
        for (uint32_t w = 0; w < request->n_layers; w++)
            wanted |= request->layers[w] == run->trace->layers[i].index;
        if (wanted) run->layers[run->n_layers++] = i;
    }
    run->n_scored = kv_choose_scored(run->trace->prefill, run->trace->tokens, request->queries, run->scored);
    if (!run->calibration) return KV_OK;
    status = kv_calibration_enter(run->calibration, run->trace, err);
    if (status == KV_OK) run->n_scored = kv_calibration_spare(run->calibration, run->scored, run->n_scored);
    if (status == KV_OK && !run->n_scored)
        return kv_fail(err, KV_EUSAGE, "%s: --calibrate %s: expected decode steps left to score, found none",
                       run->trace->path, request->calibrate);
    return status;
}

static int list_spans(struct kv_trace_run *run, struct kv_error *err)
{
    uint32_t n = 0;
    for (uint32_t s = 0; s < run->trace->n_spans; s++) n += run->trace->spans[s].n;
    run->spans = calloc(n ? n : 1, sizeof *run->spans);
    if (!run->spans) return kv_fail(err, KV_EMEMORY, "out of memory for spans");
    for (uint32_t s = 0; s < run->trace->n_spans; s++)
        for (uint32_t i = 0; i < run->trace->spans[s].n; i++, run->n_spans++)
            memcpy(run->spans[run->n_spans], run->trace->spans[s].range[i], sizeof *run->spans);
    return KV_OK;
}

static char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const size_t length = strlen(name);
    return strndup(name, length > 3 && strcmp(name + length - 3, ".h5") == 0 ? length - 3 : length);
}

static int summarise(struct kv_trace_run *run, struct kv_error *err)
{
    const struct kv_trace *trace = run->trace;
    struct kv_trace_summary *summary = run->summary;
    *summary = (struct kv_trace_summary){
        .name = base_name(trace->path), .path = strdup(trace->path), .hash = strdup(trace->content_hash),
        .model = strdup(trace->model), .text = strdup(trace->text), .tokens = trace->tokens,
        .prefill = trace->prefill, .n_layers = run->n_layers, .model_layers = trace->model_layers,
        .n_windows = trace->n_windows, .window_tokens = trace->window_tokens,
        .n_fisher = trace->n_fisher, .element_bits = trace->layers[run->layers[0]].geometry.element_bits,
        .verified = trace->verified, .reference_cached = true};
    summary->has_probes = trace->n_windows > 0 && trace->n_fisher > 0;
    summary->has_label = trace->n_windows > 0 && trace->has_label;
    summary->has_spans = trace->n_spans > 0;
    summary->has_w_o = summary->has_x2 = summary->no_post_norm = true;
    for (uint32_t l = 0; l < run->n_layers; l++) {
        summary->has_w_o &= trace->layers[run->layers[l]].has_w_o;
        summary->has_x2 &= trace->layers[run->layers[l]].has_x2;
        summary->no_post_norm &= !trace->layers[run->layers[l]].attn_post_norm;
        summary->has_label = summary->has_label && trace->layers[run->layers[l]].has_gradients;
        summary->has_probes = summary->has_probes && trace->layers[run->layers[l]].has_gradients;
    }
    if (summary->name && summary->path && summary->hash && summary->model && summary->text) return KV_OK;
    return kv_fail(err, KV_EMEMORY, "out of memory for a trace");
}

/* Blocks that one method needs and the next one does not go back to the system at once. By itself glibc
 * raises this size to 32 MiB as it sees blocks go, and then keeps what fits nowhere: 9 MiB of a comparison
 * of 20 methods over 6 MiB a layer, 44 of eight over 100. It costs time in pages: 2 to 4 % there, 12 % of a
 * run over layers of 2 MiB, which would save 3 MiB by it. */
static void give_memory_back(const struct kv_trace_run *run)
{
#ifdef M_MMAP_THRESHOLD
    uint64_t largest = 0;
    for (uint32_t l = 0; l < run->n_layers; l++) {
        const uint64_t bytes = kv_layer_bytes(&run->trace->layers[run->layers[l]]);
        if (bytes > largest) largest = bytes;
    }
    if (largest > SMALL_LAYER) mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

int kv_trace_run_path(struct kv_trace_run *run, const char *path, struct kv_error *err)
{
    double start = kv_clock_seconds();
    int status = kv_read_ahead_take_trace(run->ahead, &run->trace, path, kv_trace_run_flags(run), err);
    kv_trace_run_spend(run, KV_STAGE_OPEN, &start);
    if (status == KV_OK) status = choose_layers(run, err);
    if (status == KV_OK) give_memory_back(run);
    if (status == KV_OK) status = list_spans(run, err);
    if (status == KV_OK) status = summarise(run, err);
    if (status == KV_OK) status = run_cells(run, err);
    kv_trace_run_drop_held(run);
    free(run->layers);
    free(run->audited);
    free(run->scored);
    free(run->spans);
    kv_read_ahead_leave(run->ahead, run->trace);
    kv_trace_close(run->trace);
    return status;
}
