/* kvbench list [methods|columns|isas|traces|models|claims] [--json]; kvbench list NAME [--json].
 *
 * Every list is built once, as an array of objects; --json prints it, otherwise some of its keys
 * become the columns of a text. What a method computes is told by the head comment of its source
 * file: there is one place where equations are written. */
#include <cjson/cJSON.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/claims/claims.h"
#include "harness/commands/arguments.h"
#include "harness/commands/commands.h"
#include "harness/commands/method_card.h"
#include "harness/install.h"
#include "harness/models/model.h"
#include "harness/output/row.h"
#include "harness/output/tables/listing.h"
#include "methods/kernels/kernels.h"
#include "methods/spec/spec_stage.h"
#include "traces/trace.h"

static bool add_method(cJSON *list, const char *kind, const char *name, const char *summary,
                       const char *paper)
{
    cJSON *object = kv_listing_object(list);
    return object && kv_listing_text(object, "kind", kind) && kv_listing_text(object, "name", name) &&
           kv_listing_text(object, "summary", summary) && kv_listing_text(object, "paper", paper);
}

static int list_methods(cJSON *list, struct kv_error *err)
{
    bool done = true;
    for (int i = 0; kv_policies[i]; i++)
        done = done && add_method(list, "policy", kv_policies[i]->name, kv_policies[i]->summary,
                                  kv_policies[i]->paper);
    for (int i = 0; kv_codecs[i]; i++)
        done = done && add_method(list, "codec", kv_codecs[i]->name, kv_codecs[i]->summary,
                                  kv_codecs[i]->paper);
    for (int i = 0; kv_answers[i]; i++)
        done = done && add_method(list, "answer", kv_answers[i]->name, kv_answers[i]->summary,
                                  kv_answers[i]->paper);
    for (int i = 0; kv_presets[i].name; i++) {
        char summary[256];
        snprintf(summary, sizeof summary, "%s: %s", kv_presets[i].spec, kv_presets[i].meaning);
        done = done && add_method(list, "preset", kv_presets[i].name, summary, "");
    }
    return done ? KV_OK : kv_fail(err, KV_EMEMORY, "list: out of memory");
}

static int list_columns(cJSON *list, struct kv_error *err)
{
    for (size_t c = 0; c < KV_N_COLUMNS; c++) {
        cJSON *object = kv_listing_object(list);
        if (!object || !kv_listing_text(object, "name", kv_columns[c].name) ||
            !kv_listing_text(object, "unit", kv_columns[c].unit) ||
            !kv_listing_text(object, "meaning", kv_columns[c].meaning))
            return kv_fail(err, KV_EMEMORY, "list: out of memory");
    }
    return KV_OK;
}

static int list_isas(cJSON *list, struct kv_error *err)
{
    for (const struct kv_isa *isa = kv_isa_list(); isa->name; isa++) {
        const char *state = !isa->built ? "not built" : isa->runs ? "runs here" : "cannot run here";
        cJSON *object = kv_listing_object(list);
        if (!object || !kv_listing_text(object, "name", isa->name) || !kv_listing_text(object, "state", state) ||
            !kv_listing_text(object, "meaning", isa->summary))
            return kv_fail(err, KV_EMEMORY, "list: out of memory");
    }
    return KV_OK;
}

/* -- the bundled traces, and the models that they are of ---------------------------------------- */

static int visit_traces(cJSON *list, bool (*visit)(cJSON *, const struct kv_trace *),
                        struct kv_error *err)
{
    char *pattern = kv_install_path("traces/data/");
    char *every = NULL;
    glob_t found = {0};
    int status = KV_OK;
    if (!pattern || asprintf(&every, "%s/*.h5", pattern) < 0) every = NULL;
    free(pattern);
    if (!every) return kv_fail(err, KV_EMEMORY, "list: out of memory");
    if (glob(every, 0, NULL, &found) != 0) found.gl_pathc = 0;
    for (size_t i = 0; status == KV_OK && i < found.gl_pathc; i++) {
        struct kv_trace *trace;
        status = kv_trace_open(&trace, found.gl_pathv[i], KV_NO_VERIFY, err);
        if (status != KV_OK) break;
        if (!visit(list, trace)) status = kv_fail(err, KV_EMEMORY, "list: out of memory");
        kv_trace_close(trace);
    }
    globfree(&found);
    free(every);
    return status;
}

static bool visit_trace(cJSON *list, const struct kv_trace *trace)
{
    char meaning[512];
    const char *slash = strrchr(trace->path, '/');
    snprintf(meaning, sizeof meaning, "%s, %u layers, %u tokens of which %u are the prompt%s",
             trace->model, trace->n_layers, trace->tokens, trace->prefill,
             trace->n_fisher ? ", gradient probes" : "");
    cJSON *object = kv_listing_object(list);
    return object && kv_listing_text(object, "name", slash ? slash + 1 : trace->path) &&
           kv_listing_text(object, "meaning", meaning) && kv_listing_text(object, "path", trace->path) &&
           kv_listing_text(object, "content_hash", trace->content_hash);
}

/* An entry of the registry of `memory`. */
static int visit_entry(void *context, const cJSON *entry, const char *where, struct kv_error *err)
{
    const cJSON *config = cJSON_GetObjectItem(entry, "config");
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItem(config, "model_type"));
    const char *source = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "source"));
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "name"));
    cJSON *object = kv_listing_object(context);
    (void)where;
    if (!object || !kv_listing_text(object, "kind", "registry of memory") || !kv_listing_text(object, "name", name) ||
        !kv_listing_text(object, "type", type) || !kv_listing_text(object, "meaning", source))
        return kv_fail(err, KV_EMEMORY, "list: out of memory");
    return KV_OK;
}

