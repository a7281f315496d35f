/* `list`: what there is, one line each; `list NAME` a method's parameters. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "harness/commands.h"
#include "harness/install.h"
#include "harness/row.h"
#include "methods/kernels/kernels.h"
#include "methods/spec_stage.h"

struct item { const char *name, *kind, *text; };

struct items { struct item *item; size_t n; };

static void add(struct items *items, const char *name, const char *kind, const char *text)
{
    struct item *more = realloc(items->item, (items->n + 1) * sizeof *more);
    if (!more) return;
    items->item = more;
    items->item[items->n++] = (struct item){name, kind, text};
}

static void list_methods(struct items *items)
{
    for (int i = 0; kv_policies[i]; i++)
        add(items, kv_policies[i]->name, kv_policies[i]->select ? "policy (reads)" : "policy", kv_policies[i]->summary);
    for (int i = 0; kv_codecs[i]; i++)
        add(items, kv_codecs[i]->name, kv_codecs[i]->traits & KV_LEAVES_ROWS ? "codec (outer)" : "codec", kv_codecs[i]->summary);
    for (int i = 0; kv_presets[i].name; i++) add(items, kv_presets[i].name, "preset", kv_presets[i].spec);
}

static void list_columns(struct items *items)
{
    for (int i = 0; i < KV_N_COLUMNS; i++) add(items, kv_columns[i].name, kv_columns[i].unit, kv_columns[i].meaning);
}

static void list_isas(struct items *items)
{
    for (const struct kv_isa *isa = kv_isa_list(); isa->name; isa++)
        add(items, isa->name, isa->runs ? "runs here" : isa->built ? "built" : "not built", isa->summary);
}

static void list_traces(struct items *items)
{
    char *pattern = kv_install_path("traces/data");
    static glob_t found;
    char glob_text[4200];
    if (!pattern) return;
    snprintf(glob_text, sizeof glob_text, "%s/*.h5", pattern);
    free(pattern);
    if (glob(glob_text, 0, NULL, &found) != 0) return;
    for (size_t i = 0; i < found.gl_pathc; i++) add(items, found.gl_pathv[i], "bundled", "`kvbench info FILE` says more");
}

/* First column of every claims file, with its file as the kind. */
static void list_claims(struct items *items)
{
    char *folder = kv_install_path("experiments/papers"), line[4096], glob_text[4200];
    static glob_t found;
    if (!folder) return;
    snprintf(glob_text, sizeof glob_text, "%s/*.csv", folder);
    free(folder);
    if (glob(glob_text, 0, NULL, &found) != 0) return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        FILE *file = fopen(found.gl_pathv[i], "r");
        const char *slash = strrchr(found.gl_pathv[i], '/');
        bool header = true;
        while (file && fgets(line, sizeof line, file)) {
            if (line[0] == '#') continue;
            line[strcspn(line, ",\r\n")] = 0;
            if (!header && line[0]) add(items, strdup(line), slash ? slash + 1 : "", "`kvbench reproduce` measures it");
            header = false;
        }
        if (file) fclose(file);
    }
}

static void print_items(const struct items *items, bool json)
{
    if (json) {
        cJSON *list = cJSON_CreateArray();
        for (size_t i = 0; i < items->n; i++) {
            cJSON *one = cJSON_CreateObject();
            cJSON_AddStringToObject(one, "name", items->item[i].name);
            cJSON_AddStringToObject(one, "kind", items->item[i].kind);
            cJSON_AddStringToObject(one, "text", items->item[i].text);
            cJSON_AddItemToArray(list, one);
        }
        char *text = cJSON_Print(list);
        if (text) puts(text);
        free(text);
        cJSON_Delete(list);
        return;
    }
    for (size_t i = 0; i < items->n; i++)
        printf("%-22s %-15s %s\n", items->item[i].name, items->item[i].kind, items->item[i].text);
}

