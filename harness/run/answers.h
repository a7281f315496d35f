/* Arrays of one cell's answers to one layer. */
#ifndef KVBENCH_HARNESS_ANSWERS_H
#define KVBENCH_HARNESS_ANSWERS_H

#include "harness/run/layers/open_layer.h"

size_t kv_answer_floats(const struct kv_geometry *geometry, const struct kv_trace_run *run);

/* One block of zeros, which begins at outputs. KV_OK or KV_EMEMORY. */
int kv_answers_reserve(struct kv_answer_arrays *answers, const struct kv_open_layer *layer);

#endif
