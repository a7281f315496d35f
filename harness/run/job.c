/* A cell under way; see job.h. */
#include "harness/run/job.h"

#include <stdlib.h>
#include <xxhash.h>

#include "harness/replay/layout.h"
#include "harness/replay/question.h"
#include "harness/run/layers/calibration.h"
#include "harness/run/layers/read_ahead.h"
#include "harness/run/trace_run.h"
#include "methods/spec/spec_wants.h"

struct kv_wants kv_jobs_want(struct kv_job *const *jobs, uint32_t n)
{
    struct kv_wants all = {0};
    for (uint32_t j = 0; j < n; j++) {
        const struct kv_wants one = kv_spec_wants(jobs[j]->spec);
        kv_wants_merge(&all, &one);
    }
    return all;
}

int kv_job_start(struct kv_trace_run *run, struct kv_job *job, struct kv_cell *cell,
                     const struct kv_spec *spec, uint64_t seed, struct kv_error *err)
{
    *job = (struct kv_job){.cell = cell, .spec = spec, .seed = seed};
    job->parts = calloc(run->n_layers, sizeof *job->parts);
    job->digests = calloc(run->n_layers, sizeof *job->digests);
    if (!job->parts || !job->digests) return kv_fail(err, KV_EMEMORY, "out of memory for a cell");
    job->status = kv_question_check(spec, run->trace->question_start, run->trace->prefill, &job->error);
    if (job->status == KV_OK)
        job->status = kv_layout_check_layers(spec, run->trace, run->layers, run->n_layers, &job->error);
    if (job->status == KV_OK)
        job->status = kv_layer_groups_form(&job->groups, run->trace, run->layers, run->n_layers, spec,
                                           &job->error);
    return KV_OK;
}

void kv_job_survey(const struct kv_trace_run *run, struct kv_job *job)
{
    if (job->status != KV_OK || !kv_survey_wanted(job->spec) || kv_trace_run_stopped(run)) return;
    kv_read_ahead_wait(run->ahead);
    job->status = kv_survey_take(&job->survey, job->spec, run->trace, run->layers, run->n_layers,
                                 run->kernels, &job->error);
}

int kv_job_finish(struct kv_trace_run *run, struct kv_job *job, struct kv_error *err)
{
    const struct kv_cell_facts facts = {
        .trace = run->trace, .summary = run->summary, .spec = job->spec, .isa = run->kernels->isa,
        .seed = job->seed, .n_scored = run->n_scored, .scored = run->scored,
        .n_layers = run->n_layers, .parts = job->parts, .groups = &job->groups,
        .full_metrics = run->request->full_metrics,
        .calibrated_as = run->calibration ? kv_calibration_kind(run->calibration) : NULL};
    int status = KV_OK;
    if (job->status == KV_OK) status = kv_cell_fill(job->cell, &facts, err);
    else {
        status = kv_cell_name(job->cell, &facts);
        kv_cell_failed(job->cell, job->status, &job->error);
    }
    job->cell->answer_digest = XXH3_64bits(job->digests, run->n_layers * sizeof *job->digests);
    job->cell->seconds = job->cell->replay_seconds + job->cell->measure_seconds;
    if (status == KV_OK && job->cell->done && run->request->finished)
        status = run->request->finished(run->request->context, job->cell, err);
    return status;
}

void kv_job_free(const struct kv_trace_run *run, struct kv_job *job)
{
    for (uint32_t l = 0; l < run->n_layers; l++) kv_layer_measures_free(&job->parts[l].measures);
    kv_layer_groups_free(&job->groups);
    kv_survey_free(&job->survey);
    free(job->parts);
    free(job->digests);
}
