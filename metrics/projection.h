/* Outputs through W_o: what the residual stream receives (peers.md section 3.2, item 7). */
#ifndef KVBENCH_METRICS_PROJECTION_H
#define KVBENCH_METRICS_PROJECTION_H

#include "metrics/measures.h"

/* squares [n_scored] = |W_o x_t|^2 with x the deltas (answer - exact), or the exact outputs.
 * Every square is summed in the order of columns, then of rows, whatever the machine. KV_OK or
 * KV_EMEMORY. */
int kv_project_squares(const struct kv_measured *in, bool deltas, double *squares);

#endif