static bool visit_model(cJSON *list, const struct kv_trace *trace)
{
    const struct kv_geometry *geometry = &trace->layers[0].geometry;
    char meaning[256];
    for (const cJSON *known = list->child; known; known = known->next)
        if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(known, "name")), trace->model) == 0)
            return true;
    snprintf(meaning, sizeof meaning,
             "%u layers, %u query heads, %u KV heads of %u and %u channels", trace->model_layers,
             geometry->q_heads, geometry->kv_heads, geometry->key_dim, geometry->value_dim);
    cJSON *object = kv_listing_object(list);
    return object && kv_listing_text(object, "kind", "recorded") && kv_listing_text(object, "name", trace->model) &&
           kv_listing_text(object, "type", "") && kv_listing_text(object, "meaning", meaning) &&
           kv_listing_text(object, "digest", trace->model_digest);
}

static int list_traces(cJSON *list, struct kv_error *err)
{
    return visit_traces(list, visit_trace, err);
}
static int list_models(cJSON *list, struct kv_error *err)
{
    const int status = visit_traces(list, visit_model, err);
    return status == KV_OK ? kv_model_each(visit_entry, list, err) : status;
}

static int list_claims(cJSON *list, struct kv_error *err)
{
    struct kv_claims claims;
    char *folder = kv_install_path("experiments/papers");
    int status = folder ? kv_claims_read(&claims, folder, err)
                        : kv_fail(err, KV_EMEMORY, "list: out of memory");
    free(folder);
    if (status != KV_OK) return status;
    for (uint32_t i = 0; status == KV_OK && i < claims.n; i++) {
        const struct kv_claim *claim = &claims.claim[i];
        char meaning[512];
        snprintf(meaning, sizeof meaning, "%s: %s", claim->table, claim->metric);
        cJSON *object = kv_listing_object(list);
        if (!object || !kv_listing_text(object, "name", claim->claim) ||
            !kv_listing_text(object, "claimed", claim->claimed) || !kv_listing_text(object, "meaning", meaning) ||
            !kv_listing_text(object, "paper", claim->paper))
            status = kv_fail(err, KV_EMEMORY, "list: out of memory");
    }
    kv_claims_free(&claims);
    return status;
}

/* -- the command -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*list)(cJSON *, struct kv_error *);
    const char *keys[3];
} lists[] = {
    {"methods", list_methods, {"name", "summary"}},
    {"columns", list_columns, {"name", "unit", "meaning"}},
    {"isas", list_isas, {"name", "state", "meaning"}},
    {"traces", list_traces, {"name", "meaning"}},
    {"models", list_models, {"name", "type", "meaning"}},
    {"claims", list_claims, {"name", "claimed", "meaning"}},
};

enum { N_LISTS = sizeof lists / sizeof *lists };

static int unknown(const char *name, struct kv_error *err)
{
    const char *names[256] = {NULL};
    int n = 0;
    for (int i = 0; i < N_LISTS; i++) names[n++] = lists[i].name;
    for (int i = 0; kv_policies[i] && n < 250; i++) names[n++] = kv_policies[i]->name;
    for (int i = 0; kv_codecs[i] && n < 250; i++) names[n++] = kv_codecs[i]->name;
    for (int i = 0; kv_answers[i] && n < 250; i++) names[n++] = kv_answers[i]->name;
    for (int i = 0; kv_presets[i].name && n < 250; i++) names[n++] = kv_presets[i].name;
    return kv_fail(err, KV_EUSAGE,
                   "list: expected methods, columns, isas, traces, models, claims or a"
                   " method, found %.100s%s",
                   name, kv_hint(name, names).text);
}

static int list_all(int which, bool json, struct kv_error *err)
{
    cJSON *list = cJSON_CreateArray();
    int status =
        list ? lists[which].list(list, err) : kv_fail(err, KV_EMEMORY, "list: out of memory");
    if (status == KV_OK && json)
        status = kv_listing_json(list, err);
    else if (status == KV_OK)
        kv_listing_print(list, lists[which].keys);
    cJSON_Delete(list);
    return status;
}

struct list_options { const char *name; bool json; };

static const struct kv_argument table[] = {
    {"--json", KV_SWITCH, offsetof(struct list_options, json), NULL, "the same as JSON"},
    {"", KV_TEXT, offsetof(struct list_options, name), "NAME"},
    {NULL}};

static const struct kv_arguments arguments = {
    .who = "list",
    .usage = "kvbench list [methods|columns|isas|traces|models|claims|NAME]\n\n"
             "  NAME   a method: parameters, paper, equations, bytes of a row\n",
    .table = table};

int kv_cmd_list(int argc, char **argv, struct kv_error *err)
{
    struct list_options options = {.name = NULL};
    const int status = kv_arguments_read(&arguments, &options, argc - 1, argv + 1, err);
    const char *what = options.name ? options.name : "methods";
    int which = 0;
    if (status != KV_OK) return status;
    while (which < N_LISTS && strcmp(lists[which].name, what) != 0) which++;
    return which < N_LISTS            ? list_all(which, options.json, err)
           : kv_method_is_known(what) ? kv_method_card(what, options.json, err)
                                      : unknown(what, err);
}
