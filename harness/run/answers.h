/* Arrays of cells' answers to the layers at hand. A cell holds them from its first head to its last. */
#ifndef KVBENCH_HARNESS_ANSWERS_H
#define KVBENCH_HARNESS_ANSWERS_H

#include "harness/run/group_run.h"

/* Of one cell's answers to a layer. */
size_t kv_answer_bytes(const struct kv_geometry *geometry, const struct kv_trace_run *run);

/* How many of n cells that run together hold answers to a layer of so many KV heads at once. */
uint32_t kv_answers_at_once(const struct kv_trace_run *run, uint32_t kv_heads, uint32_t n);

/* A job's answers to the layers of a group, zeros; a lack of memory is its status. What a job releases the next one
 * takes; one caller at a time. */
int kv_answers_reserve(struct kv_job *job, struct kv_group_run *group);
void kv_answers_release(struct kv_job *job, struct kv_group_run *group);
/* What is left of the group's when all are done. */
void kv_answers_free(struct kv_group_run *group);

#endif
