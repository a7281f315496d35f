/* Lists of specs: sweeps, files, halves; see spec.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "methods/spec/spec_parts.h"

enum { MAX_SPECS = 4096, MAX_DEPTH = 8, MAX_SWEEPS = 16 };

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
    return kv_spec_parse_one(spec, text, err);
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
        char one[KV_SPEC_TEXT];
        const int length =
            snprintf(one, sizeof one, "%.*s%.*s%s", (int)(first - text), text, (int)n, at, end);
        if (length < 0 || length >= KV_SPEC_TEXT)
            return kv_fail(err, KV_EUSAGE, "a spec may have %d characters", KV_SPEC_TEXT);
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
    char line[KV_SPEC_TEXT];
    int status = KV_OK;
    FILE *file = fopen(path, "r");
    if (!file) return kv_fail(err, KV_EINPUT, "%.200s: cannot be read: %s", path, strerror(errno));
    while (status == KV_OK && fgets(line, sizeof line, file)) {
        if (strlen(line) == sizeof line - 1 && line[sizeof line - 2] != '\n')
            status = kv_fail(err, KV_EINPUT,
                             "%.200s: expected lines of at most %d letters, found a longer"
                             " one",
                             path, KV_SPEC_TEXT - 2);
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
        char one[KV_SPEC_TEXT];
        if (n >= sizeof one)
            return kv_fail(err, KV_EUSAGE, "a spec may have %d characters", KV_SPEC_TEXT - 1);
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

int kv_spec_parse_name(struct kv_spec_list *out, const char *stage, struct kv_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(stage, ":+"), stage);
    return kv_spec_parse(out, name, err);
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
    int status = kv_spec_print(spec, spec->memory, err);
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
