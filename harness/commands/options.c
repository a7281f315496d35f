/* The options of `run`; see options.h. */
#include "harness/commands/options.h"

#include <errno.h>
#include <glob.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/commands/arguments.h"

#define FIELD(field) offsetof(struct kv_run_options, field)

static int out_of_memory(struct kv_error *err)
{
    return kv_fail(err, KV_EMEMORY, "out of memory for options");
}

static int take_traces(const struct kv_given *given, struct kv_error *err)
{
    struct kv_run_options *options = given->target;
    glob_t found;
    int status = KV_OK;
    const int result = glob(given->value, GLOB_NOCHECK, NULL, &found);
    if (result != 0) return out_of_memory(err);
    char **more = realloc(options->traces, (options->n_traces + found.gl_pathc) * sizeof *more);
    if (!more)
        status = out_of_memory(err);
    else
        options->traces = more;
    for (size_t i = 0; status == KV_OK && i < found.gl_pathc; i++) {
        char *copy = strdup(found.gl_pathv[i]);
        if (!copy)
            status = out_of_memory(err);
        else
            options->traces[options->n_traces++] = copy;
    }
    globfree(&found);
    return status;
}

static int read_words(struct kv_run_options *options, int n, char **words, struct kv_error *err);

/* Options point into the line: it lives as long as they do. */
static char *keep_line(struct kv_run_options *options, const char *line)
{
    char **more = realloc(options->lines, (options->n_lines + 1) * sizeof *more);
    if (!more) return NULL;
    options->lines = more;
    more[options->n_lines] = strdup(line);
    return more[options->n_lines] ? more[options->n_lines++] : NULL;
}

/* "--name value", "--name=value", or nothing but a comment. */
static int read_line(struct kv_run_options *options, const char *text, struct kv_error *err)
{
    char *line = keep_line(options, text);
    if (!line) return out_of_memory(err);
    line[strcspn(line, "#\r\n")] = 0;
    for (size_t n = strlen(line); n && strchr(" \t", line[n - 1]);) line[--n] = 0;
    char *words[2] = {line + strspn(line, " \t")};
    char *end = words[0] + strcspn(words[0], " \t");
    words[1] = end + strspn(end, " \t");
    *end = 0;
    return read_words(options, !*words[0] ? 0 : !*words[1] ? 1 : 2, words, err);
}

static int read_file(struct kv_run_options *options, const char *path, struct kv_error *err)
{
    if (options->depth == 8) /* a file that names itself ends, too */
        return kv_fail(err, KV_EUSAGE, "%.200s: @files nested deeper than 8", path);
    FILE *file = fopen(path, "r");
    if (!file) return kv_fail(err, KV_EINPUT, "%.200s: cannot be read: %s", path, strerror(errno));
    char line[4096];
    int status = KV_OK;
    options->depth++;
    while (status == KV_OK && fgets(line, sizeof line, file))
        status = read_line(options, line, err);
    if (status == KV_OK && ferror(file))
        status = kv_fail(err, KV_EINPUT, "%.200s: cannot be read: %s", path, strerror(errno));
    options->depth--;
    fclose(file);
    return status;
}

/* A word that is no value of an option. */
static int take_file(const struct kv_given *given, struct kv_error *err)
{
    if (given->value[0] == '@') return read_file(given->target, given->value + 1, err);
    return kv_fail(err, KV_EUSAGE,
                   "run: expected options, found %.100s; methods go after --methods, traces after"
                   " --trace",
                   given->value);
}

