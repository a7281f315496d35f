/* Stages of a spec; see spec_stage.h. */
#include "methods/spec/spec_stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/number.h"

const struct kv_param kv_trim_params[] = {
    {"budget", KV_PARAM_BUDGET | KV_PARAM_STORED, offsetof(struct kv_trim, budget), 0.2, 1, 4e9, NULL,
     "rows held per KV head: tokens, a share of the prompt, bytes of a layer, bits per element (2.5b)"},
    {"sinks", KV_PARAM_U32, offsetof(struct kv_trim, sinks), 0, 0, 1 << 20, NULL,
     "first positions that always stay; of a budget below them the earliest (when=step: and the newest row)"},
    {"recent", KV_PARAM_U32, offsetof(struct kv_trim, recent), 0, 0, 1 << 30, NULL,
     "newest rows that always stay"},
    {"recent_percent", KV_PARAM_U32, offsetof(struct kv_trim, recent_percent), 0, 0, 100, NULL,
     "newest rows that always stay, percent of the budget"},
    {"when", KV_PARAM_CHOICE, offsetof(struct kv_trim, prompt_only), 0, 0, 0, "step|prefill",
     "step: at every decode step; prefill: once, decoded tokens come on top"},
    {"pooled_heads", KV_PARAM_U32, offsetof(struct kv_trim, pooled_heads), 0, 0, 1, NULL,
     "1: the heads of a layer share one budget by score; of equal scores the earlier head's rows stay"},
    {"floor_percent", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct kv_trim, floor_percent), 0, 0, 100, NULL,
     "of pooled heads: the part of an equal share that each keeps"},
    {"floor", KV_PARAM_CHOICE | KV_PARAM_LATER, offsetof(struct kv_trim, floor), 0, 0, 0, "blend|safeguard",
     "of pooled heads: shares are moved towards equal ones, or best rows are exempt"},
    {"layer_budget", KV_PARAM_CHOICE | KV_PARAM_LATER, offsetof(struct kv_trim, layer_budget), 0, 0, 0,
     "uniform|pyramid|inverted|pyramid_integer|pyramid_kvpress|cake", "how the layers share the budget"},
    {"beta", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct kv_trim, beta), 20, 1, 1 << 20, NULL,
     "of a pyramid: mean budget divided by the smallest"},
    {"shared_heads", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct kv_trim, shared_heads), 0, 0, 1, NULL,
     "1: the same rows stay in all heads, by the sum of scores"},
    {"chunk", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct kv_trim, chunk), 0, 0, 1 << 20, NULL,
     "rows stay in whole chunks of so many positions; 0: singly"},
    {"prompt_block", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct kv_trim, prompt_block), 0, 0, 1 << 20, NULL,
     "the prompt enters in blocks of so many rows and is trimmed after each; 0: after all of it"},
    {"output_percent", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct kv_trim, output_percent), 0, 0, 100, NULL,
     "of the budget, chosen by score x |W_o v|_1"},
    {"positions", KV_PARAM_CHOICE | KV_PARAM_LATER, offsetof(struct kv_trim, cache_positions), 0, 0, 0,
     "recorded|cache", "cache: keys and queries are turned to their numbers among the held rows"},
    {"every", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct kv_trim, every), 0, 0, 1 << 20, NULL,
     "rows that a step drops at once, when one is too many"},
    {"every_percent", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct kv_trim, every_percent), 0, 0, 100, NULL,
     "the same, percent of the budget"},
    {0}};

/* What the parser sets; struct kv_modifiers keeps it in the cache's own words. */
struct modifier_values {
    uint32_t sinks, recent, rotate, center, span, keys, side, where;
    double outliers;
};

