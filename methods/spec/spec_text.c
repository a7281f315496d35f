/* The canonical text of a spec; see spec.h. */
#include <stdio.h>
#include <string.h>

#include "methods/spec/spec_parts.h"
#include "methods/spec/spec_stage.h"

static void append(char *text, const char *more)
{
    const size_t length = strlen(text);
    snprintf(text + length, KV_SPEC_TEXT - length, "%s", more);
}

static void print_layers(const struct kv_spec *spec, char *text)
{
    bool all = true;
    for (int i = 0; i < 16; i++) all &= spec->layers[i] == UINT64_MAX;
    const char *join = ":layers=";
    for (int layer = 0; !all && layer < 1024; layer++) {
        if (!(spec->layers[layer / 64] >> (layer % 64) & 1)) continue;
        int last = layer;
        while (last + 1 < 1024 && spec->layers[(last + 1) / 64] >> ((last + 1) % 64) & 1) last++;
        char range[48];
        if (last > layer)
            snprintf(range, sizeof range, "%s%d-%d", join, layer, last);
        else
            snprintf(range, sizeof range, "%s%d", join, layer);
        append(text, range);
        join = "_";
        layer = last;
    }
}

static void print_exact_layers(const struct kv_spec *spec, char *text)
{
    const uint32_t counts[2] = {spec->exact_first, spec->exact_last};
    const char *join = ":exact_layers=";
    for (int end = 0; end < 2; end++) {
        char count[48];
        if (!counts[end]) continue;
        snprintf(count, sizeof count, "%s%s%u", join, end ? "last" : "first", counts[end]);
        append(text, count);
        join = "_";
    }
}

/* A stage, without a sign in an exponent (3e05): `+` begins the next one. */
static void print_stage(const struct kv_stage *stage, char *text)
{
    char *at = text + strlen(text);
    kv_stage_print(stage, text, KV_SPEC_TEXT);
    while ((at = strstr(at, "e+")) != NULL) memmove(at + 1, at + 2, strlen(at + 1));
}

int kv_spec_print(struct kv_spec *spec, struct kv_pool *pool, struct kv_error *err)
{
    char text[KV_SPEC_TEXT] = "";
    bool first = true;
    for (uint32_t c = 0; c < spec->n_caches; c++) {
        if (c > 0) append(text, "+rest");
        for (uint32_t p = 0; p < spec->caches[c].n_policies; p++, first = false) {
            if (!first || c > 0) append(text, "+");
            print_stage(spec->caches[c].policies[p], text);
        }
        if (spec->caches[c].answer) print_stage(spec->caches[c].answer, text);
        for (int side = 0; side < kv_n_chains(&spec->caches[c]); side++)
            for (const struct kv_stage *stage = kv_chain(&spec->caches[c], side); stage;
                 stage = stage->rest, first = false) {
                if (!first || c > 0) append(text, "+");
                if (spec->caches[c].sided) append(text, side == KV_VALUES ? "v." : "k.");
                print_stage(stage, text);
            }
    }
    print_layers(spec, text);
    print_exact_layers(spec, text);
    if (spec->query_agnostic) append(text, ":query=agnostic");
    if (spec->query_heads) append(text, ":layout=query-heads");
    if (strlen(text) + 1 >= KV_SPEC_TEXT)
        return kv_fail(err, KV_EUSAGE, "a spec may have %d characters", KV_SPEC_TEXT);
    spec->text = kv_pool_take(pool, strlen(text) + 1);
    if (!spec->text) return kv_fail(err, KV_EMEMORY, "out of memory for a spec");
    strcpy(spec->text, text);
    return KV_OK;
}
