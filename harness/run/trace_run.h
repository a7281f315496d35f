/* One trace of a run: which layers and tokens, and its cells, batch by batch. */
#ifndef KVBENCH_HARNESS_TRACE_RUN_H
#define KVBENCH_HARNESS_TRACE_RUN_H

#include "harness/replay/reference.h"
#include "harness/run/run.h"

struct kv_read_ahead;
struct kv_calibration;

#define KV_NO_LAYER UINT32_MAX

struct kv_trace_run {                  /* what the layers of one trace share */
    const struct kv_run_request *request;
    const struct kv_kernels *kernels;
    int threads;
    struct kv_trace *trace;
    struct kv_trace_summary *summary;
    struct kv_profile *profile;
    uint32_t *layers, n_layers;        /* indices into trace->layers */
    bool *audited;                     /* [n_layers] the reference is, by a batch before */
    uint32_t *scored, n_scored;
    uint32_t (*spans)[2], n_spans;
    struct kv_calibration *calibration;    /* NULL: fits see the prompt */
    struct kv_cell *cells;             /* of this trace, spec-major */
    uint32_t n_cells, n_done;
    double progress_base, progress_share;
    struct kv_read_ahead *ahead;       /* of the whole run */
    const char *next_path;             /* the trace after this; NULL: none */
    uint32_t next_layer;               /* read after the one at hand, an index into layers; or KV_NO_LAYER */
    bool last_batch;
    uint32_t n_together;               /* cells that share the layer at hand */
    struct kv_layer *held;             /* the layer that was worked on last and comes next, */
    struct kv_reference *held_reference;   /* with its exact answers; NULL: there is none */
    uint32_t held_layer;               /* an index into layers */
};

/* Opens the trace, runs its cells and closes it; the request, kernels, threads, summary, profile, cells,
 * progress, calibration and ahead are the caller's. */
int kv_trace_run_path(struct kv_trace_run *run, const char *path, struct kv_error *err);

/* KV_EUSAGE when the trace lacks one of the request's layers. */
int kv_check_layers(const struct kv_trace *trace, const struct kv_run_request *request, struct kv_error *err);

bool kv_trace_run_stopped(const struct kv_trace_run *run);
struct kv_spans kv_trace_run_spans(const struct kv_trace_run *run);
/* Of kv_trace_open. */
unsigned kv_trace_run_flags(const struct kv_trace_run *run);
void kv_trace_run_drop_held(struct kv_trace_run *run);
/* Adds the time since *start to a stage; *start becomes now. */
void kv_trace_run_spend(struct kv_trace_run *run, enum kv_stage_of_run stage, double *start);

/* Cells of one spec and one trace. */
uint32_t kv_spec_seeds(const struct kv_run_request *request, const struct kv_spec *spec);

#endif
