/* Options of kvbench memory; see memory_options.h. */
#include "harness/commands/memory_options.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/number.h"
#include "harness/base/params.h"
#include "harness/output/writers.h"

static const char usual_methods[] = "f16,int:bits=8,int:bits=4,kivi:bits=2,turboquant:bits=3";

/* 8GiB, 80GB, 128Ki, 32k, 7: a whole number of bytes or tokens. */
static bool read_amount(const char *text, uint64_t *amount)
{
    char number[64];
    double value;
    size_t length = strlen(text);
    if (length >= sizeof number) return false;
    memcpy(number, text, length + 1);
    if (length && number[length - 1] == 'B') number[--length] = 0;
    if (length && number[length - 1] == 'K') number[length - 1] = 'k'; /* KB beside kB */
    if (!kv_read_real(number, &value) || value < 0 || value > 0x1p53 || value != floor(value))
        return false;
    return *amount = (uint64_t)value, true;
}

static const struct option {
    const char *name;
    size_t offset;
    double least, most;
    bool serving; /* asks for the serving tables too */
    const char *meaning;
} amounts[] = {
    {"--context", offsetof(struct kv_memory_options, context), 1, 1 << 30, false,
     "tokens of a sequence (default: 32Ki, or what the model takes)"},
    {"--batch", offsetof(struct kv_memory_options, batch), 1, 1e9, false, "sequences"},
    {"--decode", offsetof(struct kv_memory_options, decode), 0, 1 << 24, false,
     "of the context, tokens that came one by one"},
    {"--element-bits", offsetof(struct kv_memory_options, element_bits), 16, 32, false,
     "of rows that are kept as they are: 16 or 32"},
    {"--state-bits", offsetof(struct kv_memory_options, state_bits), 8, 32, false,
     "of recurrent states: 8, 16 or 32"},
    {"--fit", offsetof(struct kv_memory_options, fit), 1, 0x1p53, false,
     "memory for weights and cache, such as 8GiB"},
    {"--block", offsetof(struct kv_memory_options, block), 1, 1 << 20, true,
     "tokens of a block (default: the engine's)"},
    {"--chunk", offsetof(struct kv_memory_options, chunk), 1, 1 << 30, true,
     "prompt tokens of one step"},
    {"--tp", offsetof(struct kv_memory_options, tensor), 1, 65536, true,
     "devices that share heads"},
    {"--cp", offsetof(struct kv_memory_options, contexts), 1, 65536, true,
     "devices that share the context"},
    {"--ring", offsetof(struct kv_memory_options, ring), 1, 65536, true, "devices of a ring"},
    {"--users", offsetof(struct kv_memory_options, users), 1, 1e9, true, "users of one prefix"},
    {"--prefix", offsetof(struct kv_memory_options, prefix), 0, 1 << 30, true,
     "tokens of that prefix"}};

enum { N_AMOUNTS = sizeof amounts / sizeof *amounts };

static const char *const known[] = {
    "--model",      "--methods", "--format",  "--plot",  "--weights-bits", "--all-rows",
    "--serving",    "--help",    "--context", "--batch", "--decode",       "--element-bits",
    "--state-bits", "--fit",     "--block",   "--chunk", "--tp",           "--cp",
    "--ring",       "--users",   "--prefix",  NULL};

static int take_amount(struct kv_memory_options *options, const struct option *option,
                       const char *value, struct kv_error *err)
{
    uint64_t amount;
    if (!read_amount(value, &amount) || (double)amount < option->least ||
        (double)amount > option->most)
        return kv_fail(err, KV_EUSAGE,
                       "memory: %s: expected a whole number from %.0f to %.0f, with k, Ki, GiB and "
                       "so on, found %.60s",
                       option->name, option->least, option->most, value);
    memcpy((char *)options + option->offset, &amount, sizeof amount);
    options->serving |= option->serving;
    return KV_OK;
}

static int take_models(struct kv_memory_options *options, const char *value, struct kv_error *err)
{
    for (const char *at = value; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        const size_t length = strcspn(at, ",");
        if (!length)
            return kv_fail(err, KV_EUSAGE, "memory: --model: expected names, found %.200s", value);
        if (options->n_models == KV_MOST_MODELS)
            return kv_fail(err, KV_EUSAGE, "memory: expected at most %d models", KV_MOST_MODELS);
        char *name = strndup(at, length);
        if (!name) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
        options->models[options->n_models++] = name;
    }
    return KV_OK;
}

/* Lists given more than once are one. */
static int take_methods(struct kv_memory_options *options, const char *value, struct kv_error *err)
{
    char *all = NULL;
    const char *before = options->methods ? options->methods : "";
    if (asprintf(&all, "%s%s%s", before, *before ? "," : "", value) < 0)
        return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    free(options->methods);
    options->methods = all;
    return KV_OK;
}