const struct kv_param kv_modifier_params[] = {
    {"sinks", KV_PARAM_U32, offsetof(struct modifier_values, sinks), 0, 0, 1 << 20, NULL,
     "first positions kept exact"},
    {"recent", KV_PARAM_U32, offsetof(struct modifier_values, recent), 0, 0, 1 << 30, NULL,
     "newest rows kept exact"},
    {"rotate", KV_PARAM_CHOICE, offsetof(struct modifier_values, rotate), 0, 0, 0, "none|hadamard",
     "rows are rotated before they are stored"},
    {"center", KV_PARAM_CHOICE, offsetof(struct modifier_values, center), 0, 0, 0, "none|mean",
     "the prompt's mean row is taken off"},
    {"outliers", KV_PARAM_REAL, offsetof(struct modifier_values, outliers), 0, 0, 0.5, NULL,
     "share of a row's values, the largest, kept in 16 bits with their index"},
    {"span", KV_PARAM_CHOICE, offsetof(struct modifier_values, span), 0, 0, 0,
     "none|joint|heads|all", "what one stored row joins: keys with values, heads, or both"},
    {"keys", KV_PARAM_CHOICE, offsetof(struct modifier_values, keys), 0, 0, 0, "rotated|unrotated",
     "keys are stored as recorded, or turned back to before the rotation"},
    {"side", KV_PARAM_CHOICE, offsetof(struct modifier_values, side), 0, 0, 0, "both|values|keys",
     "the side that is compressed; the other stays exact"},
    {"where", KV_PARAM_CHOICE, offsetof(struct modifier_values, where), 0, 0, 0, "device|host",
     "host: codes and rows that wait lie in host memory and are counted apart; bases stay"},
    {0}};

const struct kv_param kv_spec_params[] = {
    {"layers", KV_PARAM_CHOICE, 0, 0, 0, 0, "ranges such as 0-3_8",
     "layers of the model that are compressed; the others stay exact"},
    {"exact_layers", KV_PARAM_CHOICE, 0, 0, 0, 0, "counts such as first2_last1",
     "so many of the model's layers stay exact"},
    {"query", KV_PARAM_CHOICE, 0, 0, 0, 0, "aware|agnostic",
     "agnostic: rows are chosen before the question at the prompt's end is known"},
    {"layout", KV_PARAM_CHOICE, 0, 0, 0, 0, "kv-heads|query-heads",
     "query-heads: each query head has its own copy of the KV head, chosen and charged apart"},
    {0}};

/* What the three kinds of a method have in common. */
struct method { const char *name; const struct kv_param *params; size_t config_size; };

static struct method method_of(const struct kv_stage *stage)
{
    if (stage->policy)
        return (struct method){stage->policy->name, stage->policy->params, stage->policy->config_size};
    if (stage->codec)
        return (struct method){stage->codec->name, stage->codec->params, stage->codec->config_size};
    return (struct method){stage->answer->name, stage->answer->params, stage->answer->config_size};
}

const char *kv_stage_name(const struct kv_stage *stage) { return method_of(stage).name; }

static int unknown_method(const char *name, struct kv_error *err)
{
    const char *names[512];
    size_t n = 0;
    for (int i = 0; kv_codecs[i] && n < 500; i++) names[n++] = kv_codecs[i]->name;
    for (int i = 0; kv_policies[i] && n < 500; i++) names[n++] = kv_policies[i]->name;
    for (int i = 0; kv_answers[i] && n < 500; i++) names[n++] = kv_answers[i]->name;
    for (int i = 0; kv_presets[i].name && n < 500; i++) names[n++] = kv_presets[i].name;
    names[n] = NULL;
    const struct kv_hint hint = kv_hint(name, names);
    return kv_fail(err, KV_EUSAGE, "unknown method %.100s%s", name,
                   hint.text[0] ? hint.text : "; `kvbench list methods` shows all");
}

int kv_stage_create(struct kv_stage **out, const char *name, struct kv_pool *pool,
                    struct kv_error *err)
{
    struct kv_stage *stage = *out = kv_pool_take(pool, sizeof *stage);
    if (!stage) return kv_fail(err, KV_EMEMORY, "out of memory for a spec");
    stage->policy = kv_policy_find(name);
    stage->codec = stage->policy ? NULL : kv_codec_find(name);
    stage->answer = stage->policy || stage->codec ? NULL : kv_answer_find(name);
    if (!stage->policy && !stage->codec && !stage->answer) return unknown_method(name, err);
    const struct method method = method_of(stage);
    for (int side = 0; side < 2; side++) {
        stage->config[side] = kv_pool_take(pool, method.config_size);
        if (!stage->config[side]) return kv_fail(err, KV_EMEMORY, "out of memory for a spec");
        kv_params_defaults(method.params, stage->config[side]);
        stage->modifiers[side].sinks = stage->modifiers[side].recent = -1;
    }
    if (stage->policy) stage->trim = stage->policy->trim;
    return KV_OK;
}

