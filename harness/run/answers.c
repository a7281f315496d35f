/* Arrays of answers; see answers.h. */
#include "harness/run/answers.h"

#include <stdlib.h>

size_t kv_answer_floats(const struct kv_geometry *geometry, const struct kv_trace_run *run)
{
    return (size_t)geometry->q_heads * run->n_scored * (geometry->value_dim + 4 + run->n_spans);
}

int kv_answers_reserve(struct kv_answer_arrays *answers, const struct kv_open_layer *layer)
{
    const struct kv_geometry *geometry = &layer->reader->info->geometry;
    const size_t rows = (size_t)geometry->q_heads * layer->run->n_scored;
    float *memory = calloc(kv_answer_floats(geometry, layer->run), sizeof *memory);
    *answers = (struct kv_answer_arrays){
        .outputs = memory, .log_sum_exp = memory + rows * geometry->value_dim};
    if (!memory) return KV_EMEMORY;
    answers->divergence = answers->log_sum_exp + rows;
    answers->held_mass = answers->divergence + rows;
    answers->drift = answers->held_mass + rows;
    answers->span_mass = answers->drift + rows;
    return KV_OK;
}
