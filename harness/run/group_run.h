/* Jobs over the layers that one object may serve (mostly one layer), open at once. */
#ifndef KVBENCH_HARNESS_GROUP_RUN_H
#define KVBENCH_HARNESS_GROUP_RUN_H

#include "harness/run/job.h"
#include "harness/run/layers/open_layer.h"

struct kv_group_run {
    struct kv_trace_run *run;
    struct kv_open_layer *layers;
    uint32_t n, n_jobs;
    struct kv_job **jobs;
    struct kv_answer_arrays **spare;   /* [n_jobs] room for answers that a job is done with; n_spare of them */
    uint32_t n_spare;
    struct kv_wants wants;             /* what any of them wants to know of the prompt */
};

/* Opens the layers of a group and takes jobs that join layers in the same way through it. */
int kv_group_run_layers(struct kv_trace_run *run, struct kv_job **jobs, uint32_t n_jobs,
                        const struct kv_layer_group *of, struct kv_error *err);

#endif
