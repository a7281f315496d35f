/* Method specs; see spec.h. */
#include "methods/spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "methods/spec_stage.h"

enum { TEXT = 4096, MAX_SPECS = 4096, MAX_DEPTH = 8, MAX_SWEEPS = 16, MAX_PARAMETERS = 64 };

/* -- one spec ---------------------------------------------------------------------------------- */

static const struct kv_preset *find_preset(const char *name)
{
    for (const struct kv_preset *preset = kv_presets; preset->name; preset++)
        if (strcmp(preset->name, name) == 0) return preset;
    return NULL;
}

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
    const struct kv_preset *preset = find_preset(text);
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
        if (stage != outer && (m->span || m->unrotated || m->rotated || m->exact_side))
            return kv_fail(err, KV_EUSAGE,
                           "%s: span, keys and side stand on the outermost codec, %s",
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
        if (kv_codec_find("f16") && c == 1)
            for (uint32_t p = 0; p < spec->caches[1].n_policies; p++)
                if (spec->caches[1].policies[p]->policy->observe ||
                    spec->caches[1].policies[p]->policy->select)
                    return kv_fail(err, KV_EUSAGE,
                                   "%s: a policy after rest cannot observe or select", spec->asked);
    }
    return KV_OK;
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

/* What the codecs of a chain do to rows. */
static void classify(const struct kv_stage *stage, bool *coded, bool *low_rank)
{
    for (; stage; stage = stage->rest) {
        const bool exact = stage->codec->traits & (KV_EXACT_F16 | KV_EXACT_BF16 | KV_EXACT_F32);
        const bool wrapper = strcmp(stage->codec->name, "hadamard") == 0 ||
                             strcmp(stage->codec->name, "center") == 0 ||
                             strcmp(stage->codec->name, "outliers") == 0;
        if (stage->codec->traits & KV_LEAVES_ROWS)
            *low_rank |= !wrapper;
        else
            *coded |= !exact;
    }
}

static const char *family_of(const struct kv_spec *spec)
{
    bool drops = false, selects = false, coded = false, low_rank = false;
    for (uint32_t c = 0; c < spec->n_caches; c++) {
        for (uint32_t p = 0; p < spec->caches[c].n_policies; p++) {
            drops |= spec->caches[c].policies[p]->policy->score != NULL;
            selects |= spec->caches[c].policies[p]->policy->select != NULL;
        }
        for (int side = 0; side < kv_n_chains(&spec->caches[c]); side++)
            classify(kv_chain(&spec->caches[c], side), &coded, &low_rank);
    }
    if (spec->caches[0].answer) return "state";
    if ((drops || selects) + coded + low_rank > 1) return "hybrid";
    return drops      ? "evictor"
           : selects  ? "sparse reader"
           : coded    ? "quantizer"
           : low_rank ? "low rank"
                      : "exact";
}

