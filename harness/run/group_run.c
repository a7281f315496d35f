/* The layers of a group; see group_run.h. */
#include "harness/run/group_run.h"

#include <stdlib.h>

#include "harness/base/clock.h"
#include "harness/run/answers.h"
#include "harness/run/job.h"
#include "harness/run/tasks.h"

static void note_reference(struct kv_trace_summary *summary, const struct kv_reference *reference)
{
    summary->reference_seconds += reference->seconds;
    summary->reference_cached &= reference->from_disk;
    if (summary->audit_bound == 0.0 || reference->worst_deviation * summary->audit_bound >
                                           summary->audit_deviation * reference->worst_bound)
        summary->audit_deviation = reference->worst_deviation,
        summary->audit_bound = reference->worst_bound;
}

/* What is held while the jobs of a group run. */
static void note_memory(const struct kv_group_run *group)
{
    const struct kv_trace_run *run = group->run;
    uint64_t layers = kv_open_layer_ahead(group->layers), reference = 0, answers = 0;
    for (uint32_t m = 0; m < group->n; m++) {
        const struct kv_open_layer *layer = &group->layers[m];
        const struct kv_geometry *geometry = &layer->reader->info->geometry;
        layers += kv_layer_bytes(layer->reader->info);
        if (layer->owner != layer->reader) layers += kv_layer_bytes(layer->owner->info);
        reference += layer->reference->bytes;
        if (layer->answered)
            answers += kv_answers_at_once(run, geometry->kv_heads, group->n_jobs) * kv_answer_bytes(geometry, run);
    }
    kv_profile_note(run->profile, KV_MEMORY_LAYERS, layers);
    kv_profile_note(run->profile, KV_MEMORY_REFERENCE, reference);
    kv_profile_note(run->profile, KV_MEMORY_ANSWERS, answers);
}

static int replay_group(struct kv_group_run *group, struct kv_error *err)
{
    note_memory(group);
    for (uint32_t j = 0; j < group->n_jobs; j++) {
        struct kv_job *job = group->jobs[j];
        for (uint32_t m = 0; m < group->n; m++) {
            struct kv_open_layer *layer = &group->layers[m];
            if (!layer->answered) continue;
            job->parts[layer->l].info = &group->run->trace->layers[group->run->layers[layer->l]];
            job->parts[layer->l].reads_shared = layer->owner != layer->reader;
        }
    }
    double start = kv_clock_seconds();
    const int status = kv_tasks_run(group, err);
    kv_answers_free(group);
    kv_trace_run_spend(group->run, KV_STAGE_REPLAY, &start);
    return status;
}

int kv_group_run_layers(struct kv_trace_run *run, struct kv_job **jobs, uint32_t n_jobs,
                     const struct kv_layer_group *of, struct kv_error *err)
{
    struct kv_group_run group = {.run = run, .jobs = jobs, .n_jobs = n_jobs, .wants = kv_jobs_want(jobs, n_jobs),
                              .layers = calloc(of->n, sizeof *group.layers),
                              .spare = calloc(n_jobs, sizeof *group.spare)};
    int status = group.layers && group.spare ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for layers");
    const uint32_t after = run->next_layer;
    run->n_together = n_jobs;
    for (; status == KV_OK && group.n < of->n; group.n++) {
        struct kv_open_layer *layer = &group.layers[group.n];
        run->next_layer = group.n + 1 < of->n ? of->layers[group.n + 1] : after;
        status = kv_open_layer_open(layer, run, of->layers[group.n], jobs[0]->spec, &group.wants, err);
        layer->answered = !of->reads_shared || group.n == of->reader;
    }
    if (status == KV_OK) status = replay_group(&group, err);
    for (uint32_t m = 0; m < group.n; m++) {
        if (status == KV_OK && group.layers[m].answered)
            note_reference(run->summary, group.layers[m].reference);
        kv_open_layer_close(&group.layers[m]);
    }
    free(group.layers);
    free(group.spare);
    return status;
}
