/* Whether libhdf5 survives a file. */
#ifndef KVBENCH_TRACES_H5_PROBE_H
#define KVBENCH_TRACES_H5_PROBE_H

#include "harness/base/status.h"

/* libhdf5 1.10 trusts the heaps in which strings of variable length lie: with one damaged byte there
 * H5Aread ends the process. A child reads every string first; KV_EINPUT when it does not come back. */
int kv_h5_probe(const char *path, struct kv_error *err);

#endif