static void append(char *text, const char *more)
{
    const size_t length = strlen(text);
    snprintf(text + length, TEXT - length, "%s", more);
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

static int print_spec(struct kv_spec *spec, struct kv_pool *pool, struct kv_error *err)
{
    char text[TEXT] = "";
    bool first = true;
    for (uint32_t c = 0; c < spec->n_caches; c++) {
        if (c > 0) append(text, "+rest");
        for (uint32_t p = 0; p < spec->caches[c].n_policies; p++, first = false) {
            if (!first || c > 0) append(text, "+");
            kv_stage_print(spec->caches[c].policies[p], text, sizeof text);
        }
        if (spec->caches[c].answer) kv_stage_print(spec->caches[c].answer, text, sizeof text);
        for (int side = 0; side < kv_n_chains(&spec->caches[c]); side++)
            for (const struct kv_stage *stage = kv_chain(&spec->caches[c], side); stage;
                 stage = stage->rest, first = false) {
                if (!first || c > 0) append(text, "+");
                if (spec->caches[c].sided) append(text, side == KV_VALUES ? "v." : "k.");
                kv_stage_print(stage, text, sizeof text);
            }
    }
    print_layers(spec, text);
    print_exact_layers(spec, text);
    if (spec->query_agnostic) append(text, ":query=agnostic");
    if (strlen(text) + 1 >= TEXT)
        return kv_fail(err, KV_EUSAGE, "a spec may have %d characters", TEXT);
    spec->text = kv_pool_take(pool, strlen(text) + 1);
    if (!spec->text) return kv_fail(err, KV_EMEMORY, "out of memory for a spec");
    strcpy(spec->text, text);
    return KV_OK;
}

static void note_traits(struct kv_spec *spec)
{
    for (uint32_t c = 0; c < spec->n_caches; c++) {
        for (uint32_t p = 0; p < spec->caches[c].n_policies; p++) {
            const struct kv_stage *stage = spec->caches[c].policies[p];
            struct kv_wants wants = {0};
            if (stage->policy->wants) stage->policy->wants(stage->config[0], &wants);
            spec->oracle |= stage->policy->oracle || wants.future;
            spec->random |= stage->policy->random && stage->policy->random(stage->config[0]);
        }
        for (int side = 0; side < kv_n_chains(&spec->caches[c]); side++)
            for (const struct kv_stage *stage = kv_chain(&spec->caches[c], side); stage;
                 stage = stage->rest)
                spec->random |= (stage->codec->traits & KV_RANDOM) != 0;
    }
    spec->family = family_of(spec);
}

/* Presets of several stages become their stages. */
static int expand_presets(char expanded[TEXT], const char *text, struct kv_error *err)
{
    size_t used = 0;
    for (const char *at = text; at; at = strchr(at, '+') ? strchr(at, '+') + 1 : NULL) {
        const size_t length = strcspn(at, "+");
        char stage[TEXT];
        snprintf(stage, sizeof stage, "%.*s", (int)length, at);
        char *parameters = strchr(stage, ':');
        if (parameters) *parameters = 0;
        int side;
        const struct kv_preset *preset = find_preset(cut_side(stage, &side));
        const bool several = preset && strchr(preset->spec, '+');
        if (several && side != KV_BOTH_SIDES)
            return kv_fail(err, KV_EUSAGE, "%s: expected no side, since it stands for %s", stage,
                           preset->spec);
        if (several && parameters)
            return kv_fail(err, KV_EUSAGE, "%s: expected no parameters, since it stands for %s",
                           stage, preset->spec);
        if (parameters) *parameters = ':';
        used += (size_t)snprintf(expanded + used, TEXT - used, "%s%s", at == text ? "" : "+",
                                 several ? preset->spec : stage);
        if (used >= TEXT)
            return kv_fail(err, KV_EUSAGE, "a spec may have %d characters", TEXT - 1);
    }
    return KV_OK;
}

static int take_texts(struct kv_spec *spec, char **copy, const char *text, struct kv_error *err)
{
    char expanded[TEXT] = "";
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
static int parse_spec(struct kv_spec *spec, const char *text, struct kv_error *err)
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
    if (status == KV_OK) status = check_rest(spec, err);
    for (uint32_t c = 0; status == KV_OK && c < spec->n_caches; c++)
        status = check_spans(&spec->caches[c], err);
    if (status != KV_OK) return status;
    note_traits(spec);
    return print_spec(spec, pool, err);
}

bool kv_spec_is_exact_layer(const struct kv_spec *spec, uint32_t layer, uint32_t model_layers)
{
    const bool out = layer < 1024 && !(spec->layers[layer / 64] >> (layer % 64) & 1);
    return out || layer < spec->exact_first ||
           (spec->exact_last && layer + spec->exact_last >= model_layers);
}

/* -- lists, sweeps, files --------------------------------------------------------------------- */

static int add_spec(struct kv_spec_list *list, const char *text, struct kv_error *err)
{
    if (list->n == MAX_SPECS) return kv_fail(err, KV_EUSAGE, "more than %d specs", MAX_SPECS);
    if ((list->n & (list->n - 1)) == 0) {
        struct kv_spec *more = realloc(list->specs, (list->n ? 2 * list->n : 1) * sizeof *more);
        if (!more) return kv_fail(err, KV_EMEMORY, "out of memory for specs");
        list->specs = more;
    }
    struct kv_spec *spec = &list->specs[list->n++];
    *spec = (struct kv_spec){0};
    return parse_spec(spec, text, err);
}

/* Replaces the first swept value, a/b/c, by each of its alternatives in turn. */
static int add_sweep(struct kv_spec_list *list, const char *text, int depth, struct kv_error *err)
{
    const char *slash = strchr(text, '/');
    if (!slash) return add_spec(list, text, err);
    if (depth == MAX_SWEEPS)
        return kv_fail(err, KV_EUSAGE, "%.100s: expected at most %d sweeps, found more", text,
                       MAX_SWEEPS);
    const char *first = slash;
    while (first > text && !strchr("=:+", first[-1])) first--;
    const char *end = slash + strcspn(slash, ":+");
    if (first == text || first[-1] != '=')
        return kv_fail(err, KV_EUSAGE, "%.200s: expected key=value/value, found a / elsewhere",
                       text);
    for (const char *at = first; at <= end;) {
        const size_t n = strcspn(at, "/:+");
        char one[TEXT];
        const int length =
            snprintf(one, sizeof one, "%.*s%.*s%s", (int)(first - text), text, (int)n, at, end);
        if (length < 0 || length >= TEXT)
            return kv_fail(err, KV_EUSAGE, "a spec may have %d characters", TEXT);
        const int status = add_sweep(list, one, depth + 1, err);
        if (status != KV_OK) return status;
        at += n + 1;
    }
    return KV_OK;
}

static int add_list(struct kv_spec_list *list, const char *text, int depth, struct kv_error *err);

/* Without the blanks at both ends. */
static char *strip(char *text)
{
    text += strspn(text, " \t\r\n");
    for (size_t n = strlen(text); n > 0 && strchr(" \t\r\n", text[n - 1]); n--) text[n - 1] = 0;
    return text;
}

/* A file of specs: a list a line, `#` begins a comment. */
static int add_file(struct kv_spec_list *list, const char *path, int depth, struct kv_error *err)
{
    char line[TEXT];
    int status = KV_OK;
    FILE *file = fopen(path, "r");
    if (!file) return kv_fail(err, KV_EINPUT, "%.200s: cannot be read: %s", path, strerror(errno));
    while (status == KV_OK && fgets(line, sizeof line, file)) {
        if (strlen(line) == sizeof line - 1 && line[sizeof line - 2] != '\n')
            status = kv_fail(err, KV_EINPUT,
                             "%.200s: expected lines of at most %d letters, found a longer"
                             " one",
                             path, TEXT - 2);
        line[strcspn(line, "#")] = 0;
        const char *text = strip(line);
        if (status == KV_OK && *text) status = add_list(list, text, depth + 1, err);
    }
    if (status == KV_OK && ferror(file))
        status = kv_fail(err, KV_EINPUT, "%.200s: cannot be read: %s", path, strerror(errno));
    fclose(file);
    return status;
}

static int add_list(struct kv_spec_list *list, const char *text, int depth, struct kv_error *err)
{
    if (depth > MAX_DEPTH)
        return kv_fail(err, KV_EUSAGE, "@files nested deeper than %d", MAX_DEPTH);
    int status = KV_OK;
    for (const char *at = text; status == KV_OK;) {
        const size_t n = strcspn(at, ",");
        char one[TEXT];
        if (n >= sizeof one)
            return kv_fail(err, KV_EUSAGE, "a spec may have %d characters", TEXT - 1);
        memcpy(one, at, n);
        one[n] = 0;
        const char *item = strip(one);
        if (!*item)
            return kv_fail(err, KV_EUSAGE,
                           "`%.200s`: expected a method between commas, found nothing", text);
        status =
            *item == '@' ? add_file(list, item + 1, depth, err) : add_sweep(list, item, 0, err);
        if (!at[n]) break;
        at += n + 1;
    }
    return status;
}

int kv_spec_parse(struct kv_spec_list *out, const char *list, struct kv_error *err)
{
    *out = (struct kv_spec_list){0};
    int status = add_list(out, list, 0, err);
    if (status == KV_OK && out->n == 0)
        status = kv_fail(err, KV_EUSAGE, "%.200s: expected methods, found none", list);
    if (status != KV_OK) kv_spec_free(out);
    return status;
}

/* The spec with the other side exact. */
static int add_half(struct kv_spec_list *all, struct kv_spec *spec, enum kv_side side,
                    struct kv_error *err)
{
    struct kv_cache_spec *cache = &spec->caches[0];
    const struct kv_cache_spec whole = *cache;
    if (whole.sided && side == KV_KEYS) cache->values = NULL;
    if (whole.sided && side == KV_VALUES) cache->codec = NULL;
    for (int s = 0; s < 2 && !whole.sided; s++)
        cache->codec->modifiers[s].exact_side = side == KV_KEYS ? 2 : 1;
    int status = print_spec(spec, spec->memory, err);
    if (status == KV_OK) status = add_spec(all, spec->text, err);
    *cache = whole;
    return status;
}

static bool has_halves(const struct kv_spec *spec)
{
    const struct kv_cache_spec *cache = &spec->caches[0];
    if (spec->n_caches > 1) return false;
    if (cache->sided) return cache->codec && cache->values;
    return cache->codec && !cache->codec->modifiers[0].exact_side &&
           !(cache->codec->modifiers[0].span & KV_SPAN_SIDES);
}

int kv_spec_split(struct kv_spec_list *list, struct kv_error *err)
{
    struct kv_spec_list all = {0};
    int status = KV_OK;
    for (uint32_t s = 0; status == KV_OK && s < list->n; s++) {
        struct kv_spec *spec = &list->specs[s];
        const bool halves = has_halves(spec);
        status = add_spec(&all, spec->text, err);
        for (int side = KV_KEYS; status == KV_OK && halves && side <= KV_VALUES; side++)
            status = add_half(&all, spec, side, err);
    }
    kv_spec_free(list);
    *list = all;
    if (status != KV_OK) kv_spec_free(list);
    return status;
}

void kv_spec_free(struct kv_spec_list *list)
{
    for (uint32_t s = 0; s < list->n; s++) kv_pool_destroy(list->specs[s].memory);
    free(list->specs);
    *list = (struct kv_spec_list){0};
}