static int take_weights(struct kv_memory_options *options, const char *value, struct kv_error *err)
{
    char *end;
    options->weights_bits = strtod(value, &end);
    if (*value && !*end && options->weights_bits > 0 && options->weights_bits <= 64) return KV_OK;
    return kv_fail(err, KV_EUSAGE,
                   "memory: --weights-bits: expected a number from above 0 to 64, found %.60s",
                   value);
}

static int take_valued(struct kv_memory_options *options, const char *name, const char *value,
                       struct kv_error *err)
{
    if (strcmp(name, "--model") == 0) return take_models(options, value, err);
    if (strcmp(name, "--methods") == 0) return take_methods(options, value, err);
    if (strcmp(name, "--weights-bits") == 0) return take_weights(options, value, err);
    if (strcmp(name, "--plot") == 0) return options->plot = value, KV_OK;
    if (strcmp(name, "--format") == 0) {
        options->format = value;
        return kv_check_format(value, err);
    }
    for (int i = 0; i < N_AMOUNTS; i++)
        if (strcmp(amounts[i].name, name) == 0)
            return take_amount(options, &amounts[i], value, err);
    const char *near = kv_nearest(name, known);
    return kv_fail(err, KV_EUSAGE, "memory: unknown option %.60s%s%s%s", name,
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static bool is_known(const char *name)
{
    for (int i = 0; known[i]; i++)
        if (strcmp(known[i], name) == 0) return true;
    return false;
}

static int take_argument(struct kv_memory_options *options, int argc, char **argv, int *i,
                         struct kv_error *err)
{
    char name[64];
    const char *argument = argv[*i], *equals = strchr(argument, '=');
    if (strcmp(argument, "--all-rows") == 0) return options->all_rows = true, KV_OK;
    if (strcmp(argument, "--serving") == 0) return options->serving = true, KV_OK;
    if (argument[0] != '-') return take_models(options, argument, err);
    snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - argument) : 63, argument);
    if (!is_known(name)) return take_valued(options, name, "", err);
    if (!equals && *i + 1 == argc)
        return kv_fail(err, KV_EUSAGE, "memory: %s: expected a value after it", name);
    return take_valued(options, name, equals ? equals + 1 : argv[++*i], err);
}

static void print_help(void)
{
    printf(
        "kvbench memory --model NAME|config.json[,...]: bytes of a cache, without a recording\n\n"
        "  --model LIST       names (kvbench list models) or files\n"
        "  --methods LIST     specs as of run (default %s)\n"
        "  --weights-bits X   of a weight (default: the model's, else 16)\n"
        "  --format F         table, markdown, csv or json\n"
        "  --plot DIR         bytes against the context, drawn by gnuplot\n"
        "  --all-rows         local layers keep every row\n"
        "  --serving          what vLLM, SGLang and TensorRT-LLM allocate\n",
        usual_methods);
    for (int i = 0; i < N_AMOUNTS; i++) printf("  %-18s %s\n", amounts[i].name, amounts[i].meaning);
}

static int check_options(const struct kv_memory_options *options, struct kv_error *err)
{
    if (!options->n_models)
        return kv_fail(err, KV_EUSAGE,
                       "memory: expected --model NAME or a config.json (kvbench list models)");
    if (options->element_bits != 16 && options->element_bits != 32)
        return kv_fail(err, KV_EUSAGE, "memory: --element-bits: expected 16 or 32, found %" PRIu64,
                       options->element_bits);
    if (options->state_bits % 8 || options->state_bits == 24)
        return kv_fail(err, KV_EUSAGE, "memory: --state-bits: expected 8, 16 or 32, found %" PRIu64,
                       options->state_bits);
    return KV_OK;
}

int kv_memory_options_read(struct kv_memory_options *options, int argc, char **argv, bool *help,
                           struct kv_error *err)
{
    *options = (struct kv_memory_options){.format = "table",
                                          .batch = 1,
                                          .element_bits = 16,
                                          .state_bits = 16,
                                          .chunk = 1,
                                          .tensor = 1,
                                          .contexts = 1,
                                          .ring = 1,
                                          .users = 1};
    *help = false;
    int status = KV_OK;
    for (int i = 1; status == KV_OK && i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help();
            *help = true;
            return KV_OK;
        }
        status = take_argument(options, argc, argv, &i, err);
    }
    if (status == KV_OK) status = check_options(options, err);
    if (status == KV_OK && !options->methods) status = take_methods(options, usual_methods, err);
    return status;
}

void kv_memory_options_free(struct kv_memory_options *options)
{
    for (uint32_t m = 0; m < options->n_models; m++) free(options->models[m]);
    free(options->methods);
}
