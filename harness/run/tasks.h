/* The smallest independent units of work: the KV heads of a group's layers that a method replays by
 * themselves. They run in parallel, each into its own slot. */
#ifndef KVBENCH_HARNESS_TASKS_H
#define KVBENCH_HARNESS_TASKS_H

#include "harness/run/group_run.h"

/* Accounts of all jobs that are well, summed in head order, and measures of their answers. */
int kv_tasks_run(struct kv_group_run *group, struct kv_error *err);

#endif
