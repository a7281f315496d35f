/* How methods of one trace compare: their order, the Pareto front, short labels. Shared by the
 * terminal table, the Markdown table and the plots, so that all three say the same. */
#ifndef KVBENCH_HARNESS_RANK_H
#define KVBENCH_HARNESS_RANK_H

#include <stdbool.h>

#include "harness/run/journal/results.h"

enum kv_standing {
    KV_ON_FRONT,      /* no ranked row is as small, on the device and on the host, and as good, and better
                       * in one of the three */
    KV_DOMINATED,
    KV_UNDER_FLOOR,   /* at or under the f16 copy's error: nothing to rank */
    KV_ORACLE,        /* looked at what no cache can know: neither on the front nor in anyone's way */
    KV_UNMEASURED     /* not ok, or without a value */
};

struct kv_ranked {
    const struct kv_cell *cell;
    char *label;                    /* the spec without defaults that do not tell rows of this run apart */
    double value;                   /* dkl, or output_error where the trace has no probes */
    enum kv_standing standing;
    const struct kv_cell *same_as;  /* an earlier cell with identical answers, or NULL */
};

struct kv_ranking {
    const struct kv_trace_summary *trace;
    bool by_dkl;
    double floor;                   /* value of the f16 row; NaN without one */
    uint32_t n_rows, n_measured;    /* measured rows first, best first; then the others in given order */
    struct kv_ranked *rows;
};

/* The cells of trace t in command-line order. */
const struct kv_cell *kv_cells_of_trace(const struct kv_results *results, uint32_t t, uint32_t *n);

/* KV_OK or KV_EMEMORY. */
int kv_rank(struct kv_ranking *out, const struct kv_results *results, uint32_t trace);
void kv_ranking_free(struct kv_ranking *ranking);

/* Whether the row's flags hold the word; a word ending in ':' matches a prefix. Words are
 * separated by blanks, commas or semicolons. Returns where it stands, or NULL. */
const char *kv_find_flag(const char *flags, const char *word);

#endif
