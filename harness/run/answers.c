/* Arrays of answers; see answers.h. */
#include "harness/run/answers.h"

#include <stdlib.h>
#include <string.h>

#include "harness/base/large.h"
#include "harness/run/trace_run.h"

size_t kv_answer_bytes(const struct kv_geometry *geometry, const struct kv_trace_run *run)
{
    return (size_t)geometry->q_heads * run->n_scored * (geometry->value_dim + 4 + run->n_spans) * sizeof(float);
}

/* Heads come in turn, all cells of one before the next (tasks.c): where there is one, a cell is done with it
 * before the thread begins another. */
uint32_t kv_answers_at_once(const struct kv_trace_run *run, uint32_t kv_heads, uint32_t n)
{
    const uint32_t threads = (uint32_t)run->threads;
    return kv_heads == 1 && threads < n ? threads : n;
}

static int reserve_layer(struct kv_answer_arrays *answers, const struct kv_open_layer *layer)
{
    const struct kv_geometry *geometry = &layer->reader->info->geometry;
    const size_t rows = (size_t)geometry->q_heads * layer->run->n_scored;
    float *memory = answers->outputs ? answers->outputs : kv_large_alloc(kv_answer_bytes(geometry, layer->run));
    *answers = (struct kv_answer_arrays){
        .outputs = memory, .log_sum_exp = memory + rows * geometry->value_dim};
    if (!memory) return KV_EMEMORY;
    memset(memory, 0, kv_answer_bytes(geometry, layer->run));
    answers->divergence = answers->log_sum_exp + rows;
    answers->held_mass = answers->divergence + rows;
    answers->drift = answers->held_mass + rows;
    answers->span_mass = answers->drift + rows;
    return KV_OK;
}

void kv_answers_release(struct kv_job *job, struct kv_group_run *group)
{
    if (job->answers) group->spare[group->n_spare++] = job->answers;
    job->answers = NULL;
}

int kv_answers_reserve(struct kv_job *job, struct kv_group_run *group)
{
    job->answers = group->n_spare ? group->spare[--group->n_spare] : calloc(group->n, sizeof *job->answers);
    int status = job->answers ? KV_OK : KV_EMEMORY;
    for (uint32_t m = 0; status == KV_OK && m < group->n; m++)
        if (group->layers[m].answered) status = reserve_layer(&job->answers[m], &group->layers[m]);
    if (status == KV_OK) return KV_OK;
    kv_answers_release(job, group);
    return kv_fail(&job->error, KV_EMEMORY, "out of memory for answers");
}

void kv_answers_free(struct kv_group_run *group)
{
    for (; group->n_spare; group->n_spare--) {
        struct kv_answer_arrays *answers = group->spare[group->n_spare - 1];
        for (uint32_t m = 0; m < group->n; m++) free(answers[m].outputs);
        free(answers);
    }
}
