/* kvbench: the subcommand table. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <gsl/gsl_errno.h>
#include <hdf5.h>

#include "harness/base/params.h"
#include "harness/commands/commands.h"
#include "harness/commands/options.h"
#include "harness/output/provenance.h"

/* usage: what `kvbench NAME --help` prints; NULL where the command prints its own. */
static const struct {
    const char *name, *does, *usage;
    int (*run)(int, char **, struct kv_error *);
} commands[] = {
    {"run", "replay traces through methods (the default)", NULL, kv_cmd_run},
    {"list", "methods, columns, isas, traces, models, claims; a method's parameters",
     "kvbench list [methods|columns|isas|traces|models|claims|NAME] [--json]\n\n"
     "  NAME               a method: parameters, paper, equations, bytes of a row\n"
     "  --json             the same as JSON\n", kv_cmd_list},
    {"info", "what a trace holds",
     "kvbench info TRACE... [--json] [--no-verify]: model, shapes, probes, and what cannot run on it\n",
     kv_cmd_info},
    {"trace", "validate, synth, slice, merge, hash, record",
     "kvbench trace validate|hash FILE... [--no-verify]\n"
     "kvbench trace synth FILE [--NAME VALUE]...         trace synth --help lists the names\n"
     "kvbench trace slice FILE --out FILE [--layers LIST] [--heads LIST] [--tokens N] [--prefill N]\n"
     "kvbench trace merge FILE FILE --out FILE\n"
     "kvbench trace record ...                           trace record --help; needs Python\n",
     kv_cmd_trace},
    {"dump", "one method, one layer: rows and answers as HDF5",
     "kvbench dump --trace FILE --method SPEC --layer N --out FILE.h5\n\n"
     "  --heads LIST       of KV heads (default: all)\n"
     "  --queries all|N    decode steps to answer, as of run\n"
     "  --isa NAME, --seed N\n", kv_cmd_dump},
    {"check", "the conformance kit on a method, or on all",
     "kvbench check LIST|all [--isa NAME] [--quiet] [--list]\n\n"
     "  --list             the invariants, without running them\n"
     "  --quiet            failures and the count alone\n", kv_cmd_check},
    {"new", "write a method from the template",
     "kvbench new NAME [--policy | --answer]: a codec (a policy; a method without rows) that builds and\n"
     "passes check as it is\n",
     kv_cmd_new},
    {"compare", "two result directories, row by row",
     "kvbench compare OLD NEW: exit 1 when a row got worse, moved in bytes or is gone\n\n"
     "  --tolerance COLUMN=SHARE   a relative change of COLUMN that is no change\n"
     "  --max COLUMN=VALUE         the most that any row of NEW may have\n"
     "  --allow-removed            rows of OLD may be missing in NEW\n", kv_cmd_compare},
    {"report", "result directories as one HTML page",
     "kvbench report DIR... [--out FILE]: report.html in the first DIR, or FILE\n", kv_cmd_report},
    {"reproduce", "claimed figures of papers against measured ones",
     "kvbench reproduce [PAPER|CLAIM...|--all] (kvbench list claims)\n\n"
     "  --trace FILE       a recording; repeatable (default: the bundled ones)\n"
     "  --claims DIR       claims as CSV files (default: experiments/papers)\n"
     "  --seed N, --isa NAME, --json\n", kv_cmd_reproduce},
    {"perf", "kernels beside the limits of the machine", NULL, kv_cmd_perf},
    {"memory", "bytes of any model's cache: context, batch, methods, serving; no trace", NULL, kv_cmd_memory},
    {"calibrate", "not in this version", NULL, NULL},
    {"recommend", "not in this version", NULL, NULL},
    {"selftest", "not in this version", NULL, NULL},
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
    const char *near = kv_nearest(word, names);
    return kv_fail(err, KV_EUSAGE, "unknown command %s%s%s%s", word, near ? "; did you mean " : "",
                   near ? near : "", near ? "?" : "");
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
        if (argc == 3 && strcmp(argv[2], "--help") == 0 && commands[i].usage)
            return fputs(commands[i].usage, stdout), KV_OK;
        return commands[i].run(argc - 1, argv + 1, err);
    }
    return unknown_command(word, err);
}

/* A full disk behind stdout is told at the latest here. */
static int flush_output(int status, struct kv_error *err)
{
    errno = 0;
    if ((fflush(stdout) == 0 && !ferror(stdout)) || (status != KV_OK && status != KV_EGATE)) return status;
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
