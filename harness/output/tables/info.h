/* What a trace holds, for people and for programs. */
#ifndef KVBENCH_INFO_H
#define KVBENCH_INFO_H

#include <stdbool.h>
#include <stdio.h>

#include "traces/trace.h"

/* Writes the description; JSON is one object on one line. */
int kv_info_print(FILE *out, const struct kv_trace *trace, bool json, struct kv_error *err);

#endif
