/* What coders cannot do without, counted, for what perf encode says of goals that are missed. */
#ifndef KVBENCH_HARNESS_PERF_CODING_STEPS_H
#define KVBENCH_HARNESS_PERF_CODING_STEPS_H

#include <stdbool.h>

#include "methods/kernels/kernels.h"

enum { KV_CODING_NAMES = 160 };

/* The operations that a row of KV_CODING values asks of `coder` (a spec's text) beside widening,
 * bytes 0, and the names of its steps; false: they are not counted. */
bool kv_coding_steps(const char *coder, struct kv_coding *coding, char names[KV_CODING_NAMES]);

#endif
