/* kvbench trace validate|hash|synth|slice|merge|record: traces as files. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/number.h"
#include "harness/base/params.h"
#include "harness/commands/commands.h"
#include "harness/commands/record_front.h"
#include "harness/output/aside.h"
#include "traces/hash.h"
#include "traces/slice.h"
#include "traces/synth.h"

enum { MOST_FILES = 256 };

/* The command line of one subcommand, taken apart: files, and options with or without a value. */
struct line {
    const char *who;              /* "trace slice" */
    const char *const *options;   /* NULL-terminated names; those that end in = take a value */
    const char *files[MOST_FILES];
    uint32_t n_files;
    const char *values[8]; /* by number in options; "" for one without a value, NULL = absent */
};

static int unknown_option(const struct line *line, const char *option, struct kv_error *err)
{
    const char *nearest = kv_nearest(option, line->options);
    const int length = nearest ? (int)strcspn(nearest, "=") : 0;
    return kv_fail(err, KV_EUSAGE, "%s: unknown option %s%s%.*s", line->who, option,
                   nearest ? "; the nearest known one is " : "", length, nearest ? nearest : "");
}

/* One option at argv[*i]; moves on past its value. */
static int take_option(struct line *line, int argc, char **argv, int *i, struct kv_error *err)
{
    const char *option = argv[*i];
    const size_t length = strcspn(option, "=");
    for (size_t n = 0; line->options[n]; n++) {
        const char *known = line->options[n];
        if (strcspn(known, "=") != length || strncmp(known, option, length) != 0) continue;
        const bool takes = known[length] == '=';
        if (!takes && option[length] == '=')
            return kv_fail(err, KV_EUSAGE, "%s: %.*s: expected no value", line->who, (int)length,
                           option);
        if (takes && option[length] != '=' && *i + 1 >= argc)
            return kv_fail(err, KV_EUSAGE, "%s: %s: expected a value", line->who, option);
        line->values[n] = !takes ? "" : option[length] == '=' ? option + length + 1 : argv[++*i];
        return KV_OK;
    }
    return unknown_option(line, option, err);
}

/* argv[1] is the subcommand of `trace`; what follows is its own. */
static int parse_line(struct line *line, int argc, char **argv, uint32_t least, uint32_t most,
                      const char *usage, struct kv_error *err)
{
    for (int i = 2; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1]) {
            const int status = take_option(line, argc, argv, &i, err);
            if (status != KV_OK) return status;
        } else {
            if (line->n_files < MOST_FILES) line->files[line->n_files] = argv[i];
            line->n_files++;
        }
    }
    if (line->n_files < least || line->n_files > most)
        return kv_fail(err, KV_EUSAGE, "%s: expected %s%s, found %u files", line->who, usage,
                       most == MOST_FILES && line->n_files ? ", 256 at most" : "", line->n_files);
    return KV_OK;
}

static int validate(int argc, char **argv, struct kv_error *err)
{
    static const char *const options[] = {"--no-verify", NULL};
    struct line line = {.who = "trace validate", .options = options};
    int status =
        parse_line(&line, argc, argv, 1, MOST_FILES, "trace validate FILE... [--no-verify]", err);
    for (uint32_t i = 0; i < line.n_files && status == KV_OK; i++) {
        struct kv_trace *trace;
        status = kv_trace_open(&trace, line.files[i], line.values[0] ? KV_NO_VERIFY : 0, err);
        if (status != KV_OK) break;
        if (line.n_files > 1) printf("%s: ", line.files[i]);
        puts("ok");
        kv_trace_close(trace);
    }
    return status;
}

static int hash(int argc, char **argv, struct kv_error *err)
{
    static const char *const options[] = {NULL};
    struct line line = {.who = "trace hash", .options = options};
    int status = parse_line(&line, argc, argv, 1, MOST_FILES, "trace hash FILE...", err);
    for (uint32_t i = 0; i < line.n_files && status == KV_OK; i++) {
        struct kv_h5 *file;
        char text[KV_HASH_TEXT];
        status = kv_h5_open(&file, line.files[i], err);
        if (status == KV_OK) status = kv_hash_file(text, file, 0, err);
        kv_h5_close(file);
        if (status == KV_OK && line.n_files > 1) printf("%s  %s\n", text, line.files[i]);
        else if (status == KV_OK) puts(text);
    }
    return status;
}

