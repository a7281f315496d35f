/* kvbench info TRACE... [--json] [--no-verify] */
#include <stdio.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/commands/commands.h"
#include "harness/output/info.h"
#include "methods/spec.h"

/* A basis of the prompt needs a prompt long enough; what the rows are does not matter. */
static int fit_to_length(struct kv_code *code, uint32_t n, struct kv_pool *pool, struct kv_error *why)
{
    enum { ENOUGH = 256 };             /* more rows than any default asks for */
    if (!code->type->fit) return KV_OK;
    const struct kv_sample sample = {.n = n < ENOUGH ? n : ENOUGH,
                                     .rows = kv_pool_take(pool, (size_t)ENOUGH * code->dim * sizeof(float)),
                                     .positions = kv_pool_take(pool, ENOUGH * sizeof(uint32_t))};
    return sample.rows && sample.positions ? code->type->fit(code, &sample, why) : KV_OK;
}

/* The first recorded layer that a codec with its defaults cannot store, and why; false when none. */
static bool find_refusal(const struct kv_trace *trace, const struct kv_codec *codec, struct kv_error *why)
{
    const struct kv_modifiers plain = {.sinks = -1, .recent = -1};
    const struct kv_stage stage = {.codec = codec, .modifiers = {plain, plain}};
    struct kv_kernels kernels;
    bool refused = false;
    if (kv_kernels_fill(&kernels, "generic", why) != KV_OK) return false;
    for (uint32_t l = 0; !refused && l < trace->n_layers; l++)
        for (int side = 0; !refused && side < 2; side++) {
            const struct kv_geometry *geometry = &trace->layers[l].geometry;
            if (side && geometry->values_in_keys) continue;
            struct kv_pool *pool = kv_pool_create(0);
            if (!pool) return false;
            const struct kv_setup setup = {.geometry = geometry, .kernels = &kernels, .pool = pool, .seed = 1,
                                           .n_heads = 1, .side = side ? KV_VALUES : KV_KEYS};
            struct kv_code *code;
            int status = kv_create_code(&code, &stage, &setup, side ? geometry->value_dim : geometry->key_dim, why);
            if (status == KV_OK) status = fit_to_length(code, geometry->prefill, pool, why);
            refused = status == KV_EUNSUPPORTED;
            kv_pool_destroy(pool);
        }
    return refused;
}

/* Methods that cannot run on this trace with their defaults, with the reason. */
static void print_refusals(const struct kv_trace *trace)
{
    uint32_t n = 0;
    for (int i = 0; kv_codecs[i]; i++) {
        struct kv_error why;
        if (!find_refusal(trace, kv_codecs[i], &why)) continue;
        printf("%s%s\n", n++ ? "             " : "cannot run:  ", why.text);
    }
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
