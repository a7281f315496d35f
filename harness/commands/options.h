/* The options of `run` (cli.md section 2): one table for parsing and for --help. */
#ifndef KVBENCH_HARNESS_OPTIONS_H
#define KVBENCH_HARNESS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "harness/base/status.h"

struct kv_run_options {
    char *methods;                    /* lists joined by commas */
    char **traces; uint32_t n_traces; /* files, globs resolved; none = the bundled ones */
    uint32_t *layers, n_layers;
    const char *isa, *profile, *out, *format, *resume, *calibrate, *metrics;
    uint32_t threads, seeds, queries;
    uint64_t seed;
    double timeout_seconds;
    bool per_layer, quiet, verbose, no_plots, split, no_verify, audit, help;
    char *memory[256]; uint32_t n_memory;   /* owned texts */
};

/* argv[0] is ignored. `@file` among the arguments is read as options, one a line. Unknown options
 * name the nearest known one, bad values the range (KV_EUSAGE). */
int kv_options_parse(struct kv_run_options *options, int argc, char **argv, struct kv_error *err);
void kv_options_free(struct kv_run_options *options);
void kv_options_help(void);

#endif
