/* A yardstick that is a program: `kvbench perf BENCH --vs SCRIPT`.
 *
 * SCRIPT is run once a row as `SCRIPT BENCH tokens=4096 dim=128 ...`. It prepares and warms up,
 * then writes one line with its name and version ("numpy 1.24.2, hand-chunked"). For every line
 * that it reads from its standard input it does the work once and answers with one line: the
 * seconds that the work took. It ends at the end of its input. A script that does not know the
 * bench or the shape writes a line that begins with "skip" and says why. */
#ifndef KVBENCH_HARNESS_PERF_SCRIPT_H
#define KVBENCH_HARNESS_PERF_SCRIPT_H

#include <stdio.h>

#include "harness/base/status.h"

struct kv_script {
    int pid; /* 0: not running */
    FILE *to, *from;
    char name[128]; /* its first line */
};

/* Starts it. KV_EUNSUPPORTED with its words when it skips. */
int kv_script_start(struct kv_script *script, const char *path, const char *bench,
                    const char *shape, struct kv_error *err);
/* One turn; seconds as it says. */
int kv_script_turn(struct kv_script *script, double *seconds, struct kv_error *err);
void kv_script_stop(struct kv_script *script);

#endif
