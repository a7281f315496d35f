/* Method specs; see spec.h. */
#include "methods/spec/spec.h"

#include <stdio.h>
#include <string.h>

#include "methods/spec/spec_parts.h"
#include "methods/spec/spec_stage.h"
#include "methods/spec/spec_wants.h"

enum { MAX_PARAMETERS = 64 };

/* `k.` and `v.` before a stage's name; the name without it. */
static char *cut_side(char *text, int *side)
{
    const bool sided = (text[0] == 'k' || text[0] == 'v') && text[1] == '.';
    *side = !sided ? KV_BOTH_SIDES : text[0] == 'k' ? KV_KEYS : KV_VALUES;
    return sided ? text + 2 : text;
}

struct parameters {
    uint32_t n;
    struct {
        const char *key, *value;
    } of[MAX_PARAMETERS];
};

/* "key=value:key=value", cut in place. */
static int cut_parameters(struct parameters *parameters, char *at, const char *who,
                          struct kv_error *err)
{
    parameters->n = 0;
    for (char *next; at; at = next) {
        next = strchr(at, ':');
        if (next) *next++ = 0;
        char *value = strchr(at, '=');
        if (!value || value == at || !value[1])
            return kv_fail(err, KV_EUSAGE, "%s: expected key=value, found `%.100s`", who, at);
        *value++ = 0;
        if (parameters->n == MAX_PARAMETERS)
            return kv_fail(err, KV_EUSAGE, "%s: expected at most %d parameters, found more", who,
                           MAX_PARAMETERS);
        for (uint32_t i = 0; i < parameters->n; i++)
            if (strcmp(parameters->of[i].key, at) == 0)
                return kv_fail(err, KV_EUSAGE, "%s: %.100s: expected once, found again", who, at);
        parameters->of[parameters->n].key = at;
        parameters->of[parameters->n++].value = value;
    }
    return KV_OK;
}

/* Those of one side come last: they win wherever they stand. */
static int set_parameters(struct kv_stage *stage, struct kv_spec *spec, char *text,
                          struct kv_error *err)
{
    const char *who = kv_stage_name(stage);
    struct parameters parameters;
    int status = cut_parameters(&parameters, text, who, err);
    for (int sided = 0; sided < 2; sided++)
        for (uint32_t i = 0; status == KV_OK && i < parameters.n; i++) {
            const char *key = parameters.of[i].key;
            if ((strncmp(key, "k.", 2) == 0 || strncmp(key, "v.", 2) == 0) == sided)
                status = kv_stage_set(stage, spec, key, parameters.of[i].value, err);
        }
    return status;
}

static int parse_stage(struct kv_stage **out, struct kv_spec *spec, char *text,
                       struct kv_pool *pool, struct kv_error *err)
{
    char *parameters = strchr(text, ':'), preset_text[256] = "";
    if (parameters) *parameters++ = 0;
    const struct kv_preset *preset = kv_preset_find(text);
    char *name = text, *first = NULL;
    if (preset) {
        snprintf(preset_text, sizeof preset_text, "%s", preset->spec);
        name = preset_text;
        first = strchr(preset_text, ':');
        if (first) *first++ = 0;
    }
    if (!*name)
        return kv_fail(err, KV_EUSAGE, "`%.200s`: expected a method, found nothing", spec->asked);
    int status = kv_stage_create(out, name, pool, err);
    if (status == KV_OK) status = set_parameters(*out, spec, first, err);
    if (status == KV_OK) status = set_parameters(*out, spec, parameters, err);
    return status;
}

static int add_policy(struct kv_cache_spec *cache, struct kv_stage *stage, struct kv_error *err)
{
    const char *name = stage->policy->name;
    const struct kv_stage *codec = cache->codec ? cache->codec : cache->values;
    if (codec)
        return kv_fail(err, KV_EUSAGE, "%s stands after %s: policies come before codecs", name,
                       codec->codec->name);
    if (cache->n_policies == KV_MAX_POLICIES)
        return kv_fail(err, KV_EUSAGE, "%s: at most %d policies in a row", name, KV_MAX_POLICIES);
    for (uint32_t p = 0; p < cache->n_policies; p++)
        if (cache->policies[p]->policy->select && stage->policy->select)
            return kv_fail(err, KV_EUSAGE, "%s and %s both select reads: at most one may",
                           cache->policies[p]->policy->name, name);
    cache->policies[cache->n_policies++] = stage;
    return KV_OK;
}