static const struct kv_argument table[] = {
    {"--methods", KV_JOINED, FIELD(methods), "LIST",
     "specs: h2o,kivi:bits=2/4,snapkv:budget=0.1+int; @FILE reads a list"},
    {"--trace", KV_TAKEN, 0, "FILE", "a recording; repeatable, globs (default: the bundled ones)",
     .take = take_traces},
    {"--layers", KV_LIST, FIELD(layers), "LIST", "layers of the model, of those recorded: 2,7-12",
     0, KV_MOST_NUMBERS - 1, KV_MOST_NUMBERS},
    {"--isa", KV_TEXT, FIELD(isa), "NAME", "kernel set: auto, generic, avx2, avx512, avx512vnni, avx512amx, neon"},
    {"--threads", KV_WHOLE, FIELD(threads), "N", "threads (default: all cores)", 1, 4096},
    {"--seed", KV_SEED, FIELD(seed), "N", "seed of everything random (default 1)"},
    {"--seeds", KV_WHOLE, FIELD(seeds), "N", "runs of methods that depend on the seed", 1, 10000},
    {"--queries", KV_WHOLE, FIELD(queries), "all|N",
     "decode steps to score, in blocks at log-spaced depths", 1, 4e9},
    {"--calibrate", KV_TEXT, FIELD(calibrate), "TRACE|FROM:TO",
     "fit bases on another recording, or on tokens of each, which are not scored then"},
    {"--timeout", KV_REAL, FIELD(timeout_seconds), "SECONDS", "a cell (one method on one trace) may work",
     1e-3, 1e9},
    {"--out", KV_TEXT, FIELD(out), "DIR", "result directory (default: results/TIME-HASH)"},
    {"--resume", KV_TEXT, FIELD(resume), "DIR",
     "go on with an interrupted run: its own methods and traces, or those given"},
    {"--metrics", KV_TEXT, FIELD(metrics), "NAME",
     "usual, or full: diagnostics such as dkl_seq, too"},
    {"--format", KV_TEXT, FIELD(format), "NAME", "stdout: table, markdown, csv, json"},
    {"--per-layer", KV_SWITCH, FIELD(per_layer), NULL, "a row for each layer, too"},
    {"--split", KV_SWITCH, FIELD(split), NULL,
     "keys-only and values-only rows of every codec, too"},
    {"--no-plots", KV_SWITCH, FIELD(no_plots), NULL, "no plots"},
    {"--no-verify", KV_SWITCH, FIELD(no_verify), NULL, "skip content hashes; every row is marked"},
    {"--audit", KV_SWITCH, FIELD(audit), NULL, "recount all bytes at every step"},
    {"--profile", KV_TEXT, FIELD(profile), "FILE", "where the time went, by stages, as JSON"},
    {"--quiet", KV_SWITCH, FIELD(quiet), NULL, "nothing but data and errors"},
    {"--verbose", KV_SWITCH, FIELD(verbose), NULL, "a line on stderr for every cell, when it ends"},
    {"--help", KV_SWITCH, 0, NULL, "this text"},
    {"", KV_TAKEN, 0, "@FILE", NULL, .take = take_file},
    {NULL}};

static const struct kv_arguments arguments = {
    .who = "run", .usage = "kvbench run [OPTIONS]\n\n", .table = table};

void kv_options_help(void)
{
    kv_arguments_print(table);
}

static int read_words(struct kv_run_options *options, int n, char **words, struct kv_error *err)
{
    return kv_arguments_read(&arguments, options, n, words, err);
}

static bool readable(const char *folder, const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, R_OK) == 0;
}

/* A name mistyped must not begin a new run; one that was killed at once has a manifest alone. */
static int check_resume(const char *folder, struct kv_error *err)
{
    if (readable(folder, "manifest.json") || readable(folder, "journal.jsonl")) return KV_OK;
    return kv_fail(err, KV_EINPUT,
                   "--resume: %.200s: expected a result directory with journal.jsonl,"
                   " found: %s",
                   folder, strerror(errno));
}

static int check_metrics(const char *name, struct kv_error *err)
{
    if (strcmp(name, "usual") == 0 || strcmp(name, "full") == 0) return KV_OK;
    return kv_fail(err, KV_EUSAGE, "--metrics: expected usual or full, found %.100s", name);
}

static const struct kv_run_options initial = {
    .isa = "auto", .format = "table", .metrics = "usual", .seed = 1, .seeds = 1};

/* --resume DIR alone goes on with what DIR was: its definition first, then what was said here. */
static int take_definition(struct kv_run_options *options, int n, char **words,
                           struct kv_error *err)
{
    struct kv_definition definition;
    int status = kv_definition_read(&definition, options->resume, err);
    kv_options_free(options);
    *options = initial;
    options->definition = definition;
    options->depth = 8; /* no @files in it */
    if (status == KV_OK) status = read_words(options, definition.n, definition.words, err);
    options->depth = 0;
    return status == KV_OK ? read_words(options, n, words, err) : status;
}

static int check_folders(const struct kv_run_options *options, struct kv_error *err)
{
    if (!options->resume) return KV_OK;
    if (options->out)
        return kv_fail(err, KV_EUSAGE,
                       "--resume %.200s writes there: expected no --out, found %.200s",
                       options->resume, options->out);
    return check_resume(options->resume, err);
}

int kv_options_parse(struct kv_run_options *options, int n, char **words, struct kv_error *err)
{
    *options = initial;
    int status = read_words(options, n, words, err);
    if (status == KV_OK) status = check_folders(options, err);
    if (status == KV_OK && options->resume && !options->methods && !options->n_traces)
        status = take_definition(options, n, words, err);
    if (status == KV_OK) status = check_metrics(options->metrics, err);
    return status;
}

void kv_options_free(struct kv_run_options *options)
{
    free(options->methods);
    for (uint32_t t = 0; t < options->n_traces; t++) free(options->traces[t]);
    free(options->traces);
    for (uint32_t l = 0; l < options->n_lines; l++) free(options->lines[l]);
    free(options->lines);
    kv_definition_free(&options->definition);
}
