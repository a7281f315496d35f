/* Where results come from: version, compiler, processor. */
#ifndef KVBENCH_HARNESS_PROVENANCE_H
#define KVBENCH_HARNESS_PROVENANCE_H

#include "harness/run/journal/results.h"

/* Version and commit of this program, "0.1.0-abc1234" (+ "-dirty" for changed sources). */
const char *kv_code_version(void);

/* Fills version, compiler, cpu and code_version. */
void kv_provenance_fill(struct kv_results *results);

#endif