static bool has_param(const struct kv_param *params, const char *key)
{
    for (; params && params->name; params++)
        if (strcmp(params->name, key) == 0) return true;
    return false;
}

/* "0-3_8": ranges of model layers, joined by underscores. */
static int set_layers(struct kv_spec *spec, const char *who, const char *value,
                      struct kv_error *err)
{
    for (int i = 0; i < 16; i++)
        if (spec->layers[i] != UINT64_MAX)
            return kv_fail(err, KV_EUSAGE, "%s: layers: expected once in a spec, found again", who);
    memset(spec->layers, 0, sizeof spec->layers);
    for (const char *at = value; *at;) {
        uint32_t range[2];
        const uint32_t limit = 64 * sizeof spec->layers / sizeof *spec->layers;
        if (!kv_read_range(&at, '_', limit - 1, range))
            return kv_fail(err, KV_EUSAGE,
                           "%s: layers: expected ranges such as 0-3_8 below %u, found %.100s", who,
                           limit, value);
        for (uint32_t layer = range[0]; layer <= range[1]; layer++)
            spec->layers[layer / 64] |= UINT64_C(1) << (layer % 64);
    }
    return KV_OK;
}

/* "first2_last1": so many of the model's layers stay exact. */
static int set_exact_layers(struct kv_spec *spec, const char *who, const char *value,
                            struct kv_error *err)
{
    if (spec->exact_first || spec->exact_last)
        return kv_fail(err, KV_EUSAGE, "%s: exact_layers: expected once in a spec, found again", who);
    bool good = true;
    for (const char *at = value; good && *at;) {
        const bool first = strncmp(at, "first", 5) == 0;
        char *end = NULL;
        at += first ? 5 : strncmp(at, "last", 4) == 0 ? 4 : 0;
        const unsigned long n = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : 0;
        uint32_t *count = first ? &spec->exact_first : &spec->exact_last;
        good = end && end - at < 5 && at > value && (at[-1] == 't') && n > 0 && n <= 1024 &&
               !*count && (!*end || (*end == '_' && end[1]));
        if (good) *count = (uint32_t)n, at = *end ? end + 1 : end;
    }
    if (!good)
        return kv_fail(err, KV_EUSAGE,
                       "%s: exact_layers: expected counts such as first2_last1, found %.100s", who,
                       value);
    return KV_OK;
}

/* One of two words about the whole spec, said once. */
struct either {
    const char *key, *usual, *other;
    bool *said, *is_other;
};

static int set_either(const struct either *either, const char *who, const char *value,
                      struct kv_error *err)
{
    const bool other = strcmp(value, either->other) == 0;
    if (!other && strcmp(value, either->usual) != 0)
        return kv_fail(err, KV_EUSAGE, "%s: %s: expected one of %s|%s, found %.100s", who,
                       either->key, either->usual, either->other, value);
    if (*either->said)
        return kv_fail(err, KV_EUSAGE, "%s: %s: expected once in a spec, found again", who,
                       either->key);
    *either->said = true, *either->is_other = other;
    return KV_OK;
}

/* What the codec does by itself is not said. */
static void set_keys(struct kv_modifiers *modifiers, const struct kv_codec *codec, bool unrotated)
{
    const bool own = codec->traits & KV_UNROTATED_KEYS;
    modifiers->unrotated = unrotated && !own;
    modifiers->rotated = !unrotated && own;
}

static int set_modifier(struct kv_stage *stage, int side, const char *key, const char *value,
                        struct kv_error *err)
{
    struct modifier_values values = {0};
    struct kv_modifiers *modifiers = &stage->modifiers[side];
    const int status =
        kv_params_set(kv_modifier_params, &values, kv_stage_name(stage), key, value, err);
    if (status != KV_OK) return status;
    if (strcmp(key, "sinks") == 0)
        modifiers->sinks = (int32_t)values.sinks;
    else if (strcmp(key, "recent") == 0)
        modifiers->recent = (int32_t)values.recent;
    else if (strcmp(key, "rotate") == 0)
        modifiers->rotate = values.rotate;
    else if (strcmp(key, "center") == 0)
        modifiers->center = values.center;
    else if (strcmp(key, "outliers") == 0)
        modifiers->outliers = values.outliers;
    else if (strcmp(key, "span") == 0)
        modifiers->span = values.span; /* the choices are the bits */
    else if (strcmp(key, "keys") == 0)
        set_keys(modifiers, stage->codec, values.keys);
    else if (strcmp(key, "where") == 0)
        modifiers->host = values.where;
    else
        modifiers->exact_side = values.side;
    return KV_OK;
}

