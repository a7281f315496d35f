/* Options of kvbench memory; see memory_options.h. */
#include "harness/commands/memory_options.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/number.h"
#include "harness/commands/arguments.h"
#include "harness/output/files/writers.h"

#define USUAL_METHODS "f16,int:bits=8,int:bits=4,kivi:bits=2,turboquant:bits=3"

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

#define FIELD(field) offsetof(struct kv_memory_options, field)

static int take_amount(const struct kv_given *given, struct kv_error *err)
{
    const struct kv_argument *argument = given->argument;
    char what[96];
    uint64_t *field = (uint64_t *)((char *)given->target + argument->offset), amount;
    if (read_amount(given->value, &amount) && (double)amount >= argument->least &&
        (double)amount <= argument->most)
        return *field = amount, KV_OK;
    snprintf(what, sizeof what, "a whole number from %.0f to %.0f, with k, Ki, GiB and so on",
             argument->least, argument->most);
    return kv_given_refuse(given, what, err);
}

/* Asks for the serving tables too. */
static int take_serving(const struct kv_given *given, struct kv_error *err)
{
    ((struct kv_memory_options *)given->target)->serving = true;
    return take_amount(given, err);
}

static int take_models(const struct kv_given *given, struct kv_error *err)
{
    struct kv_memory_options *options = given->target;
    for (const char *at = given->value; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        const size_t length = strcspn(at, ",");
        if (!length) return kv_given_refuse(given, "names", err);
        if (options->n_models == KV_MOST_MODELS)
            return kv_fail(err, KV_EUSAGE, "memory: expected at most %d models", KV_MOST_MODELS);
        char *name = strndup(at, length);
        if (!name) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
        options->models[options->n_models++] = name;
    }
    return KV_OK;
}

static int take_format(const struct kv_given *given, struct kv_error *err)
{
    ((struct kv_memory_options *)given->target)->format = given->value;
    return kv_check_format(given->value, err);
}

static const struct kv_argument table[] = {
    {"--model", KV_TAKEN, 0, "LIST", "names (kvbench list models) or files", .take = take_models},
    {"", KV_TAKEN, 0, "LIST", NULL, .take = take_models},
    {"--methods", KV_JOINED, FIELD(methods), "LIST", "specs as of run (default " USUAL_METHODS ")"},
    {"--weights-bits", KV_REAL, FIELD(weights_bits), "X",
     "of a weight (default: the model's, else 16)", 1e-3, 64},
    {"--format", KV_TAKEN, 0, "NAME", "table, markdown, csv or json", .take = take_format},
    {"--plot", KV_TEXT, FIELD(plot), "DIR", "bytes against the context, drawn by gnuplot"},
    {"--all-rows", KV_SWITCH, FIELD(all_rows), NULL, "local layers keep every row"},
    {"--serving", KV_SWITCH, FIELD(serving), NULL, "what vLLM, SGLang and TensorRT-LLM allocate"},
    {"--context", KV_TAKEN, FIELD(context), "N",
     "tokens of a sequence (default: 32Ki, or what the model takes)", 1, 1 << 30,
     .take = take_amount},
    {"--batch", KV_TAKEN, FIELD(batch), "N", "sequences", 1, 1e9, .take = take_amount},
    {"--decode", KV_TAKEN, FIELD(decode), "N", "of the context, tokens that came one by one", 0,
     1 << 24, .take = take_amount},
    {"--element-bits", KV_TAKEN, FIELD(element_bits), "N",
     "of rows that are kept as they are: 16 or 32", 16, 32, .take = take_amount},
    {"--state-bits", KV_TAKEN, FIELD(state_bits), "N", "of recurrent states: 8, 16 or 32", 8, 32,
     .take = take_amount},
    {"--fit", KV_TAKEN, FIELD(fit), "N", "memory for weights and cache, such as 8GiB", 1, 0x1p53,
     .take = take_amount},
    {"--block", KV_TAKEN, FIELD(block), "N", "tokens of a block (default: the engine's)", 1,
     1 << 20, .take = take_serving},
    {"--chunk", KV_TAKEN, FIELD(chunk), "N", "prompt tokens of one step", 1, 1 << 30,
     .take = take_serving},
    {"--tp", KV_TAKEN, FIELD(tensor), "N", "devices that share heads", 1, 65536,
     .take = take_serving},
    {"--cp", KV_TAKEN, FIELD(contexts), "N", "devices that share the context", 1, 65536,
     .take = take_serving},
    {"--ring", KV_TAKEN, FIELD(ring), "N", "devices of a ring", 1, 65536, .take = take_serving},
    {"--users", KV_TAKEN, FIELD(users), "N", "users of one prefix", 1, 1e9, .take = take_serving},
    {"--prefix", KV_TAKEN, FIELD(prefix), "N", "tokens of that prefix", 0, 1 << 30,
     .take = take_serving},
    {NULL}};

static const struct kv_arguments arguments = {
    .who = "memory",
    .usage =
        "kvbench memory --model NAME|config.json[,...]: bytes of a cache, without a recording\n\n",
    .table = table};

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

int kv_memory_options_read(struct kv_memory_options *options, int n, char **words,
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
    int status = kv_arguments_read(&arguments, options, n, words, err);
    if (status == KV_OK) status = check_options(options, err);
    if (status == KV_OK && !options->methods && !(options->methods = strdup(USUAL_METHODS)))
        status = kv_fail(err, KV_EMEMORY, "memory: out of memory");
    return status;
}

void kv_memory_options_free(struct kv_memory_options *options)
{
    for (uint32_t m = 0; m < options->n_models; m++) free(options->models[m]);
    free(options->methods);
}
