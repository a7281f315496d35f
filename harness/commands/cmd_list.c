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
#include "harness/commands/commands.h"
#include "harness/install.h"
#include "harness/output/json.h"
#include "harness/models/model.h"
#include "harness/output/row.h"
#include "methods/kernels/kernels.h"
#include "methods/spec_stage.h"
#include "traces/trace.h"

/* -- building objects; a lack of memory shows as a NULL list ------------------------------------ */

static bool add_text(cJSON *object, const char *name, const char *text)
{
    return kv_json_add(object, name, cJSON_CreateString(text ? text : ""));
}

/* Appends a new object to the list; NULL without memory. */
static cJSON *add_object(cJSON *list)
{
    cJSON *object = cJSON_CreateObject();
    if (object && cJSON_AddItemToArray(list, object)) return object;
    cJSON_Delete(object);
    return NULL;
}

static bool add_method(cJSON *list, const char *kind, const char *name, const char *summary,
                       const char *paper)
{
    cJSON *object = add_object(list);
    return object && add_text(object, "kind", kind) && add_text(object, "name", name) &&
           add_text(object, "summary", summary) && add_text(object, "paper", paper);
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
        cJSON *object = add_object(list);
        if (!object || !add_text(object, "name", kv_columns[c].name) ||
            !add_text(object, "unit", kv_columns[c].unit) ||
            !add_text(object, "meaning", kv_columns[c].meaning))
            return kv_fail(err, KV_EMEMORY, "list: out of memory");
    }
    return KV_OK;
}

static int list_isas(cJSON *list, struct kv_error *err)
{
    for (const struct kv_isa *isa = kv_isa_list(); isa->name; isa++) {
        const char *state = !isa->built ? "not built" : isa->runs ? "runs here" : "cannot run here";
        cJSON *object = add_object(list);
        if (!object || !add_text(object, "name", isa->name) || !add_text(object, "state", state) ||
            !add_text(object, "meaning", isa->summary))
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
    cJSON *object = add_object(list);
    return object && add_text(object, "name", slash ? slash + 1 : trace->path) &&
           add_text(object, "meaning", meaning) && add_text(object, "path", trace->path) &&
           add_text(object, "content_hash", trace->content_hash);
}

/* An entry of the registry of `memory`. */
static int visit_entry(void *context, const cJSON *entry, const char *where, struct kv_error *err)
{
    const cJSON *config = cJSON_GetObjectItem(entry, "config");
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItem(config, "model_type"));
    const char *source = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "source"));
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(entry, "name"));
    cJSON *object = add_object(context);
    (void)where;
    if (!object || !add_text(object, "kind", "registry of memory") || !add_text(object, "name", name) ||
        !add_text(object, "type", type) || !add_text(object, "meaning", source))
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
    cJSON *object = add_object(list);
    return object && add_text(object, "kind", "recorded") && add_text(object, "name", trace->model) &&
           add_text(object, "type", "") && add_text(object, "meaning", meaning) &&
           add_text(object, "digest", trace->model_digest);
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
        cJSON *object = add_object(list);
        if (!object || !add_text(object, "name", claim->claim) ||
            !add_text(object, "claimed", claim->claimed) || !add_text(object, "meaning", meaning) ||
            !add_text(object, "paper", claim->paper))
            status = kv_fail(err, KV_EMEMORY, "list: out of memory");
    }
    kv_claims_free(&claims);
    return status;
}

/* -- printing
 * -------------------------------------------------------------------------------------- */

static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(object, key));
    return text ? text : "";
}

static int widest(const cJSON *list, const char *key)
{
    size_t width = 0;
    for (const cJSON *object = list->child; object; object = object->next)
        if (strlen(text_of(object, key)) > width) width = strlen(text_of(object, key));
    return (int)width;
}

/* Up to three keys as columns; a line between kinds when the objects have one. */
static void print_list(const cJSON *list, const char *const keys[3])
{
    const char *kind = "";
    for (const cJSON *object = list->child; object; object = object->next) {
        if (strcmp(kind, text_of(object, "kind")) != 0) {
            printf("%s%s\n", *kind ? "\n" : "", text_of(object, "kind"));
            kind = text_of(object, "kind");
        }
        printf("%s", *kind ? "  " : "");
        for (int k = 0; k < 3 && keys[k]; k++) {
            const bool last = k == 2 || !keys[k + 1];
            printf("%-*s%s", last ? 0 : widest(list, keys[k]), text_of(object, keys[k]),
                   last ? "\n" : "  ");
        }
    }
}

