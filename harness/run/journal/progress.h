/* One line on a terminal's stderr: what is done, and how long it may take. Silent when
 * stderr is no terminal, or when told to be quiet. */
#ifndef KVBENCH_HARNESS_PROGRESS_H
#define KVBENCH_HARNESS_PROGRESS_H

#include <stdbool.h>

struct kv_progress {
    bool shown;
    double started, printed;     /* seconds of the monotonic clock */
};

void kv_progress_begin(struct kv_progress *progress, bool quiet);

/* done: the share of the work, 0..1. From one thread at a time. */
void kv_progress_step(struct kv_progress *progress, double done);

/* Wipes the line. Call it before anything else is printed to stderr. */
void kv_progress_end(struct kv_progress *progress);

#endif
