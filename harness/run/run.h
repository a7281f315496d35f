/* A run: every trace through every spec. Traces one by one, layers one by one in memory, specs in
 * batches that keep the cores busy; the smallest independent units run in parallel, each into its own
 * slot; sums are taken in a fixed order, so rows do not depend on the number of threads. */
#ifndef KVBENCH_HARNESS_RUN_H
#define KVBENCH_HARNESS_RUN_H

#include <signal.h>

#include "harness/replay/replay.h"
#include "harness/run/journal/results.h"

struct kv_run_request {
    const struct kv_spec_list *specs;
    char *const *traces; uint32_t n_traces;      /* files */
    const uint32_t *layers; uint32_t n_layers;   /* model indices; none = all of the trace */
    const char *isa;
    int threads;                      /* 0 = all cores */
    uint64_t seed;
    uint32_t seeds;                   /* runs of a spec that depends on the seed */
    uint32_t queries;                 /* scored tokens; 0 = all decode steps */
    const char *calibrate;            /* a trace, or tokens FROM:TO of each trace; NULL: fits see the prompt */
    double timeout_seconds;           /* of a cell's own work; 0 = none */
    bool per_layer, no_verify, audit, full_metrics;
    enum kv_road road;
    const volatile sig_atomic_t *stop;
    void *context;                    /* of the callbacks, each may be NULL */
    bool (*restore)(void *context, struct kv_cell *cell);      /* true: the cell is done already (resume) */
    int (*finished)(void *context, const struct kv_cell *cell, struct kv_error *err);
    void (*progress)(void *context, double done);              /* 0..1 */
};

/* Fills results (zeroed by the caller, freed with kv_results_free even after an error). A cell that
 * cannot run is a row with a status and a reason; only a bad trace, a bad environment or Ctrl-C end
 * the run: what was finished stays in results. Returns KV_ECELL when some cell failed. */
int kv_run(const struct kv_run_request *request, struct kv_results *results, struct kv_error *err);

#endif