/* Sides are said once: by every codec's name, or by none. */
static int check_side(struct kv_cache_spec *cache, const struct kv_stage *stage, int side,
                      struct kv_error *err)
{
    const bool sided = side != KV_BOTH_SIDES, begun = cache->codec || cache->values;
    if (begun && sided != cache->sided)
        return kv_fail(err, KV_EUSAGE, "%s: expected %s before it, as before the codecs beside it",
                       stage->codec->name, sided ? "no side" : "k. or v.");
    cache->sided = sided;
    if (sided && !kv_stage_same_sides(stage))
        return kv_fail(err, KV_EUSAGE, "%s: expected parameters without k. and v. after %s%s",
                       stage->codec->name, side == KV_KEYS ? "k." : "v.", stage->codec->name);
    return KV_OK;
}

static int add_codec(struct kv_cache_spec *cache, struct kv_stage *stage, int side,
                     struct kv_error *err)
{
    const int status = check_side(cache, stage, side, err);
    if (status != KV_OK) return status;
    struct kv_stage **end = side == KV_VALUES ? &cache->values : &cache->codec;
    for (; *end; end = &(*end)->rest)
        if (!((*end)->codec->traits & KV_LEAVES_ROWS))
            return kv_fail(err, KV_EUSAGE, "%s stores codes: %s cannot follow it",
                           (*end)->codec->name, stage->codec->name);
    *end = stage;
    return KV_OK;
}

static int add_stage(struct kv_cache_spec *cache, struct kv_stage *stage, int side,
                     struct kv_error *err)
{
    const char *name = kv_stage_name(stage);
    if (stage->codec) return add_codec(cache, stage, side, err);
    if (side != KV_BOTH_SIDES)
        return kv_fail(err, KV_EUSAGE, "%s: %s speaks of both sides, found %s%s", name,
                       stage->policy ? "a policy" : "a state", side == KV_KEYS ? "k." : "v.", name);
    if (stage->policy) return add_policy(cache, stage, err);
    if (cache->answer)
        return kv_fail(err, KV_EUSAGE, "%s keeps no rows: expected it once", name);
    cache->answer = stage;
    return KV_OK;
}

/* A codec that means a span gets it where the spec names none; of one side it cannot span both. */
static void settle_spans(struct kv_cache_spec *cache)
{
    for (int side = 0; side < kv_n_chains(cache); side++) {
        struct kv_stage *outer = kv_chain(cache, side);
        for (const struct kv_stage *stage = outer; stage; stage = stage->rest)
            for (int s = 0; stage->codec->span && s < 2; s++)
                if (!outer->modifiers[0].span)
                    outer->modifiers[0].span = outer->modifiers[1].span =
                        stage->codec->span(stage->config[s]) &
                        (cache->sided ? ~(uint32_t)KV_SPAN_SIDES : UINT32_MAX);
    }
}

/* One stored row for both sides has one set of parameters; who spans what is for the outermost
 * stage to say, which makes the rows. */
static int check_chain(const struct kv_cache_spec *cache, enum kv_side side, struct kv_error *err)
{
    const struct kv_stage *outer = kv_chain(cache, side);
    if (!outer) return KV_OK;
    if (cache->sided && (outer->modifiers[0].exact_side || outer->modifiers[0].span & KV_SPAN_SIDES))
        return kv_fail(err, KV_EUSAGE, "%s: side and span=joint speak of both sides, and it is of one",
                       outer->codec->name);
    const bool joint = outer->modifiers[0].span & KV_SPAN_SIDES;
    if (joint && outer->modifiers[0].exact_side)
        return kv_fail(err, KV_EUSAGE, "%s: side: expected both with span=joint, found one",
                       outer->codec->name);
    if (outer->codec->turn && outer->codec->turn->row && (outer->modifiers->rotated || outer->modifiers->unrotated))
        return kv_fail(err, KV_EUSAGE, "%s: keys: it has rotated and unrotated parts of its own",
                       outer->codec->name);
    for (const struct kv_stage *stage = outer; stage; stage = stage->rest) {
        const struct kv_modifiers *m = stage->modifiers;
        if (joint && !kv_stage_same_sides(stage))
            return kv_fail(err, KV_EUSAGE,
                           "%s: expected the same parameters for k. and v. with"
                           " span=joint, found different ones",
                           stage->codec->name);
        const bool told = m->span || m->unrotated || m->rotated || m->exact_side;
        if (stage != outer && (told || m[0].host || m[1].host))
            return kv_fail(err, KV_EUSAGE,
                           "%s: span, keys, side and where stand on the outermost codec, %s",
                           stage->codec->name, outer->codec->name);
    }
    return KV_OK;
}

