/* Cells that run together, layer by layer: they share the layers, the reference and the prompt's
 * statistics. */
#ifndef KVBENCH_HARNESS_BATCH_H
#define KVBENCH_HARNESS_BATCH_H

#include "harness/run/job.h"

/* How many cells of this trace run together. */
uint32_t kv_batch_size(const struct kv_trace_run *run);

/* Runs, finishes and frees started jobs. */
int kv_batch_run(struct kv_trace_run *run, struct kv_job *jobs, uint32_t n, struct kv_error *err);

#endif
