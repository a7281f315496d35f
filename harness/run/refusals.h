/* What a recording cannot be run with, and why, without replaying it: the caches of `run` itself are made for
 * its shapes, and rows are neither read nor kept. */
#ifndef KVBENCH_HARNESS_RUN_REFUSALS_H
#define KVBENCH_HARNESS_RUN_REFUSALS_H

#include "traces/trace.h"

/* True when the method of that name, with its defaults, would not run; why says so in the words of `run`. */
bool kv_run_refuses(const struct kv_trace *trace, const char *method, struct kv_error *why);

#endif