static int check_spans(const struct kv_cache_spec *cache, struct kv_error *err)
{
    int status = KV_OK;
    for (int side = 0; status == KV_OK && side < kv_n_chains(cache); side++)
        status = check_chain(cache, side, err);
    return status;
}

static bool drops_while_decoding(const struct kv_cache_spec *cache)
{
    for (uint32_t p = 0; p < cache->n_policies; p++)
        if (cache->policies[p]->policy->score && !cache->policies[p]->trim.prompt_only) return true;
    return false;
}

/* Weights of rest rows are observed by nobody. Who takes rows in as they enter, to select among them,
 * must not meet any that come in another order later on. */
static int check_rest_policies(const struct kv_spec *spec, struct kv_error *err)
{
    for (uint32_t p = 0; p < spec->caches[1].n_policies; p++) {
        const struct kv_policy *policy = spec->caches[1].policies[p]->policy;
        if (policy->observe)
            return kv_fail(err, KV_EUSAGE, "%s: a policy after rest cannot observe", spec->asked);
        if (policy->select && policy->evict && drops_while_decoding(&spec->caches[0]))
            return kv_fail(err, KV_EUSAGE,
                           "%s: %s after rest: expected rows that were dropped at the prompt"
                           " (when=prefill), found a policy that drops while decoding",
                           spec->asked, policy->name);
    }
    return KV_OK;
}

static int check_rest(const struct kv_spec *spec, struct kv_error *err)
{
    if (spec->n_caches < 2) return KV_OK;
    bool drops = false;
    for (uint32_t p = 0; p < spec->caches[0].n_policies; p++)
        drops |= spec->caches[0].policies[p]->policy->score != NULL;
    if (!drops)
        return kv_fail(err, KV_EUSAGE, "%s: rest: nothing before it drops rows", spec->asked);
    for (uint32_t c = 0; c < 2; c++) {
        for (int side = 0; side < kv_n_chains(&spec->caches[c]); side++) {
            const struct kv_stage *codec = kv_chain(&spec->caches[c], side);
            if (codec && codec->modifiers[0].span)
                return kv_fail(err, KV_EUSAGE, "%s: rest and span do not go together", spec->asked);
        }
    }
    return check_rest_policies(spec, err);
}

/* Nothing can be done to rows that are not there. */
static int check_alone(const struct kv_spec *spec, struct kv_error *err)
{
    const struct kv_cache_spec *cache = spec->caches;
    const struct kv_stage *answer = cache->answer ? cache->answer : spec->caches[1].answer;
    if (!answer || (spec->n_caches == 1 && !cache->n_policies && !cache->codec && !cache->values))
        return KV_OK;
    return kv_fail(err, KV_EUSAGE, "%s keeps no rows: expected no stage beside it, found %s",
                   answer->answer->name, spec->asked);
}

/* Copies that are stored as one row, or no rows at all, leave nothing to lay out. */
static int check_layout(const struct kv_spec *spec, struct kv_error *err)
{
    if (spec->query_heads && spec->caches[0].answer)
        return kv_fail(err, KV_EUSAGE, "%s: layout: expected rows to lay out, found a method that keeps none",
                       spec->caches[0].answer->answer->name);
    for (uint32_t c = 0; spec->query_heads && c < spec->n_caches; c++) {
        const struct kv_codec *codec = kv_cache_codec_over_heads(&spec->caches[c]);
        if (codec)
            return kv_fail(err, KV_EUSAGE,
                           "%s: layout=query-heads: expected rows of one head, found rows that join"
                           " heads: the copies of a KV head would be stored together again",
                           codec->name);
    }
    return KV_OK;
}

/* What weighs rows by the attention of all of the prompt, or shares it out, wants to see it whole; and a second
 * cache gets its rows when the first one drops them. */
static int check_blocks(const struct kv_spec *spec, struct kv_error *err)
{
    for (uint32_t c = 0; c < spec->n_caches; c++)
        for (uint32_t p = 0; p < spec->caches[c].n_policies; p++) {
            const struct kv_stage *stage = spec->caches[c].policies[p];
            const struct kv_trim *trim = &stage->trim;
            const char *why = c > 0                       ? "rows of the prompt, found those that a cache drops"
                              : !stage->policy->in_blocks ? "a policy that judges by the held rows alone, found one that sees the whole prompt"
                              : trim->pooled_heads        ? "a budget for each head, found pooled_heads"
                              : trim->chunk               ? "rows that stay singly, found chunk"
                              : trim->output_percent      ? "one score, found output_percent"
                                                          : NULL;
            if (trim->prompt_block && why)
                return kv_fail(err, KV_EUSAGE, "%s: prompt_block: expected %s", stage->policy->name, why);
        }
    return KV_OK;
}