static int unknown_key(const char *who, const char *key, const struct kv_param *own,
                       const struct kv_param *common, struct kv_error *err)
{
    const char *names[133] = {NULL};
    int n = 0;
    for (; own && own->name && n < 64; own++) names[n++] = own->name;
    for (; common && common->name && n < 128; common++) names[n++] = common->name;
    for (const struct kv_param *said = kv_spec_params; said->name; said++) names[n++] = said->name;
    return kv_fail(err, KV_EUSAGE, "%s: unknown parameter %.100s%s", who, key,
                   kv_hint(key, names).text);
}

/* What scores by the prompt alone has nothing to say of decoded rows. */
static bool scores_prompt_only(const struct kv_policy *policy)
{
    return policy->trim.prompt_only && !policy->evict && !policy->observe;
}

static int set_policy(struct kv_stage *stage, const char *key, const char *value,
                      struct kv_error *err)
{
    const struct kv_policy *policy = stage->policy;
    const struct kv_param *common = policy->score ? kv_trim_params : NULL;
    if (has_param(policy->params, key))
        return kv_params_set(policy->params, stage->config[0], policy->name, key, value, err);
    if (!has_param(common, key) && has_param(kv_modifier_params, key))
        return kv_fail(err, KV_EUSAGE, "%s: %s: expected behind a codec, found behind a policy", policy->name,
                       key);
    if (!has_param(common, key)) return unknown_key(policy->name, key, policy->params, common, err);
    const int status = kv_params_set(common, &stage->trim, policy->name, key, value, err);
    if (status == KV_OK && !stage->trim.prompt_only && scores_prompt_only(policy))
        return kv_fail(err, KV_EUSAGE,
                       "%s: when: expected prefill, since it scores the prompt alone,"
                       " found %.100s",
                       policy->name, value);
    return status;
}

/* Modifiers that speak of both sides at once. */
static bool is_joint(const char *key)
{
    return strcmp(key, "span") == 0 || strcmp(key, "keys") == 0 || strcmp(key, "side") == 0;
}

static int set_codec(struct kv_stage *stage, const char *key, const char *value,
                     struct kv_error *err)
{
    const struct kv_codec *codec = stage->codec;
    const bool keys = strncmp(key, "k.", 2) == 0, values = strncmp(key, "v.", 2) == 0;
    if (keys || values) key += 2;
    const bool own = has_param(codec->params, key);
    if (!own && !has_param(kv_modifier_params, key))
        return unknown_key(codec->name, key, codec->params, kv_modifier_params, err);
    if (!own && (keys || values) && is_joint(key))
        return kv_fail(err, KV_EUSAGE, "%s: %s: expected no side before it, found %s", codec->name,
                       key, keys ? "k." : "v.");
    int status = KV_OK;
    for (int side = values; side < 2 - keys && status == KV_OK; side++)
        status =
            own ? kv_params_set(codec->params, stage->config[side], codec->name, key, value, err)
                : set_modifier(stage, side, key, value, err);
    return status;
}

int kv_stage_set(struct kv_stage *stage, struct kv_spec *spec, const char *key, const char *value,
                 struct kv_error *err)
{
    if (strcmp(key, "layers") == 0) return set_layers(spec, kv_stage_name(stage), value, err);
    if (strcmp(key, "exact_layers") == 0)
        return set_exact_layers(spec, kv_stage_name(stage), value, err);
    const struct either of_spec[] = {
        {"query", "aware", "agnostic", &spec->query_said, &spec->query_agnostic},
        {"layout", "kv-heads", "query-heads", &spec->layout_said, &spec->query_heads}};
    for (size_t i = 0; i < sizeof of_spec / sizeof *of_spec; i++)
        if (strcmp(key, of_spec[i].key) == 0)
            return set_either(&of_spec[i], kv_stage_name(stage), value, err);
    if (stage->answer)
        return kv_params_set(stage->answer->params, stage->config[0], kv_stage_name(stage), key, value, err);
    return stage->policy ? set_policy(stage, key, value, err) : set_codec(stage, key, value, err);
}

