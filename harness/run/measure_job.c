/* What a cell's answers are worth; see measure_job.h. */
#include "harness/run/measure_job.h"

#include <xxhash.h>

#include "harness/base/clock.h"
#include "harness/run/job.h"

static void measure(struct kv_job *job, const struct kv_open_layer *layer,
                    const struct kv_answer_arrays *answers, struct kv_layer_part *part)
{
    const struct kv_trace_run *run = layer->run;
    const struct kv_layer *read = layer->reader;
    struct kv_gradient_view label = {read->label.tensor, read->label.unit}, fisher[64];
    const uint32_t n_fisher = run->trace->n_fisher < 64 ? run->trace->n_fisher : 64;
    for (uint32_t s = 0; read->fisher && s < n_fisher; s++)
        fisher[s] = (struct kv_gradient_view){read->fisher[s].tensor, read->fisher[s].unit};
    bool reads_all = !job->spec->caches[0].answer;   /* without rows nothing is known of masses */
    for (uint32_t c = 0; c < job->spec->n_caches; c++)
        for (uint32_t p = 0; p < job->spec->caches[c].n_policies; p++) {
            const struct kv_policy *policy = job->spec->caches[c].policies[p]->policy;
            reads_all = reads_all && !policy->score && !policy->select;
        }
    const struct kv_replay_account *account = &part->account;
    const struct kv_measured measured = {
        .geometry = &read->info->geometry, .n_scored = run->n_scored, .scored = run->scored,
        .exact = layer->reference->outputs, .answer = answers->outputs,
        .divergence = answers->divergence, .held_mass = answers->held_mass,
        .drift = answers->drift, .exact_log_sum_exp = layer->reference->log_sum_exp,
        .reads_all = reads_all, .n_spans = run->n_spans, .span_exact = layer->reference->span_mass,
        .span_answer = answers->span_mass, .w_o = read->w_o, .hidden = read->hidden,
        .exact_projected2 = layer->reference->projected2, .x2 = read->x2,
        .attn_post_norm = read->info->attn_post_norm, .n_windows = run->trace->n_windows,
        .windows = (const uint32_t (*)[2])run->trace->windows,
        .label = read->label.tensor.data ? &label : NULL,
        .n_fisher = read->fisher ? n_fisher : 0, .fisher = fisher,
        .key_error2 = account->key_error2, .key_norm2 = account->key_norm2,
        .value_error2 = account->value_error2, .value_norm2 = account->value_norm2};
    const double start = kv_clock_seconds();
    if (kv_measure_layer(&part->measures, &measured) != KV_OK)
        job->status = kv_fail(&job->error, KV_EMEMORY, "out of memory for measures");
    part->measured = job->status == KV_OK;
    job->cell->measure_seconds += kv_clock_seconds() - start;
}

void kv_job_measure(struct kv_job *job, const struct kv_group_run *group)
{
    for (uint32_t m = 0; m < group->n; m++) {
        const struct kv_open_layer *layer = &group->layers[m];
        struct kv_layer_part *part = &job->parts[layer->l];
        const struct kv_geometry *geometry = &layer->reader->info->geometry;
        if (!layer->answered) continue;
        if (job->status == KV_OK) {
            job->digests[layer->l] = XXH3_64bits(
                job->answers[m].outputs, (size_t)geometry->q_heads * group->run->n_scored *
                                             geometry->value_dim * sizeof(float));
            measure(job, layer, &job->answers[m], part);
        }
        if (part->reads_shared) part->account = (struct kv_replay_account){0};
    }
}
