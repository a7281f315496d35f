/* The options of `run`; see options.h. */
#include "harness/commands/options.h"

#include <errno.h>
#include <glob.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/base/number.h"
#include "harness/base/params.h"
#include "harness/run/definition.h"

enum kind { SWITCH, TEXT, U32, U64, REAL, METHODS, TRACE, LAYERS };

struct option {
    const char *name;
    enum kind kind;
    size_t offset;
    const char *value, *meaning;
    double min, max;
};

#define FIELD(field) offsetof(struct kv_run_options, field)

static const struct option table[] = {
    {"--methods", METHODS, 0, "LIST",
     "specs: h2o,kivi:bits=2/4,snapkv:budget=0.1+int; @FILE reads a list"},
    {"--trace", TRACE, 0, "FILE", "a recording; repeatable, globs (default: the bundled ones)"},
    {"--layers", LAYERS, 0, "LIST", "layers of the model, of those recorded: 2,7-12"},
    {"--isa", TEXT, FIELD(isa), "NAME", "kernel set: auto, generic, avx2, avx512, neon"},
    {"--threads", U32, FIELD(threads), "N", "threads (default: all cores)", 1, 4096},
    {"--seed", U64, FIELD(seed), "N", "seed of everything random (default 1)"},
    {"--seeds", U32, FIELD(seeds), "N", "runs of methods that depend on the seed", 1, 10000},
    {"--queries", U32, FIELD(queries), "all|N",
     "decode steps to score, in blocks at log-spaced depths", 1, 4e9},
    {"--calibrate", TEXT, FIELD(calibrate), "TRACE|FROM:TO",
     "fit bases on another recording, or on tokens of each, which are not scored then"},
    {"--timeout", REAL, FIELD(timeout_seconds), "SECONDS", "of a cell (one method on one trace)",
     1e-3, 1e9},
    {"--out", TEXT, FIELD(out), "DIR", "result directory (default: results/TIME-HASH)"},
    {"--resume", TEXT, FIELD(resume), "DIR", "go on with an interrupted run: its own methods and traces, or those given"},
    {"--metrics", TEXT, FIELD(metrics), "NAME", "usual, or full: diagnostics such as dkl_seq, too"},
    {"--format", TEXT, FIELD(format), "NAME", "stdout: table, markdown, csv, json"},
    {"--per-layer", SWITCH, FIELD(per_layer), NULL, "a row for each layer, too"},
    {"--split", SWITCH, FIELD(split), NULL, "keys-only and values-only rows of every codec, too"},
    {"--no-plots", SWITCH, FIELD(no_plots), NULL, "no plots"},
    {"--no-verify", SWITCH, FIELD(no_verify), NULL, "skip content hashes; every row is marked"},
    {"--audit", SWITCH, FIELD(audit), NULL, "recount all bytes at every step"},
    {"--profile", TEXT, FIELD(profile), "FILE", "where the time went, by stages, as JSON"},
    {"--quiet", SWITCH, FIELD(quiet), NULL, "nothing but data and errors"},
    {"--verbose", SWITCH, FIELD(verbose), NULL, "a line on stderr for every cell, when it ends"},
    {"--help", SWITCH, FIELD(help), NULL, "this text"},
};

enum { N_OPTIONS = sizeof table / sizeof *table };

void kv_options_help(void)
{
    for (int i = 0; i < N_OPTIONS; i++)
        printf("  %-11s %-8s %s\n", table[i].name, table[i].value ? table[i].value : "",
               table[i].meaning);
}

static char *keep(struct kv_run_options *options, char *text)
{
    if (text && options->n_memory < sizeof options->memory / sizeof *options->memory)
        return options->memory[options->n_memory++] = text;
    free(text);
    return NULL;
}

static int out_of_memory(struct kv_error *err)
{
    return kv_fail(err, KV_EMEMORY, "out of memory for options");
}

static int add_methods(struct kv_run_options *options, const char *value, struct kv_error *err)
{
    char *joined = NULL;
    if (asprintf(&joined, "%s%s%s", options->methods ? options->methods : "",
                 options->methods ? "," : "", value) < 0)
        return out_of_memory(err);
    free(options->methods);
    options->methods = joined;
    return KV_OK;
}

