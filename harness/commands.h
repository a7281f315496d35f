/* The subcommands: argv[0] is the subcommand's own name. Each returns a status, its text in err. */
#ifndef KVBENCH_COMMANDS_H
#define KVBENCH_COMMANDS_H

#include "harness/base/status.h"

int kv_cmd_trace(int argc, char **argv, struct kv_error *err);
int kv_cmd_info(int argc, char **argv, struct kv_error *err);
int kv_cmd_dump(int argc, char **argv, struct kv_error *err);
int kv_cmd_check(int argc, char **argv, struct kv_error *err);

#endif
