/* The subcommands: argv[0] is the subcommand's own name. Each returns a status, its text in err, or
 * KV_HELPED (arguments.h). */
#ifndef KVBENCH_HARNESS_COMMANDS_H
#define KVBENCH_HARNESS_COMMANDS_H

#include "harness/base/status.h"

int kv_cmd_run(int argc, char **argv, struct kv_error *err);
int kv_cmd_list(int argc, char **argv, struct kv_error *err);
int kv_cmd_info(int argc, char **argv, struct kv_error *err);
int kv_cmd_trace(int argc, char **argv, struct kv_error *err);
int kv_cmd_dump(int argc, char **argv, struct kv_error *err);
int kv_cmd_check(int argc, char **argv, struct kv_error *err);
int kv_cmd_new(int argc, char **argv, struct kv_error *err);
int kv_cmd_compare(int argc, char **argv, struct kv_error *err);
int kv_cmd_report(int argc, char **argv, struct kv_error *err);
int kv_cmd_memory(int argc, char **argv, struct kv_error *err);
int kv_cmd_reproduce(int argc, char **argv, struct kv_error *err);
int kv_cmd_perf(int argc, char **argv, struct kv_error *err);

#endif
