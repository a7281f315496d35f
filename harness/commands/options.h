/* The options of `run` (cli.md section 2): one table for parsing and for --help. */
#ifndef KVBENCH_HARNESS_OPTIONS_H
#define KVBENCH_HARNESS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "harness/commands/arguments.h"
#include "harness/run/journal/definition.h"

struct kv_run_options {
    char *methods;                    /* lists joined by commas */
    char **traces; uint32_t n_traces; /* files, globs resolved; none = the bundled ones */
    struct kv_numbers layers;
    const char *isa, *profile, *out, *format, *resume, *calibrate, *metrics;
    uint32_t threads, seeds, queries;
    uint64_t seed;
    double timeout_seconds;
    bool per_layer, quiet, verbose, no_plots, split, no_verify, audit;
    char **lines; uint32_t n_lines;   /* of @files, and what a resumed run was: texts point into them */
    struct kv_definition definition;
    uint32_t depth;                   /* of the @file that is being read */
};

/* Words behind `run`. `@file` among them is read as options, one a line. KV_HELPED as of arguments.h. */
int kv_options_parse(struct kv_run_options *options, int n, char **words, struct kv_error *err);
void kv_options_free(struct kv_run_options *options);
void kv_options_help(void);

#endif
