/* kvbench trace validate|hash|synth|slice|merge|record: traces as files. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/number.h"
#include "harness/base/params.h"
#include "harness/commands/arguments.h"
#include "harness/commands/commands.h"
#include "harness/commands/record_front.h"
#include "harness/output/files/aside.h"
#include "traces/hash.h"
#include "traces/slice.h"
#include "traces/synth.h"

struct line { /* of any of the subcommands but synth */
    struct kv_texts files;
    const char *out;
    struct kv_numbers layers, heads;
    uint32_t first, end, prefill; /* tokens first..end-1, as of struct kv_slice */
    bool no_verify;
};

#define FIELD(field) offsetof(struct line, field)

static const struct kv_argument validate_table[] = {
    {"--no-verify", KV_SWITCH, FIELD(no_verify), NULL, "skip the content hash"},
    {"", KV_TEXTS, FIELD(files), "FILE...", NULL, 1, KV_MOST_TEXTS},
    {NULL}};

static int validate(int n, char **words, struct kv_error *err)
{
    struct line line = {0};
    const struct kv_arguments arguments = {"trace validate", "kvbench trace validate FILE...\n\n",
                                           NULL, validate_table};
    int status = kv_arguments_read(&arguments, &line, n, words, err);
    for (uint32_t i = 0; i < line.files.n && status == KV_OK; i++) {
        struct kv_trace *trace;
        status = kv_trace_open(&trace, line.files.at[i], line.no_verify ? KV_NO_VERIFY : 0, err);
        if (status != KV_OK) break;
        if (line.files.n > 1) printf("%s: ", line.files.at[i]);
        puts("ok");
        kv_trace_close(trace);
    }
    return status;
}

static int hash(int n, char **words, struct kv_error *err)
{
    struct line line = {0};
    const struct kv_arguments arguments = {"trace hash", "kvbench trace hash FILE...\n\n", NULL,
                                           validate_table + 1};
    int status = kv_arguments_read(&arguments, &line, n, words, err);
    for (uint32_t i = 0; i < line.files.n && status == KV_OK; i++) {
        struct kv_h5 *file;
        char text[KV_HASH_TEXT];
        status = kv_h5_open(&file, line.files.at[i], err);
        if (status == KV_OK) status = kv_hash_file(text, file, 0, err);
        kv_h5_close(file);
        if (status == KV_OK && line.files.n > 1)
            printf("%s  %s\n", text, line.files.at[i]);
        else if (status == KV_OK)
            puts(text);
    }
    return status;
}

/* --q-heads 8 or --q-heads=8 sets the parameter q_heads. */
static int synth_option(struct kv_synth *synth, int n, char **words, int *i, struct kv_error *err)
{
    char name[64];
    const char *option = words[*i] + 2;
    const size_t length = strcspn(option, "=");
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1),
             option);
    for (char *c = name; *c; c++)
        if (*c == '-') *c = '_';
    if (option[length] != '=' && *i + 1 >= n)
        return kv_fail(err, KV_EUSAGE, "trace synth: --%s: expected a value, found nothing",
                       option);
    const char *value = option[length] == '=' ? option + length + 1 : words[++*i];
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
        printf("  %-18s %-8s %s%s%s%s\n", option, strchr(set, '=') ? strchr(set, '=') + 1 : "",
               param->meaning, param->choices ? " (" : "", param->choices ? param->choices : "",
               param->choices ? ")" : "");
    }
    return KV_OK;
}

