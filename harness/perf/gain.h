/* What a second thread brings to some work, beside what it brings to multiply-adds: one row, whose
 * limit and ours are rates of two threads over rates of one. */
#ifndef KVBENCH_HARNESS_PERF_GAIN_H
#define KVBENCH_HARNESS_PERF_GAIN_H

#include "harness/perf/perf.h"

struct kv_gain {
    kv_perf_work *run;
    void *contexts[2]; /* a thread's own work each, as much of it */
};

/* The second thread is to bring 0.95 of what it brings to the peak. */
int kv_gain_measure(struct kv_perf *perf, const char *name, const struct kv_gain *gain,
                    struct kv_error *err);

#endif