/* --q-heads 8 or --q-heads=8 sets the parameter q_heads. */
static int synth_option(struct kv_synth *synth, int argc, char **argv, int *i, struct kv_error *err)
{
    char name[64];
    const char *option = argv[*i] + 2;
    const size_t length = strcspn(option, "=");
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1),
             option);
    for (char *c = name; *c; c++)
        if (*c == '-') *c = '_';
    if (option[length] != '=' && *i + 1 >= argc)
        return kv_fail(err, KV_EUSAGE, "trace synth: --%s: expected a value", option);
    const char *value = option[length] == '=' ? option + length + 1 : argv[++*i];
    return kv_params_set(kv_synth_params, synth, "trace synth", name, value, err);
}

/* What can be asked for, with its initial value. */
static int synth_help(void)
{
    struct kv_synth initial;
    puts("kvbench trace synth FILE [--NAME VALUE]...\n");
    kv_params_defaults(kv_synth_params, &initial);
    for (const struct kv_param *param = kv_synth_params; param->name; param++) {
        const struct kv_param alone[] = {*param, {0}};
        char set[128] = "", option[32];
        kv_params_print(alone, &initial, set, sizeof set);
        snprintf(option, sizeof option, "--%s", param->name);
        for (char *c = option; *c; c++)
            if (*c == '_') *c = '-';
        printf("  %-18s %-8s %s%s%s%s\n", option, strchr(set, '=') ? strchr(set, '=') + 1 : "", param->meaning,
               param->choices ? " (" : "", param->choices ? param->choices : "", param->choices ? ")" : "");
    }
    return KV_OK;
}

static int synth(int argc, char **argv, struct kv_error *err)
{
    if (argc == 3 && strcmp(argv[2], "--help") == 0) return synth_help();
    struct kv_synth parameters;
    const char *path = NULL;
    int status = KV_OK;
    bool prompt = false;
    kv_params_defaults(kv_synth_params, &parameters);
    for (int i = 2; i < argc && status == KV_OK; i++) {
        prompt |= strncmp(argv[i], "--prefill", 9) == 0;
        if (strncmp(argv[i], "--", 2) == 0) status = synth_option(&parameters, argc, argv, &i, err);
        else if (path)
            status = kv_fail(err, KV_EUSAGE, "trace synth: expected one file, found %s and %s",
                             path, argv[i]);
        else path = argv[i];
    }
    if (status == KV_OK && !path)
        status = kv_fail(err, KV_EUSAGE,
                         "trace synth: expected trace synth FILE [--NAME VALUE]..., found"
                         " no file");
    /* A text shorter than the usual prompt is a shorter prompt, unless one was asked for. */
    if (!prompt && parameters.prefill >= parameters.tokens)
        parameters.prefill = parameters.tokens < 4 ? parameters.tokens - 1 : parameters.tokens / 4 * 3;
    return status == KV_OK ? kv_trace_synth(path, &parameters, err) : status;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Of a layer, a head, a token: what is more is mistyped. */
enum { MOST_INDEX = 999999999 };

/* "0,3-5,9" in ascending order without repetition. */
static int parse_list(uint32_t list[1000], uint32_t *n, const char *option, const char *text,
                      struct kv_error *err)
{
    const char *at = text;
    bool good = *at != '\0';
    for (*n = 0; good && *at;) {
        uint32_t range[2];
        good = kv_read_range(&at, ',', MOST_INDEX, range) && range[1] - range[0] < 1000 - *n;
        for (uint32_t i = range[0]; good && i <= range[1]; i++) list[(*n)++] = i;
    }
    if (!good)
        return kv_fail(err, KV_EUSAGE, "trace slice: %s %s: expected numbers such as 0,3-5", option,
                       text);
    qsort(list, *n, sizeof *list, compare_numbers);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *n; i++)
        if (i == 0 || list[i] != list[i - 1]) list[kept++] = list[i];
    *n = kept;
    return KV_OK;
}

/* "A:B", ":B", "A:" or "N" (the first N). */
static int parse_tokens(struct kv_slice *slice, const char *text, struct kv_error *err)
{
    const char *at = text;
    uint64_t first = 0, end = 0;
    bool good = *at == ':' || kv_read_digits(&at, MOST_INDEX, &first);
    if (good && *at == ':') {
        at++;
        good = *at == '\0' || (kv_read_digits(&at, MOST_INDEX, &end) && end > first);
    } else end = first, first = 0;
    if (!good || *at || (end == 0 && first == 0))
        return kv_fail(err, KV_EUSAGE, "trace slice: --tokens %s: expected FIRST:END or a number",
                       text);
    slice->first = (uint32_t)first;
    slice->end = (uint32_t)end;
    return KV_OK;
}

