/* One cell under way: a spec and a seed over the layers of a trace. */
#ifndef KVBENCH_HARNESS_JOB_H
#define KVBENCH_HARNESS_JOB_H

#include "harness/run/cell_row.h"
#include "harness/run/layers/survey.h"

struct kv_trace_run;

struct kv_job {
    struct kv_cell *cell;
    const struct kv_spec *spec;
    uint64_t seed;
    struct kv_layer_part *parts;       /* [n_layers] */
    struct kv_layer_groups groups;     /* of the layers that are run */
    struct kv_answer_arrays *answers;  /* [layers of the group at hand]; NULL before its first head, and behind
                                        * its last */
    uint32_t heads_left;               /* units of heads of that group */
    uint64_t *digests;                 /* [n_layers] of the answers */
    int status;                        /* first failure */
    struct kv_error error;
    struct kv_layer_survey survey;     /* when the spec wants one */
};

/* What the cell itself cannot do is its status; only a lack of memory fails. */
int kv_job_start(struct kv_trace_run *run, struct kv_job *job, struct kv_cell *cell,
                 const struct kv_spec *spec, uint64_t seed, struct kv_error *err);
void kv_job_survey(const struct kv_trace_run *run, struct kv_job *job);
/* Makes the cell's rows and hands it to the request's `finished`. */
int kv_job_finish(struct kv_trace_run *run, struct kv_job *job, struct kv_error *err);
void kv_job_free(const struct kv_trace_run *run, struct kv_job *job);

/* What any of them wants to know of the prompt. */
struct kv_wants kv_jobs_want(struct kv_job *const *jobs, uint32_t n);

#endif
