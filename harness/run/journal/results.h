/* The results of a run in memory: what the writers, the table and the plots read. */
#ifndef KVBENCH_HARNESS_RESULTS_H
#define KVBENCH_HARNESS_RESULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "harness/run/journal/profile.h"
#include "metrics/measures.h"

struct kv_row {
#define KV_TEXT_FIELD(name) char *name;
#define KV_COUNT_FIELD(name) int64_t name;
#define KV_REAL_FIELD(name) double name;
#define KV_COLUMN(kind, name, unit, meaning) KV_##kind##_FIELD(name)
#include "harness/output/columns.h"
#undef KV_COLUMN
#undef KV_TEXT_FIELD
#undef KV_COUNT_FIELD
#undef KV_REAL_FIELD
};

struct kv_cell {                     /* one trace x one spec x one seed */
    struct kv_row row;               /* layer = "all" */
    uint32_t n_layers;
    struct kv_row *layers;           /* per layer, always filled when status is ok (printed on --per-layer) */
    double bin_error[KV_DEPTH_BINS]; /* output error by depth */
    uint32_t bin_token[KV_DEPTH_BINS]; /* last token of each bin */
    double *head_error;              /* [n_layers][q_heads] */
    uint32_t q_heads;
    int64_t allocated_bytes;         /* pool high-water */
    double seconds;                  /* wall time summed over threads: timings.csv only */
    double replay_seconds, measure_seconds;
    uint64_t answer_digest;          /* of all answers: equal digests = "same output as" */
    char asked_budget[32];           /* as asked ("20% = 153"), "" without one */
    bool done;
};

struct kv_trace_summary {            /* what the table says of a trace */
    char *name, *path, *hash, *model, *text;
    uint32_t tokens, prefill, n_layers, model_layers, n_windows, window_tokens, n_fisher, element_bits;
    bool verified, has_probes, has_label;
    bool has_w_o, has_x2, no_post_norm;   /* of every layer that is run */
    bool has_spans;
    double reference_seconds, audit_deviation, audit_bound;   /* fast exact attention against double */
    bool reference_cached;
};

struct kv_results {
    uint32_t n_traces; struct kv_trace_summary *traces;
    uint32_t n_cells;  struct kv_cell *cells;     /* in command-line order: traces outermost */
    char *command;                   /* as typed */
    char *options;                   /* what else changes rows, as arguments: "--layers 0,3"; NULL = none */
    char **specs; uint32_t n_specs;  /* canonical */
    const char *isa, *compiler, *version, *cpu;
    char code_version[64];
    int threads;
    uint64_t seed;
    uint32_t seeds;                  /* runs of methods that depend on it */
    bool per_layer, interrupted;
    double wall_seconds;
    struct kv_profile profile;
};

#endif
