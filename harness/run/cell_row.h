/* From what a cell counted and measured to its rows. */
#ifndef KVBENCH_HARNESS_CELL_ROW_H
#define KVBENCH_HARNESS_CELL_ROW_H

#include "harness/run/layers/layer_groups.h"
#include "harness/replay/replay.h"
#include "harness/run/journal/results.h"
#include "traces/trace.h"

/* One layer of a cell: the units' accounts summed, and its measures. */
struct kv_layer_part {
    struct kv_replay_account account;
    struct kv_layer_measures measures;
    const struct kv_trace_layer *info;
    bool measured, reads_shared;      /* reads another layer's K, V: stores nothing itself */
};

struct kv_cell_facts {
    const struct kv_trace *trace;
    const struct kv_trace_summary *summary;
    const struct kv_spec *spec;
    const char *isa;
    uint64_t seed;
    uint32_t n_scored; const uint32_t *scored;
    uint32_t n_layers; const struct kv_layer_part *parts;
    const struct kv_layer_groups *groups;     /* of these layers; NULL: each alone */
    bool full_metrics;                /* diagnostics, too: dkl_seq */
    const char *calibrated_as;        /* what a row says that was fitted on a calibration */
};

/* Adds one unit's account to a layer's. */
void kv_account_add(struct kv_replay_account *sum, const struct kv_replay_account *one);

/* Fills cell->row and cell->layers (status ok) from finished parts. KV_OK or KV_EMEMORY. */
int kv_cell_fill(struct kv_cell *cell, const struct kv_cell_facts *facts, struct kv_error *err);

/* The identifying columns only: of any row. */
int kv_cell_name(struct kv_cell *cell, const struct kv_cell_facts *facts);

/* The row of a cell that did not end well: status from the error's kind, reason from its text. */
void kv_cell_failed(struct kv_cell *cell, int status, const struct kv_error *err);

/* Marks cells of one trace whose answers are the same to the bit ("same-as:SPEC"). */
int kv_mark_same_answers(struct kv_cell *cells, uint32_t n);

#endif