static int add_traces(struct kv_run_options *options, const char *pattern, struct kv_error *err)
{
    glob_t found;
    int status = KV_OK;
    const int result = glob(pattern, GLOB_NOCHECK, NULL, &found);
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

/* "2,7-12" */
static int add_layers(struct kv_run_options *options, const char *value, struct kv_error *err)
{
    for (const char *at = value; *at;) {
        uint32_t range[2];
        if (!kv_read_range(&at, ',', 100000, range))
            return kv_fail(err, KV_EUSAGE, "--layers: expected layers such as 2,7-12, found %.100s",
                           value);
        uint32_t *more =
            realloc(options->layers, (options->n_layers + range[1] - range[0] + 1) * sizeof *more);
        if (!more) return out_of_memory(err);
        options->layers = more;
        for (uint32_t l = range[0]; l <= range[1]; l++) options->layers[options->n_layers++] = l;
    }
    return options->n_layers ? KV_OK
                             : kv_fail(err, KV_EUSAGE, "--layers: expected layers, found none");
}

static int set_number(const struct option *option, struct kv_run_options *options,
                      const char *value, struct kv_error *err)
{
    char *end;
    void *field = (char *)options + option->offset;
    const bool digits = *value >= '0' && *value <= '9';
    if (option->kind == U64) {
        if (kv_read_whole(value, 0, UINT64_MAX, field)) return KV_OK;
        return kv_fail(err, KV_EUSAGE, "%s: expected a whole number from 0 to 2^64 - 1, found %.100s",
                       option->name, value);
    }
    errno = 0;
    const double number = strtod(value, &end);
    const bool whole = option->kind == REAL || number == floor(number);
    if (!digits || *end || errno || !whole || !(number >= option->min && number <= option->max))
        return kv_fail(err, KV_EUSAGE, "%s: expected %s%s from %.12g to %.12g, found %.100s",
                       option->name, strncmp(option->value, "all|", 4) == 0 ? "all or " : "", option->kind == REAL ? "a number" : "a whole number",
                       option->min, option->max, value);
    if (option->kind == REAL)
        *(double *)field = number;
    else
        *(uint32_t *)field = (uint32_t)number;
    return KV_OK;
}

static int set_option(const struct option *option, struct kv_run_options *options,
                      const char *value, struct kv_error *err)
{
    void *field = (char *)options + option->offset;
    switch (option->kind) {
    case SWITCH:
        *(bool *)field = true;
        return KV_OK;
    case TEXT:
        if (!(*(const char **)field = keep(options, strdup(value)))) return out_of_memory(err);
        return KV_OK;
    case METHODS:
        return add_methods(options, value, err);
    case TRACE:
        return add_traces(options, value, err);
    case LAYERS:
        return add_layers(options, value, err);
    default:
        break;
    }
    if (field == (void *)&options->queries && strcmp(value, "all") == 0)
        return options->queries = 0, KV_OK;
    return set_number(option, options, value, err);
}

static int unknown(const char *word, struct kv_error *err)
{
    const char *names[N_OPTIONS + 1] = {NULL};
    for (int i = 0; i < N_OPTIONS; i++) names[i] = table[i].name;
    const char *near = kv_nearest(word, names);
    if (word[0] != '-')
        return kv_fail(err, KV_EUSAGE,
                       "run: expected options, found %.100s; methods go after"
                       " --methods, traces after --trace",
                       word);
    return kv_fail(err, KV_EUSAGE, "unknown option %.100s%s%s%s", word,
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static int parse_words(struct kv_run_options *options, int n, char **words, int depth,
                       struct kv_error *err);

/* A file of options: `--name value` or `--name=value` a line, `#` begins a comment. */
static int parse_file(struct kv_run_options *options, const char *path, int depth,
                      struct kv_error *err)
{
    FILE *file = depth < 8 ? fopen(path, "r") : NULL; /* a file that names itself ends, too */
    if (depth == 8) return kv_fail(err, KV_EUSAGE, "%.200s: @files nested deeper than 8", path);
    if (!file) return kv_fail(err, KV_EINPUT, "%.200s: cannot be read: %s", path, strerror(errno));
    char line[4096];
    int status = KV_OK;
    while (status == KV_OK && fgets(line, sizeof line, file)) {
        line[strcspn(line, "#\r\n")] = 0;
        char *word = line + strspn(line, " \t"), *words[2];
        char *end = word + strcspn(word, " \t");
        int n = *word ? 1 : 0;
        words[0] = word;
        if (*end) {
            *end++ = 0;
            words[1] = end + strspn(end, " \t");
            for (char *tail = words[1] + strlen(words[1]);
                 tail > words[1] && (tail[-1] == ' ' || tail[-1] == '\t');)
                *--tail = 0;
            n += *words[1] != 0;
        }
        if (n) status = parse_words(options, n, words, depth + 1, err);
    }
    if (status == KV_OK && ferror(file))
        status = kv_fail(err, KV_EINPUT, "%.200s: cannot be read: %s", path, strerror(errno));
    fclose(file);
    return status;
}

static const struct option *find(const char *word, size_t length)
{
    if (strcmp(word, "-h") == 0) word = "--help", length = strlen(word);
    for (int i = 0; i < N_OPTIONS; i++)
        if (strlen(table[i].name) == length && strncmp(table[i].name, word, length) == 0)
            return &table[i];
    return NULL;
}

static int parse_words(struct kv_run_options *options, int n, char **words, int depth,
                       struct kv_error *err)
{
    int status = KV_OK;
    for (int i = 0; status == KV_OK && i < n; i++) {
        if (words[i][0] == '@') {
            status = parse_file(options, words[i] + 1, depth, err);
            continue;
        }
        const size_t length = strcspn(words[i], "=");
        const struct option *option = find(words[i], length);
        const char *value = words[i][length] ? words[i] + length + 1 : NULL;
        if (!option) return unknown(words[i], err);
        if (option->kind == SWITCH && value)
            return kv_fail(err, KV_EUSAGE, "%s: expected no value, found %.100s", option->name,
                           value);
        if (option->kind != SWITCH && !value) {
            if (i + 1 >= n)
                return kv_fail(err, KV_EUSAGE, "%s: expected %s, found nothing", option->name,
                               option->value);
            value = words[++i];
        }
        if (value && !*value)
            return kv_fail(err, KV_EUSAGE, "%s: expected %s, found an empty word", option->name, option->value);
        status = set_option(option, options, value, err);
    }
    return status;
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
static int take_definition(struct kv_run_options *options, int argc, char **argv, struct kv_error *err)
{
    struct kv_definition definition;
    int status = kv_definition_read(&definition, options->resume, err);
    kv_options_free(options);
    *options = initial;
    if (status == KV_OK) status = parse_words(options, definition.n, definition.words, 8, err);
    if (status == KV_OK) status = parse_words(options, argc - 1, argv + 1, 0, err);
    kv_definition_free(&definition);
    return status;
}

static int check_folders(const struct kv_run_options *options, struct kv_error *err)
{
    if (!options->resume) return KV_OK;
    if (options->out)
        return kv_fail(err, KV_EUSAGE, "--resume %.200s writes there: expected no --out, found %.200s",
                       options->resume, options->out);
    return check_resume(options->resume, err);
}

int kv_options_parse(struct kv_run_options *options, int argc, char **argv, struct kv_error *err)
{
    *options = initial;
    int status = parse_words(options, argc - 1, argv + 1, 0, err);
    if (status == KV_OK) status = check_folders(options, err);
    if (status == KV_OK && options->resume && !options->methods && !options->n_traces)
        status = take_definition(options, argc, argv, err);
    if (status == KV_OK) status = check_metrics(options->metrics, err);
    return status;
}

void kv_options_free(struct kv_run_options *options)
{
    free(options->methods);
    for (uint32_t t = 0; t < options->n_traces; t++) free(options->traces[t]);
    free(options->traces);
    free(options->layers);
    for (uint32_t i = 0; i < options->n_memory; i++) free(options->memory[i]);
}
