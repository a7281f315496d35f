/* kvbench info TRACE... [--json] [--no-verify] */
#include <stdio.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/commands.h"
#include "harness/info.h"

static int info_one(const char *path, unsigned flags, bool json, struct kv_error *err)
{
    struct kv_trace *trace;
    int status = kv_trace_open(&trace, path, flags, err);
    if (status != KV_OK) return status;
    status = kv_info_print(stdout, trace, json, err);
    kv_trace_close(trace);
    return status;
}

int kv_cmd_info(int argc, char **argv, struct kv_error *err)
{
    static const char *const options[] = {"--json", "--no-verify", NULL};
    unsigned flags = 0, files = 0;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) json = true;
        else if (strcmp(argv[i], "--no-verify") == 0) flags = KV_NO_VERIFY;
        else if (argv[i][0] != '-') files++;
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
