/* From a cell's answers to its measures and digests. */
#ifndef KVBENCH_HARNESS_MEASURE_JOB_H
#define KVBENCH_HARNESS_MEASURE_JOB_H

#include "harness/run/group_run.h"

void kv_job_measure(struct kv_job *job, const struct kv_group_run *group);

#endif
