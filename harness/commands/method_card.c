/* What `kvbench list NAME` says of one method; see method_card.h. */
#include "harness/commands/method_card.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/install.h"
#include "harness/output/tables/listing.h"
#include "methods/spec/spec_stage.h"

static const char OF_A_SPEC[] = "of a whole spec, said once";

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
        cJSON *object = kv_listing_object(list);
        if (!object || !kv_listing_text(object, "kind", kind) ||
            !kv_listing_text(object, "name", param->name) ||
            !kv_listing_text(object, "default", initial) ||
            !kv_listing_text(object, "range", range) ||
            !kv_listing_text(object, "meaning", param->meaning))
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
           add_capability(list, kv_codec_leaves_all(codec),
                          "another codec may follow: it stores what this leaves") &&
           add_capability(list, traits & KV_OWN_CODES,
                          "another codec may follow: it takes the place of the codes") &&
           add_capability(list, traits & KV_FITS_PROMPT,
                          "fitted on the prompt (calibration: online)") &&
           add_capability(list, traits & KV_UNROTATED_KEYS,
                          "stores keys as they were before the rotation") &&
           add_capability(list, traits & KV_RANDOM, "depends on the seed") &&
           add_capability(list, traits & KV_RANDOM_KEYS, "keys depend on the seed");
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
    const bool done = kv_listing_text(object, "canonical", specs.specs[0].text) &&
                      kv_listing_text(object, "family", specs.specs[0].family);
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
    const bool done =
        formula && kv_listing_text(object, "name", name) && kv_listing_text(object, "kind", kind) &&
        kv_listing_text(object, "summary", summary) && kv_listing_text(object, "paper", paper) &&
        kv_listing_text(object, "formula", formula) && add_canonical(object, name);
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
        add_params(params, OF_A_SPEC, kv_spec_params, NULL) &&
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
                      add_params(params, OF_A_SPEC, kv_spec_params, NULL) &&
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
    const bool done =
        config && params && capabilities && add_params(params, "own", answer->params, config) &&
        add_params(params, OF_A_SPEC, kv_spec_params, NULL) &&
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
    printf("%s: %s\npaper: %s\nspec: %s (%s)\n\n%s", kv_listing_get(object, "name"),
           kv_listing_get(object, "summary"), kv_listing_get(object, "paper"),
           kv_listing_get(object, "canonical"), kv_listing_get(object, "family"),
           kv_listing_get(object, "formula"));
    for (const cJSON *param = params->child; param; param = param->next) {
        if (strcmp(kind, kv_listing_get(param, "kind")) != 0)
            printf("\nparameters%s%s (default; range; meaning)\n",
                   strcmp(kv_listing_get(param, "kind"), "own") ? " " : "",
                   strcmp(kv_listing_get(param, "kind"), "own") ? kv_listing_get(param, "kind")
                                                                : "");
        kind = kv_listing_get(param, "kind");
        printf("  %-*s  %-*s  %-*s  %s\n", kv_listing_width(params, keys[0]),
               kv_listing_get(param, keys[0]), kv_listing_width(params, keys[1]),
               kv_listing_get(param, keys[1]), kv_listing_width(params, keys[2]),
               kv_listing_get(param, keys[2]), kv_listing_get(param, keys[3]));
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
    const bool done = object && kv_listing_text(object, "name", name) &&
                      kv_listing_text(object, "kind", "preset") &&
                      kv_listing_text(object, "summary", preset->meaning) &&
                      kv_listing_text(object, "asked", preset->spec) && add_canonical(object, name);
    if (!done) status = kv_fail(err, KV_EMEMORY, "list: out of memory");
    if (done && json)
        status = kv_listing_json(object, err);
    else if (done)
        printf("%s: %s\nspec: %s\n", name, preset->meaning, kv_listing_get(object, "canonical"));
    cJSON_Delete(object);
    return status;
}

bool kv_method_is_known(const char *name)
{
    return kv_preset_find(name) || kv_policy_find(name) || kv_codec_find(name) || kv_answer_find(name);
}

int kv_method_card(const char *name, bool json, struct kv_error *err)
{
    const struct kv_policy *policy = kv_policy_find(name);
    const struct kv_codec *codec = kv_codec_find(name);
    const struct kv_preset *preset = kv_preset_find(name);
    if (preset) return describe_preset(name, preset, json, err);
    cJSON *object = cJSON_CreateObject();
    int status = KV_OK;
    if (!object || !(policy  ? describe_policy(object, policy)
                     : codec ? describe_codec(object, codec)
                             : describe_answer(object, kv_answer_find(name))))
        status = kv_fail(err, KV_EMEMORY, "list: out of memory");
    else if (json)
        status = kv_listing_json(object, err);
    else
        print_method(object);
    cJSON_Delete(object);
    return status;
}