static void print_param(const struct kv_param *param)
{
    char range[96] = "", value[64];
    double blank[64] = {0};
    const struct kv_param one[2] = {{.name = param->name, .type = param->type, .initial = param->initial,
                                     .choices = param->choices}, {0}};
    value[0] = 0;
    kv_params_defaults(one, blank);
    kv_params_print(one, blank, value, sizeof value);
    if (param->type == KV_PARAM_CHOICE) snprintf(range, sizeof range, "%s", param->choices);
    else if (param->type == KV_PARAM_BUDGET) snprintf(range, sizeof range, "tokens, a share or n%%");
    else snprintf(range, sizeof range, "%g..%g", param->min, param->max);
    printf("  %-20s %-10s %-34s %s\n", param->name, strchr(value, '=') + 1, range, param->meaning);
}

static void print_params(const char *title, const struct kv_param *params)
{
    if (!params || !params->name) return;
    printf("%s (name, default, range, meaning)\n", title);
    for (; params->name; params++) print_param(params);
}

static bool print_method(const char *name)
{
    const struct kv_policy *policy = kv_policy_find(name);
    const struct kv_codec *codec = kv_codec_find(name);
    struct kv_spec_list list;
    if (!policy && !codec) return false;
    printf("%s: %s\npaper: %s\n", name, policy ? policy->summary : codec->summary, policy ? policy->paper : codec->paper);
    if (kv_spec_parse(&list, name, NULL) == KV_OK) {
        printf("canonical spec: %s\n", list.specs[0].text);
        kv_spec_free(&list);
    }
    if (policy) {
        printf("can: %s%s%s%s%s\n", policy->score ? "drop rows" : "keep all rows", policy->select ? ", select reads" : "",
               policy->observe ? ", observe weights (token by token)" : "", policy->oracle ? ", oracle" : "",
               policy->scope == KV_LAYER_HEADS ? ", one choice for all heads" : "");
        print_params("parameters", policy->params);
        if (policy->score) print_params("parameters of every such policy (its own defaults are in the canonical spec)", kv_trim_params);
        return true;
    }
    printf("can: %s%s%s%s\n", codec->traits & KV_LEAVES_ROWS ? "hold an inner codec" : "store rows",
           codec->traits & KV_FITS_PROMPT ? ", fitted on the prompt" : "", codec->traits & KV_RANDOM ? ", depends on the seed" : "",
           codec->traits & (KV_EXACT_F16 | KV_EXACT_BF16 | KV_EXACT_F32) ? ", exact on rows of its type" : "");
    print_params("parameters (k. and v. prefixes set one side)", codec->params);
    print_params("modifiers of every codec", kv_modifier_params);
    return true;
}

static int unknown(const char *word, struct kv_error *err)
{
    const char *names[512] = {"methods", "columns", "isas", "traces", "models", "claims"};
    size_t n = 6;
    for (int i = 0; kv_policies[i] && n < 500; i++) names[n++] = kv_policies[i]->name;
    for (int i = 0; kv_codecs[i] && n < 500; i++) names[n++] = kv_codecs[i]->name;
    names[n] = NULL;
    const char *near = kv_nearest(word, names);
    return kv_fail(err, KV_EUSAGE, "list: unknown name %s%s%s%s", word, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

int kv_cmd_list(int argc, char **argv, struct kv_error *err)
{
    static const struct { const char *name; void (*list)(struct items *); } lists[] = {
        {"methods", list_methods}, {"columns", list_columns}, {"isas", list_isas}, {"traces", list_traces}, {"claims", list_claims}};
    const char *word = NULL;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) json = true;
        else if (argv[i][0] == '-' || word) return kv_fail(err, KV_EUSAGE, "list: unexpected %s; expected one name and --json", argv[i]);
        else word = argv[i];
    }
    if (!word) word = "methods";
    if (strcmp(word, "models") == 0) return kv_fail(err, KV_EUSAGE, "list models: not in this version");
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (strcmp(lists[i].name, word) == 0) {
            struct items items = {0};
            lists[i].list(&items);
            print_items(&items, json);
            free(items.item);
            return KV_OK;
        }
    return print_method(word) ? KV_OK : unknown(word, err);
}
