/* kvbench info TRACE... [--json] [--no-verify] */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "harness/commands/arguments.h"
#include "harness/commands/commands.h"
#include "harness/output/tables/info.h"
#include "harness/run/refusals.h"
#include "methods/spec/spec.h"

static uint32_t print_refusal(const struct kv_trace *trace, const char *method, uint32_t n)
{
    struct kv_error why;
    if (!kv_run_refuses(trace, method, &why)) return n;
    const bool named = strncmp(why.text, method, strlen(method)) == 0;
    printf("%s%s%s%s\n", n ? "             " : "cannot run:  ", named ? "" : method,
           named ? "" : ": ", why.text);
    return n + 1;
}

/* Methods that cannot run on this trace with their defaults, with the reason. */
static void print_refusals(const struct kv_trace *trace)
{
    uint32_t n = 0;
    for (int i = 0; kv_policies[i]; i++) n = print_refusal(trace, kv_policies[i]->name, n);
    for (int i = 0; kv_codecs[i]; i++) n = print_refusal(trace, kv_codecs[i]->name, n);
    if (!n) printf("cannot run:  every method runs on it with its defaults\n");
}

static int info_one(const char *path, unsigned flags, bool json, struct kv_error *err)
{
    struct kv_trace *trace;
    int status = kv_trace_open(&trace, path, flags, err);
    if (status != KV_OK) return status;
    status = kv_info_print(stdout, trace, json, err);
    if (status == KV_OK && !json) print_refusals(trace);
    kv_trace_close(trace);
    return status;
}

struct info_options {
    struct kv_texts traces;
    bool json, no_verify;
};

#define FIELD(field) offsetof(struct info_options, field)

static const struct kv_argument table[] = {
    {"--json", KV_SWITCH, FIELD(json), NULL, "the same as JSON"},
    {"--no-verify", KV_SWITCH, FIELD(no_verify), NULL, "skip the content hash"},
    {"", KV_TEXTS, FIELD(traces), "TRACE...", NULL, 1, KV_MOST_TEXTS},
    {NULL}};

static const struct kv_arguments arguments = {
    .who = "info",
    .usage = "kvbench info TRACE...: model, shapes, probes, and what cannot run on it\n\n",
    .table = table};

int kv_cmd_info(int argc, char **argv, struct kv_error *err)
{
    struct info_options options = {0};
    int status = kv_arguments_read(&arguments, &options, argc - 1, argv + 1, err);
    for (uint32_t t = 0; status == KV_OK && t < options.traces.n; t++) {
        if (t && !options.json) putchar('\n');
        status =
            info_one(options.traces.at[t], options.no_verify ? KV_NO_VERIFY : 0, options.json, err);
    }
    return status;
}