static int synth(int n, char **words, struct kv_error *err)
{
    if (n == 1 && strcmp(words[0], "--help") == 0) return synth_help();
    struct kv_synth parameters;
    const char *path = NULL;
    int status = KV_OK;
    bool prompt = false;
    kv_params_defaults(kv_synth_params, &parameters);
    for (int i = 0; i < n && status == KV_OK; i++) {
        prompt |= strncmp(words[i], "--prefill", 9) == 0;
        if (strncmp(words[i], "--", 2) == 0)
            status = synth_option(&parameters, n, words, &i, err);
        else if (path)
            status = kv_fail(err, KV_EUSAGE, "trace synth: expected one FILE, found %s and %s",
                             path, words[i]);
        else
            path = words[i];
    }
    if (status == KV_OK && !path)
        status =
            kv_fail(err, KV_EUSAGE, "trace synth: expected FILE [--NAME VALUE]..., found nothing");
    /* A text shorter than the usual prompt is a shorter prompt, unless one was asked for. */
    if (!prompt && parameters.prefill >= parameters.tokens)
        parameters.prefill =
            parameters.tokens < 4 ? parameters.tokens - 1 : parameters.tokens / 4 * 3;
    return status == KV_OK ? kv_trace_synth(path, &parameters, err) : status;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Ascending, without repetition. */
static void sort_numbers(struct kv_numbers *list)
{
    uint32_t kept = 0;
    qsort(list->at, list->n, sizeof *list->at, compare_numbers);
    for (uint32_t i = 0; i < list->n; i++)
        if (i == 0 || list->at[i] != list->at[i - 1]) list->at[kept++] = list->at[i];
    list->n = kept;
}

/* Of a token: what is more is mistyped. */
enum { MOST_INDEX = 999999999 };

/* "A:B", ":B", "A:" or "N" (the first N). */
static int take_tokens(const struct kv_given *given, struct kv_error *err)
{
    struct line *line = given->target;
    const char *at = given->value;
    uint64_t first = 0, end = 0;
    bool good = *at == ':' || kv_read_digits(&at, MOST_INDEX, &first);
    if (good && *at == ':') {
        at++;
        good = *at == '\0' || (kv_read_digits(&at, MOST_INDEX, &end) && end > first);
    } else
        end = first, first = 0;
    if (!good || *at || (end == 0 && first == 0))
        return kv_given_refuse(given, "FIRST:END or a number", err);
    line->first = (uint32_t)first, line->end = (uint32_t)end;
    return KV_OK;
}

static int check_out(const struct line *line, const char *who, struct kv_error *err)
{
    for (uint32_t i = 0; i < line->files.n; i++)
        if (strcmp(line->files.at[i], line->out) == 0 || kv_same_file(line->files.at[i], line->out))
            return kv_fail(err, KV_EUSAGE,
                           "%s: --out %s: expected another file than the one it is made from", who,
                           line->out);
    return KV_OK;
}

static void say(const char *path, const char *notes)
{
    if (*notes) fprintf(stderr, "kvbench: %s: %s\n", path, notes);
}

static const struct kv_argument slice_table[] = {
    {"--out", KV_TEXT, FIELD(out), "FILE", "the file to write", 1},
    {"--layers", KV_LIST, FIELD(layers), "LIST", "of the model, such as 0,3-5", 0,
     KV_MOST_NUMBERS - 1, KV_MOST_NUMBERS},
    {"--heads", KV_LIST, FIELD(heads), "LIST", "KV heads, each with its query heads", 0, UINT16_MAX,
     KV_MOST_NUMBERS},
    {"--tokens", KV_TAKEN, 0, "FIRST:END|N", "END is left out; N is the first N",
     .take = take_tokens},
    {"--prefill", KV_WHOLE, FIELD(prefill), "N", "tokens of the prompt in the new file", 1,
     MOST_INDEX},
    {"--no-verify", KV_SWITCH, FIELD(no_verify), NULL, "skip the content hash"},
    {"", KV_TEXTS, FIELD(files), "FILE", NULL, 1, 1},
    {NULL}};

static int slice(int n, char **words, struct kv_error *err)
{
    const struct kv_arguments arguments = {"trace slice", "kvbench trace slice FILE --out FILE\n\n",
                                           NULL, slice_table};
    struct line line = {0};
    struct kv_trace *trace = NULL;
    char notes[256];
    int status = kv_arguments_read(&arguments, &line, n, words, err);
    if (status == KV_OK) status = check_out(&line, arguments.who, err);
    if (status == KV_OK)
        status = kv_trace_open(&trace, line.files.at[0], line.no_verify ? KV_NO_VERIFY : 0, err);
    sort_numbers(&line.layers), sort_numbers(&line.heads);
    const struct kv_slice what = {.layers = line.layers.n ? line.layers.at : NULL,
                                  .n_layers = line.layers.n,
                                  .heads = line.heads.n ? line.heads.at : NULL,
                                  .n_heads = line.heads.n,
                                  .first = line.first,
                                  .end = line.end,
                                  .prefill = line.prefill};
    if (status == KV_OK) status = kv_trace_slice(line.out, trace, &what, notes, err);
    if (status == KV_OK) say(line.out, notes);
    kv_trace_close(trace);
    return status;
}

static const struct kv_argument merge_table[] = {
    {"--out", KV_TEXT, FIELD(out), "FILE", "the file to write", 1},
    {"", KV_TEXTS, FIELD(files), "FILE FILE", NULL, 2, 2},
    {NULL}};

static int merge(int n, char **words, struct kv_error *err)
{
    const struct kv_arguments arguments = {
        "trace merge", "kvbench trace merge FILE FILE --out FILE\n\n", NULL, merge_table};
    struct line line = {0};
    struct kv_trace *a = NULL, *b = NULL;
    char notes[256];
    int status = kv_arguments_read(&arguments, &line, n, words, err);
    if (status == KV_OK) status = check_out(&line, arguments.who, err);
    if (status == KV_OK) status = kv_trace_open(&a, line.files.at[0], 0, err);
    if (status == KV_OK) status = kv_trace_open(&b, line.files.at[1], 0, err);
    if (status == KV_OK) status = kv_trace_merge(line.out, a, b, notes, err);
    if (status == KV_OK) say(line.out, notes);
    kv_trace_close(a);
    kv_trace_close(b);
    return status;
}

static const char usage[] =
    "kvbench trace validate FILE... [--no-verify]\n"
    "kvbench trace hash FILE...\n"
    "kvbench trace synth FILE [--NAME VALUE]...         trace synth --help lists the names\n"
    "kvbench trace slice FILE --out FILE [--layers LIST] [--heads LIST] [--tokens N] [--prefill "
    "N]\n"
    "kvbench trace merge FILE FILE --out FILE\n"
    "kvbench trace record ...                           trace record --help; needs Python\n";

int kv_cmd_trace(int argc, char **argv, struct kv_error *err)
{
    static const char *const names[] = {"validate", "hash",   "synth", "slice",
                                        "merge",    "record", NULL};
    static int (*const commands[])(int, char **, struct kv_error *) = {
        validate, hash, synth, slice, merge, kv_record_front};
    const char *word = argc > 1 ? argv[1] : "nothing";
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return fputs(usage, stdout), KV_HELPED;
    for (size_t i = 0; names[i]; i++)
        if (strcmp(word, names[i]) == 0) return commands[i](argc - 2, argv + 2, err);
    return kv_fail(err, KV_EUSAGE,
                   "trace: expected validate, hash, synth, slice, merge or record, found %s%s",
                   word, argc > 1 ? kv_hint(word, names).text : "");
}