static int print_json(const cJSON *what, struct kv_error *err)
{
    char *text = cJSON_Print(what);
    if (!text) return kv_fail(err, KV_EMEMORY, "list: out of memory");
    puts(text);
    free(text);
    return KV_OK;
}

/* -- one method --------------------------------------------------------------------------------- */

static void range_of(const struct kv_param *param, char text[128])
{
    if (kv_param_kind(param) == KV_PARAM_CHOICE)
        snprintf(text, 128, "%s", param->choices);
    else if (kv_param_kind(param) == KV_PARAM_BUDGET)
        snprintf(text, 128, "tokens, a share or a percentage");
    else if (kv_param_kind(param) == KV_PARAM_LIST)
        snprintf(text, 128, "numbers from %.12g to %.12g joined by -", param->min, param->max);
    else
        snprintf(text, 128, "%.12g to %.12g", param->min, param->max);
}

/* The default as the spec parser would print it: after the `=` of ":name=value". */
static void default_of(const struct kv_param *param, const void *config, char text[128])
{
    struct kv_param one[2] = {*param, {0}};
    one->type = kv_param_kind(param);
    char printed[128] = "";
    kv_params_print(one, config, printed, sizeof printed);
    const char *value = strchr(printed, '=');
    snprintf(text, 128, "%s", value ? value + 1 : "none");
}

static bool add_params(cJSON *list, const char *kind, const struct kv_param *params,
                       const void *config)
{
    for (const struct kv_param *param = params; param && param->name; param++) {
        char range[128], initial[128] = "off";
        range_of(param, range);
        if (config) default_of(param, config, initial);
        cJSON *object = add_object(list);
        if (!object || !add_text(object, "kind", kind) || !add_text(object, "name", param->name) ||
            !add_text(object, "default", initial) || !add_text(object, "range", range) ||
            !add_text(object, "meaning", param->meaning))
            return false;
    }
    return true;
}

static bool add_capability(cJSON *list, bool has, const char *text)
{
    cJSON *item = has ? cJSON_CreateString(text) : NULL;
    return !has || (item && cJSON_AddItemToArray(list, item));
}

static bool policy_capabilities(cJSON *list, const struct kv_policy *policy, const void *config)
{
    struct kv_wants wants = {0};
    if (policy->wants) policy->wants(config, &wants);
    const bool steps = policy->score && !policy->trim.prompt_only;
    return add_capability(list, policy->score && !steps, "drops rows once, after the prompt") &&
           add_capability(list, steps, "drops rows at every step") &&
           add_capability(list, policy->select, "chooses what each step reads; all rows stay") &&
           add_capability(list, policy->observe && steps,
                          "answers feed back: replayed token by token") &&
           add_capability(list, policy->scope == KV_LAYER_HEADS,
                          "decides for all heads of a layer at once") &&
           add_capability(list, wants.column_sum || wants.tail,
                          "reads the prompt's attention weights") &&
           add_capability(list, wants.state_floats,
                          "keeps state beside every row, which is charged") &&
           add_capability(list, policy->oracle || wants.future,
                          "oracle: knows what no system can know");
}

static bool codec_capabilities(cJSON *list, const struct kv_codec *codec)
{
    const uint32_t traits = codec->traits;
    return add_capability(list, traits & KV_EXACT_F16, "exact on f16 recordings") &&
           add_capability(list, traits & KV_EXACT_BF16, "exact on bf16 recordings") &&
           add_capability(list, traits & KV_EXACT_F32, "exact on f32 recordings") &&
           add_capability(list, traits & KV_LEAVES_ROWS,
                          "another codec may follow: it stores what this leaves") &&
           add_capability(list, traits & KV_FITS_PROMPT,
                          "fitted on the prompt (calibration: online)") &&
           add_capability(list, traits & KV_UNROTATED_KEYS,
                          "stores keys as they were before the rotation") &&
           add_capability(list, traits & KV_RANDOM, "depends on the seed");
}

