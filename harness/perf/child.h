/* The program itself in a process of its own, for what only a whole process shows; and folders that
 * it may fill. */
#ifndef KVBENCH_HARNESS_PERF_CHILD_H
#define KVBENCH_HARNESS_PERF_CHILD_H

#include "harness/base/status.h"

enum { KV_CHILD_PATH = 256 };

/* An empty folder under TMPDIR; and its end, with the files in it. */
int kv_child_folder(char path[KV_CHILD_PATH], struct kv_error *err);
void kv_child_remove(const char *path);

/* Runs the program with these arguments (ended by NULL), its output thrown away: its peak resident
 * memory in bytes; NaN when it could not be run or failed. */
double kv_child_memory(const char *const *arguments);

#endif