static void append(char *text, size_t capacity, const char *more)
{
    const size_t length = strlen(text);
    snprintf(text + length, capacity - length, "%s", more);
}

/* One parameter of a codec: once when both sides agree, else with their prefixes. */
static void print_sides(const char *keys, const char *values, char *text, size_t capacity)
{
    if (strcmp(keys, values) == 0) {
        append(text, capacity, keys);
        return;
    }
    if (*keys) append(text, capacity, ":k."), append(text, capacity, keys + 1);
    if (*values) append(text, capacity, ":v."), append(text, capacity, values + 1);
}

static void print_codec_params(const struct kv_stage *stage, char *text, size_t capacity)
{
    for (const struct kv_param *param = stage->codec->params; param && param->name; param++) {
        const struct kv_param one[2] = {*param, {0}};
        char sides[2][KV_PARAM_TEXT + 64] = {"", ""};
        for (int side = 0; side < 2; side++)
            kv_params_print(one, stage->config[side], sides[side], sizeof sides[side]);
        print_sides(sides[0], sides[1], text, capacity);
    }
}

enum { MODIFIERS = 9 };

/* Modifiers are printed when they are set. */
static void print_modifiers(const struct kv_stage *stage, char *text, size_t capacity)
{
    static const char *const spans[] = {"", ":span=joint", ":span=heads", ":span=all"};
    static const char *const halves[] = {"", ":side=values", ":side=keys"};
    char sides[2][MODIFIERS][32] = {0};
    for (int side = 0; side < 2; side++) {
        const struct kv_modifiers *m = &stage->modifiers[side];
        if (m->sinks >= 0) snprintf(sides[side][0], 32, ":sinks=%d", (int)m->sinks);
        if (m->recent >= 0) snprintf(sides[side][1], 32, ":recent=%d", (int)m->recent);
        if (m->rotate) snprintf(sides[side][2], 32, ":rotate=hadamard");
        if (m->center) snprintf(sides[side][3], 32, ":center=mean");
        snprintf(sides[side][4], 32, "%s", spans[m->span & 3]);
        if (m->unrotated) snprintf(sides[side][5], 32, ":keys=unrotated");
        if (m->rotated) snprintf(sides[side][5], 32, ":keys=rotated");
        snprintf(sides[side][6], 32, "%s", halves[m->exact_side]);
        if (m->outliers > 0) snprintf(sides[side][7], 32, ":outliers=%.12g", m->outliers);
        if (m->host) snprintf(sides[side][8], 32, ":where=host");
    }
    for (int i = 0; i < MODIFIERS; i++) print_sides(sides[0][i], sides[1][i], text, capacity);
}

bool kv_stage_same_sides(const struct kv_stage *stage)
{
    char text[4096] = "";
    print_codec_params(stage, text, sizeof text);
    print_modifiers(stage, text, sizeof text);
    return !strstr(text, ":k.") && !strstr(text, ":v.");
}

/* Later ones where they differ from what the policy sets. */
static void print_trim(const struct kv_stage *stage, const struct kv_param *param, char *text,
                       size_t capacity)
{
    struct kv_param one[2] = {*param, {0}};
    char set[128] = "", usual[128] = "";
    one[0].type = kv_param_kind(param);
    kv_params_print(one, &stage->trim, set, sizeof set);
    kv_params_print(one, &stage->policy->trim, usual, sizeof usual);
    if (!(param->type & KV_PARAM_LATER) || strcmp(set, usual) != 0) append(text, capacity, set);
}

void kv_stage_print(const struct kv_stage *stage, char *text, size_t capacity)
{
    append(text, capacity, kv_stage_name(stage));
    if (stage->policy) {
        if (stage->policy->score)
            for (const struct kv_param *param = kv_trim_params; param->name; param++) {
                if (!has_param(stage->policy->params, param->name))
                    print_trim(stage, param, text, capacity);
            }
        kv_params_print(stage->policy->params, stage->config[0], text, capacity);
        return;
    }
    if (stage->answer) {
        kv_params_print(stage->answer->params, stage->config[0], text, capacity);
        return;
    }
    print_codec_params(stage, text, capacity);
    print_modifiers(stage, text, capacity);
}
