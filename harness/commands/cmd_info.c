/* kvbench info TRACE... [--json] [--no-verify] */
#include <stdio.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/commands/commands.h"
#include "harness/output/info.h"
#include "harness/run/refusals.h"
#include "methods/spec.h"

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

int kv_cmd_info(int argc, char **argv, struct kv_error *err)
{
    static const char *const options[] = {"--json", "--no-verify", NULL};
    unsigned flags = 0, files = 0;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--no-verify") == 0)
            flags = KV_NO_VERIFY;
        else if (argv[i][0] != '-')
            files++;
        else {
            const char *nearest = kv_nearest(argv[i], options);
            return kv_fail(err, KV_EUSAGE, "info: unknown option %s%s%s", argv[i],
                           nearest ? "; the nearest known one is " : "", nearest ? nearest : "");
        }
    }
    if (files == 0)
        return kv_fail(err, KV_EUSAGE,
                       "info: expected info TRACE... [--json] [--no-verify], found no"
                       " trace");
    int status = KV_OK;
    for (int i = 1; i < argc && status == KV_OK; i++) {
        if (argv[i][0] == '-') continue;
        status = info_one(argv[i], flags, json, err);
        if (status == KV_OK && --files && !json) putchar('\n');
    }
    return status;
}
