/* `check METHOD|all`: the conformance kit (check.h) on specs, or on every registered method. */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "harness/check/check.h"
#include "harness/commands/arguments.h"
#include "harness/commands/commands.h"

struct check_options {
    const char *isa, *methods;
    bool quiet, list;
};

static int check_list(const char *list, const struct check_options *options,
                      struct kv_check_counts *counts, struct kv_error *err)
{
    struct kv_spec_list specs;
    const int status = kv_spec_parse(&specs, list, err);
    if (status != KV_OK) return status;
    for (uint32_t s = 0; s < specs.n; s++)
        kv_check_spec(&specs.specs[s], options->isa, options->quiet, stdout, counts);
    kv_spec_free(&specs);
    return KV_OK;
}

/* Every method alone, every policy with a quantizer, a block quantizer and a chain below it,
 * policies in a row, rows on the host, and a question that is not known. */
static int check_all(const struct check_options *options, struct kv_check_counts *counts,
                     struct kv_error *err)
{
    static const char *const below[] = {"int:bits=4", "kivi:bits=2:residual_length=32",
                                        "svd:rank=16+int:bits=4"};
    static const char *const others[] = {
        "h2o:budget=96+window:budget=48",
        "snapkv:budget=0.5+tova:budget=0.3",
        "h2o:budget=64+rest+v.none",
        "v.none:recent=32",
        "k.svd:rank=16+v.f16:where=host",
        "snapkv:budget=64+f16+rest+quest:budget=64+f16:where=host",
        "snapkv:budget=0.4:query=agnostic+quest:budget=32:dense_layers=0"};
    int status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < sizeof others / sizeof *others; i++)
        status = check_list(others[i], options, counts, err);
    for (int i = 0; status == KV_OK && kv_codecs[i]; i++)
        status = check_list(kv_codecs[i]->name, options, counts, err);
    for (int i = 0; status == KV_OK && kv_answers[i]; i++)
        status = check_list(kv_answers[i]->name, options, counts, err);
    for (int i = 0; status == KV_OK && kv_policies[i]; i++) {
        status = check_list(kv_policies[i]->name, options, counts, err);
        for (size_t b = 0; status == KV_OK && b < sizeof below / sizeof *below; b++) {
            char spec[256];
            snprintf(spec, sizeof spec, "%s+%s", kv_policies[i]->name, below[b]);
            status = check_list(spec, options, counts, err);
        }
    }
    return status;
}

static int print_list(void)
{
    for (const struct kv_invariant_text *text = kv_check_list(); text->name; text++)
        printf("%-48s %s\n", text->name, text->meaning);
    return KV_OK;
}

#define FIELD(field) offsetof(struct check_options, field)

static const struct kv_argument table[] = {
    {"--isa", KV_TEXT, FIELD(isa), "NAME", "kernel set"},
    {"--list", KV_SWITCH, FIELD(list), NULL, "the invariants, without running them"},
    {"--quiet", KV_SWITCH, FIELD(quiet), NULL, "failures and the count alone"},
    {"", KV_TEXT, FIELD(methods), "LIST|all"},
    {NULL}};

static const struct kv_arguments arguments = {
    .who = "check", .usage = "kvbench check LIST|all\n\n", .table = table};

int kv_cmd_check(int argc, char **argv, struct kv_error *err)
{
    struct check_options options = {.isa = "auto"};
    struct kv_check_counts counts = {0};
    struct kv_kernels kernels;
    int status = kv_arguments_read(&arguments, &options, argc - 1, argv + 1, err);
    if (status == KV_OK && options.list) return print_list();
    if (status == KV_OK && !options.methods)
        status = kv_fail(err, KV_EUSAGE, "check: expected a method or `all`, found nothing");
    if (status == KV_OK) status = kv_kernels_fill(&kernels, options.isa, err);
    if (status != KV_OK) return status;
    status = strcmp(options.methods, "all") == 0
                 ? check_all(&options, &counts, err)
                 : check_list(options.methods, &options, &counts, err);
    if (status != KV_OK) return status;
    printf("%u passed, %u failed, %u skipped\n", counts.passed, counts.failed, counts.skipped);
    if (counts.failed == 0) return KV_OK;
    return kv_fail(err, KV_EGATE, "%u invariants do not hold", counts.failed);
}
