/* kvbench: the subcommand table. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <gsl/gsl_errno.h>
#include <hdf5.h>

#include "harness/base/params.h"
#include "harness/commands/commands.h"
#include "harness/commands/options.h"
#include "harness/output/files/provenance.h"

static const struct {
    const char *name, *does;
    int (*run)(int, char **, struct kv_error *);
} commands[] = {
    {"run", "replay traces through methods (the default)", kv_cmd_run},
    {"list", "methods, columns, isas, traces, models, claims; a method's parameters", kv_cmd_list},
    {"info", "what a trace holds", kv_cmd_info},
    {"trace", "validate, synth, slice, merge, hash, record", kv_cmd_trace},
    {"dump", "one method, one layer: rows and answers as HDF5", kv_cmd_dump},
    {"check", "the conformance kit on a method, or on all", kv_cmd_check},
    {"new", "write a method from the template", kv_cmd_new},
    {"compare", "two result directories, row by row", kv_cmd_compare},
    {"report", "result directories as one HTML page", kv_cmd_report},
    {"reproduce", "claimed figures of papers against measured ones", kv_cmd_reproduce},
    {"perf", "kernels beside the limits of the machine", kv_cmd_perf},
    {"memory", "bytes of any model's cache: context, batch, methods, serving; no trace", kv_cmd_memory},
    {"calibrate", "not in this version", NULL},
    {"recommend", "not in this version", NULL},
    {"selftest", "not in this version", NULL},
};

enum { N_COMMANDS = sizeof commands / sizeof *commands };

static int help(void)
{
    printf("kvbench %s: what a KV-cache compression method costs and loses, on a real recording\n\n"
           "  kvbench [run] --methods h2o,kivi,turboquant\n\n",
           kv_code_version());
    for (int i = 0; i < N_COMMANDS; i++)
        if (commands[i].run) printf("  %-10s %s\n", commands[i].name, commands[i].does);
    printf("\nOptions of run:\n");
    kv_options_help();
    return KV_OK;
}

static int unknown_command(const char *word, struct kv_error *err)
{
    const char *names[N_COMMANDS + 1] = {NULL};
    for (int i = 0; i < N_COMMANDS; i++) names[i] = commands[i].name;
    return kv_fail(err, KV_EUSAGE, "unknown command %s%s", word, kv_hint(word, names).text);
}

static int dispatch(int argc, char **argv, struct kv_error *err)
{
    const char *word = argc > 1 ? argv[1] : "run";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
        return help();
    if (strcmp(word, "--version") == 0) return printf("kvbench %s\n", kv_code_version()), KV_OK;
    if (word[0] == '-' || word[0] == '@' || argc < 2) return kv_cmd_run(argc, argv, err);
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, word) != 0) continue;
        if (!commands[i].run) return kv_fail(err, KV_EUSAGE, "%s: not in this version", word);
        return commands[i].run(argc - 1, argv + 1, err);
    }
    return unknown_command(word, err);
}

/* A full disk behind stdout is told at the latest here. */
static int flush_output(int status, struct kv_error *err)
{
    errno = 0;
    if ((fflush(stdout) == 0 && !ferror(stdout)) || (status < KV_OK && status != KV_EGATE)) return status;
    return kv_fail(err, KV_EENVIRONMENT, "stdout: cannot write: %s", strerror(errno ? errno : EIO));
}

int main(int argc, char **argv)
{
    struct kv_error err = {{0}};
    gsl_set_error_handler_off();
    H5dont_atexit(); /* it would close once more what a full disk kept from closing, and crash */
    const int status = flush_output(dispatch(argc, argv, &err), &err);
    if (status < 0) fprintf(stderr, "kvbench: %s\n", err.text);
    return kv_exit_code(status);
}