/* Presets of several stages become their stages. */
static int expand_presets(char expanded[KV_SPEC_TEXT], const char *text, struct kv_error *err)
{
    size_t used = 0;
    for (const char *at = text; at; at = strchr(at, '+') ? strchr(at, '+') + 1 : NULL) {
        const size_t length = strcspn(at, "+");
        char stage[KV_SPEC_TEXT];
        snprintf(stage, sizeof stage, "%.*s", (int)length, at);
        char *parameters = strchr(stage, ':');
        if (parameters) *parameters = 0;
        int side;
        const struct kv_preset *preset = kv_preset_find(cut_side(stage, &side));
        const bool several = preset && strchr(preset->spec, '+');
        if (several && side != KV_BOTH_SIDES)
            return kv_fail(err, KV_EUSAGE, "%s: expected no side, since it stands for %s", stage,
                           preset->spec);
        if (several && parameters)
            return kv_fail(err, KV_EUSAGE, "%s: expected no parameters, since it stands for %s",
                           stage, preset->spec);
        if (parameters) *parameters = ':';
        used += (size_t)snprintf(expanded + used, KV_SPEC_TEXT - used, "%s%s", at == text ? "" : "+",
                                 several ? preset->spec : stage);
        if (used >= KV_SPEC_TEXT)
            return kv_fail(err, KV_EUSAGE, "a spec may have %d characters", KV_SPEC_TEXT - 1);
    }
    return KV_OK;
}

static int take_texts(struct kv_spec *spec, char **copy, const char *text, struct kv_error *err)
{
    char expanded[KV_SPEC_TEXT] = "";
    const int status = expand_presets(expanded, text, err);
    if (status != KV_OK) return status;
    *copy = kv_pool_take(spec->memory, strlen(expanded) + 1);
    spec->asked = kv_pool_take(spec->memory, strlen(text) + 1);
    if (!*copy || !spec->asked) return kv_fail(err, KV_EMEMORY, "out of memory for a spec");
    strcpy(*copy, expanded);
    strcpy(spec->asked, text);
    return KV_OK;
}

/* One spec without sweeps. */
int kv_spec_parse_one(struct kv_spec *spec, const char *text, struct kv_error *err)
{
    struct kv_pool *pool = spec->memory = kv_pool_create(0);
    if (!pool) return kv_fail(err, KV_EMEMORY, "out of memory for a spec");
    char *copy;
    int status = take_texts(spec, &copy, text, err);
    if (status != KV_OK) return status;
    memset(spec->layers, 0xff, sizeof spec->layers);
    spec->n_caches = 1;
    for (char *at = copy; at;) {
        char *next = strchr(at, '+');
        if (next) *next++ = 0;
        struct kv_stage *stage;
        if (strcmp(at, "rest") == 0) {
            if (spec->n_caches == KV_MAX_CACHES || !next)
                return kv_fail(err, KV_EUSAGE, "%s: rest stands once, between two caches", text);
            spec->n_caches++;
        } else {
            struct kv_cache_spec *cache = &spec->caches[spec->n_caches - 1];
            int side;
            status = parse_stage(&stage, spec, cut_side(at, &side), pool, err);
            if (status == KV_OK) status = add_stage(cache, stage, side, err);
        }
        if (status != KV_OK) return status;
        at = next;
    }
    for (uint32_t c = 0; c < spec->n_caches; c++) settle_spans(&spec->caches[c]);
    status = check_alone(spec, err);
    if (status == KV_OK) status = check_layout(spec, err);
    if (status == KV_OK) status = check_blocks(spec, err);
    if (status == KV_OK) status = check_rest(spec, err);
    for (uint32_t c = 0; status == KV_OK && c < spec->n_caches; c++)
        status = check_spans(&spec->caches[c], err);
    if (status != KV_OK) return status;
    kv_spec_note_traits(spec);
    return kv_spec_print(spec, pool, err);
}

bool kv_spec_is_exact_layer(const struct kv_spec *spec, uint32_t layer, uint32_t model_layers)
{
    const bool out = layer < 1024 && !(spec->layers[layer / 64] >> (layer % 64) & 1);
    return out || layer < spec->exact_first ||
           (spec->exact_last && layer + spec->exact_last >= model_layers);
}