/* The head comment of the method's file without its stars; "" when the sources are not here. */
static char *head_comment(const char *folder, const char *name)
{
    char relative[256], line[512], *text = calloc(1, 1 << 14);
    snprintf(relative, sizeof relative, "methods/%s/%s.c", folder, name);
    char *path = kv_install_path(relative);
    FILE *file = path ? fopen(path, "r") : NULL;
    free(path);
    bool inside = false;
    while (text && file && fgets(line, sizeof line, file)) {
        char *at = line, *end = strstr(line, "*/");
        if (!inside && strncmp(at, "/*", 2) != 0) break;
        at += inside ? strspn(at, " ") : 3;
        if (inside && *at == '*') at += at[1] == ' ' ? 2 : 1;
        inside = true;
        while (end > at && end[-1] == ' ') end--;
        if (end >= at) strcpy(end, "\n");
        if (strlen(text) + strlen(at) < 1 << 14) strcat(text, at);
        if (end) break;
    }
    if (file) fclose(file);
    return text;
}

/* What the bare name stands for, defaults filled in. */
static bool add_canonical(cJSON *object, const char *name)
{
    struct kv_spec_list specs;
    if (kv_spec_parse(&specs, name, NULL) != KV_OK) return false;
    const bool done = add_text(object, "canonical", specs.specs[0].text) &&
                      add_text(object, "family", specs.specs[0].family);
    kv_spec_free(&specs);
    return done;
}

static bool add_common(cJSON *object, const char *kind, const char *name, const char *summary,
                       const char *paper)
{
    char *formula = head_comment(strcmp(kind, "codec") == 0    ? "codecs"
                                 : strcmp(kind, "answer") == 0 ? "answers"
                                                               : "policies",
                                 name);
    const bool done = formula && add_text(object, "name", name) && add_text(object, "kind", kind) &&
                      add_text(object, "summary", summary) && add_text(object, "paper", paper) &&
                      add_text(object, "formula", formula) && add_canonical(object, name);
    free(formula);
    return done;
}

static bool describe_policy(cJSON *object, const struct kv_policy *policy)
{
    void *config = calloc(1, policy->config_size + 1);
    cJSON *params = cJSON_AddArrayToObject(object, "parameters");
    cJSON *capabilities = cJSON_AddArrayToObject(object, "capabilities");
    if (config) kv_params_defaults(policy->params, config);
    const bool done =
        config && params && capabilities && add_params(params, "own", policy->params, config) &&
        (!policy->score ||
         add_params(params, "of every policy that drops rows", kv_trim_params, &policy->trim)) &&
        policy_capabilities(capabilities, policy, config);
    free(config);
    return done && add_common(object, "policy", policy->name, policy->summary, policy->paper);
}

static bool describe_codec(cJSON *object, const struct kv_codec *codec)
{
    void *config = calloc(1, codec->config_size + 1);
    cJSON *params = cJSON_AddArrayToObject(object, "parameters");
    cJSON *capabilities = cJSON_AddArrayToObject(object, "capabilities");
    if (config) kv_params_defaults(codec->params, config);
    const bool done = config && params && capabilities &&
                      add_params(params, "own", codec->params, config) &&
                      add_params(params, "of every codec (k. and v. before a name: that side only)",
                                 kv_modifier_params, NULL) &&
                      codec_capabilities(capabilities, codec);
    free(config);
    return done && add_common(object, "codec", codec->name, codec->summary, codec->paper);
}

static bool describe_answer(cJSON *object, const struct kv_answer *answer)
{
    void *config = calloc(1, answer->config_size + 1);
    cJSON *params = cJSON_AddArrayToObject(object, "parameters");
    cJSON *capabilities = cJSON_AddArrayToObject(object, "capabilities");
    if (config) kv_params_defaults(answer->params, config);
    const bool done = config && params && capabilities &&
                      add_params(params, "own", answer->params, config) &&
                      add_capability(capabilities, true, "keeps no rows: nothing may stand beside it") &&
                      add_capability(capabilities, answer->fit != NULL,
                                     "fitted on the prompt (calibration: online)");
    free(config);
    return done && add_common(object, "answer", answer->name, answer->summary, answer->paper);
}