static int parse_prefill(struct kv_slice *slice, const char *text, struct kv_error *err)
{
    uint64_t prefill;
    if (kv_read_whole(text, 1, MOST_INDEX, &prefill))
        return slice->prefill = (uint32_t)prefill, KV_OK;
    return kv_fail(err, KV_EUSAGE, "trace slice: --prefill %s: expected a number from 1", text);
}

static int need_out(const struct line *line, const char *path, struct kv_error *err)
{
    if (!path) return kv_fail(err, KV_EUSAGE, "%s: expected --out FILE, found none", line->who);
    for (uint32_t i = 0; i < line->n_files; i++)
        if (strcmp(line->files[i], path) == 0 || kv_same_file(line->files[i], path))
            return kv_fail(err, KV_EUSAGE,
                           "%s: --out %s: expected another file than the one it is made"
                           " from",
                           line->who, path);
    return KV_OK;
}

static void say(const char *path, const char *notes)
{
    if (*notes) fprintf(stderr, "kvbench: %s: %s\n", path, notes);
}

static int slice(int argc, char **argv, struct kv_error *err)
{
    static const char *const options[] = {
        "--out=", "--layers=", "--heads=", "--tokens=", "--prefill=", "--no-verify", NULL};
    struct line line = {.who = "trace slice", .options = options};
    struct kv_slice what = {0};
    struct kv_trace *trace = NULL;
    uint32_t layers[1000], heads[1000];
    char notes[256];
    int status = parse_line(&line, argc, argv, 1, 1, "trace slice FILE --out FILE [--layers LIST]"
                            " [--heads LIST] [--tokens FIRST:END] [--prefill N]", err);
    if (status == KV_OK) status = need_out(&line, line.values[0], err);
    if (status == KV_OK && line.values[1]) {
        what.layers = layers;
        status = parse_list(layers, &what.n_layers, "--layers", line.values[1], err);
    }
    if (status == KV_OK && line.values[2]) {
        what.heads = heads;
        status = parse_list(heads, &what.n_heads, "--heads", line.values[2], err);
    }
    if (status == KV_OK && line.values[3]) status = parse_tokens(&what, line.values[3], err);
    if (status == KV_OK && line.values[4]) status = parse_prefill(&what, line.values[4], err);
    if (status == KV_OK)
        status = kv_trace_open(&trace, line.files[0], line.values[5] ? KV_NO_VERIFY : 0, err);
    if (status == KV_OK) status = kv_trace_slice(line.values[0], trace, &what, notes, err);
    if (status == KV_OK) say(line.values[0], notes);
    kv_trace_close(trace);
    return status;
}

static int merge(int argc, char **argv, struct kv_error *err)
{
    static const char *const options[] = {"--out=", NULL};
    struct line line = {.who = "trace merge", .options = options};
    struct kv_trace *a = NULL, *b = NULL;
    char notes[256];
    int status = parse_line(&line, argc, argv, 2, 2, "trace merge FILE FILE --out FILE", err);
    if (status == KV_OK) status = need_out(&line, line.values[0], err);
    if (status == KV_OK) status = kv_trace_open(&a, line.files[0], 0, err);
    if (status == KV_OK) status = kv_trace_open(&b, line.files[1], 0, err);
    if (status == KV_OK) status = kv_trace_merge(line.values[0], a, b, notes, err);
    if (status == KV_OK) say(line.values[0], notes);
    kv_trace_close(a);
    kv_trace_close(b);
    return status;
}

static int record(int argc, char **argv, struct kv_error *err)
{
    return kv_record_front(argc - 2, argv + 2, err);
}

int kv_cmd_trace(int argc, char **argv, struct kv_error *err)
{
    static const char *const names[] = {"validate", "hash",   "synth", "slice",
                                        "merge",    "record", NULL};
    static int (*const commands[])(int, char **, struct kv_error *) = {validate, hash, synth, slice,
                                                                       merge, record};
    if (argc < 2)
        return kv_fail(err, KV_EUSAGE,
                       "trace: expected validate, hash, synth, slice, merge or record,"
                       " found nothing");
    for (size_t i = 0; names[i]; i++)
        if (strcmp(argv[1], names[i]) == 0) return commands[i](argc, argv, err);
    const char *nearest = kv_nearest(argv[1], names);
    return kv_fail(err, KV_EUSAGE,
                   "trace: expected validate, hash, synth, slice, merge or record, found"
                   " %s%s%s",
                   argv[1], nearest ? "; the nearest known one is " : "", nearest ? nearest : "");
}
