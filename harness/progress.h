/* One line on a terminal's stderr: what is done, what runs, how long it may take. Silent when stderr is
 * no terminal, or when told to be quiet. */
#ifndef KVBENCH_HARNESS_PROGRESS_H
#define KVBENCH_HARNESS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct kv_progress {
    bool shown;
    uint32_t total, done;
    double started, printed;     /* seconds of the monotonic clock */
};

void kv_progress_begin(struct kv_progress *progress, uint32_t total_steps, bool quiet);

/* One more of total_steps is done; what: the cell that just ended, or NULL. From one thread at a time. */
void kv_progress_step(struct kv_progress *progress, const char *what);

/* Wipes the line. Call it before anything else is printed to stderr. */
void kv_progress_end(struct kv_progress *progress);

#endif