static void print_method(const cJSON *object)
{
    static const char *const keys[] = {"name", "default", "range", "meaning"};
    const cJSON *params = cJSON_GetObjectItem(object, "parameters");
    const char *kind = "";
    printf("%s: %s\npaper: %s\nspec: %s (%s)\n\n%s", text_of(object, "name"),
           text_of(object, "summary"), text_of(object, "paper"), text_of(object, "canonical"),
           text_of(object, "family"), text_of(object, "formula"));
    for (const cJSON *param = params->child; param; param = param->next) {
        if (strcmp(kind, text_of(param, "kind")) != 0)
            printf("\nparameters%s%s (default; range; meaning)\n",
                   strcmp(text_of(param, "kind"), "own") ? " " : "",
                   strcmp(text_of(param, "kind"), "own") ? text_of(param, "kind") : "");
        kind = text_of(param, "kind");
        printf("  %-*s  %-*s  %-*s  %s\n", widest(params, keys[0]), text_of(param, keys[0]),
               widest(params, keys[1]), text_of(param, keys[1]), widest(params, keys[2]),
               text_of(param, keys[2]), text_of(param, keys[3]));
    }
    printf("\n");
    for (const cJSON *what = cJSON_GetObjectItem(object, "capabilities")->child; what;
         what = what->next)
        printf("- %s\n", cJSON_GetStringValue(what));
}

static int describe_preset(const char *name, const struct kv_preset *preset, bool json,
                           struct kv_error *err)
{
    struct kv_spec_list specs;
    int status = kv_spec_parse(&specs, name, err);
    if (status != KV_OK) return status;
    kv_spec_free(&specs);
    cJSON *object = cJSON_CreateObject();
    const bool done = object && add_text(object, "name", name) &&
                      add_text(object, "kind", "preset") &&
                      add_text(object, "summary", preset->meaning) &&
                      add_text(object, "asked", preset->spec) && add_canonical(object, name);
    if (!done) status = kv_fail(err, KV_EMEMORY, "list: out of memory");
    if (done && json)
        status = print_json(object, err);
    else if (done)
        printf("%s: %s\nspec: %s\n", name, preset->meaning, text_of(object, "canonical"));
    cJSON_Delete(object);
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
    const char *near = kv_nearest(name, names);
    return kv_fail(err, KV_EUSAGE,
                   "list: expected methods, columns, isas, traces, models, claims or a"
                   " method, found %.100s%s%s%s",
                   name, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static int list_one(const char *name, bool json, struct kv_error *err)
{
    const struct kv_policy *policy = kv_policy_find(name);
    const struct kv_codec *codec = kv_codec_find(name);
    for (const struct kv_preset *preset = kv_presets; preset->name; preset++)
        if (strcmp(preset->name, name) == 0) return describe_preset(name, preset, json, err);
    const struct kv_answer *answer = kv_answer_find(name);
    if (!policy && !codec && !answer) return unknown(name, err);
    cJSON *object = cJSON_CreateObject();
    int status = KV_OK;
    if (!object || !(policy  ? describe_policy(object, policy)
                     : codec ? describe_codec(object, codec)
                             : describe_answer(object, answer)))
        status = kv_fail(err, KV_EMEMORY, "list: out of memory");
    else if (json)
        status = print_json(object, err);
    else
        print_method(object);
    cJSON_Delete(object);
    return status;
}

static int list_all(int which, bool json, struct kv_error *err)
{
    cJSON *list = cJSON_CreateArray();
    int status =
        list ? lists[which].list(list, err) : kv_fail(err, KV_EMEMORY, "list: out of memory");
    if (status == KV_OK && json)
        status = print_json(list, err);
    else if (status == KV_OK)
        print_list(list, lists[which].keys);
    cJSON_Delete(list);
    return status;
}

int kv_cmd_list(int argc, char **argv, struct kv_error *err)
{
    const char *what = NULL;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (argv[i][0] == '-')
            return kv_fail(err, KV_EUSAGE, "list: unknown option %.100s; the only one is --json",
                           argv[i]);
        else if (what)
            return kv_fail(err, KV_EUSAGE, "list: expected one name, found %.100s and %.100s", what,
                           argv[i]);
        else
            what = argv[i];
    }
    if (!what) what = "methods";
    int status = -1, which = 0;
    while (which < N_LISTS && strcmp(lists[which].name, what) != 0) which++;
    status = which < N_LISTS ? list_all(which, json, err) : list_one(what, json, err);
    if (status == KV_OK && (fflush(stdout) != 0 || ferror(stdout)))
        return kv_fail(err, KV_EENVIRONMENT, "list: stdout: cannot write");
    return status;
}
