/* The definition of a run from its manifest; see definition.h. */
#include "harness/run/journal/definition.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/files/shell_word.h"
#include "harness/output/row.h"

static bool add(struct kv_definition *definition, const char *word)
{
    char **more = realloc(definition->words, ((size_t)definition->n + 1) * sizeof *more);
    char *copy = more ? strdup(word) : NULL;
    if (more) definition->words = more;
    if (copy) definition->words[definition->n++] = copy;
    return copy != NULL;
}

static bool add_named(struct kv_definition *definition, const char *name, const char *value)
{
    return add(definition, name) && add(definition, value);
}

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* "--layers 0,3 --calibrate 'other one.h5'": as manifest.json has it, in words. */
static bool add_options(struct kv_definition *definition, const char *options)
{
    char *copy = strdup(options ? options : ""), *rest = copy;
    bool good = copy != NULL;
    for (char *word = good ? kv_shell_next(&rest) : NULL; good && word; word = kv_shell_next(&rest))
        good = add(definition, word);
    free(copy);
    return good;
}

static bool add_lists(struct kv_definition *definition, const cJSON *specs, const cJSON *traces)
{
    const cJSON *item;
    bool good = true;
    cJSON_ArrayForEach(item, specs)
    {
        const char *spec = cJSON_GetStringValue(item);
        good = good && spec && add_named(definition, "--methods", spec);
    }
    cJSON_ArrayForEach(item, traces)
    {
        const char *path = text_of(item, "path");
        good = good && path && add_named(definition, "--trace", path);
    }
    return good;
}

static bool add_all(struct kv_definition *definition, const cJSON *root)
{
    const cJSON *specs = cJSON_GetObjectItemCaseSensitive(root, "specs"),
                *traces = cJSON_GetObjectItemCaseSensitive(root, "traces");
    const double seeds = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(root, "seeds"));
    const char *isa = text_of(root, "isa"), *seed = text_of(root, "seed");
    char runs[24];
    if (!isa || !seed || !cJSON_GetArraySize(specs) || !cJSON_GetArraySize(traces)) return false;
    snprintf(runs, sizeof runs, "%d", seeds >= 1 && seeds <= 10000 ? (int)seeds : 1);
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "per_layer")) &&
        !add(definition, "--per-layer"))
        return false;
    return add_lists(definition, specs, traces) && add_named(definition, "--isa", isa) &&
           add_named(definition, "--seed", seed) && add_named(definition, "--seeds", runs) &&
           add_options(definition, text_of(root, "options"));
}

static char *read_whole(const char *path, size_t *length)
{
    char *text = NULL, part[4096];
    FILE *file = fopen(path, "r"), *out = file ? open_memstream(&text, length) : NULL;
    for (size_t n; out && (n = fread(part, 1, sizeof part, file)) > 0;) fwrite(part, 1, n, out);
    if (out) fclose(out);
    if (file) fclose(file);
    return text;
}

int kv_definition_read(struct kv_definition *definition, const char *folder, struct kv_error *err)
{
    char *path = NULL;
    size_t length = 0;
    *definition = (struct kv_definition){0};
    if (kv_text_set(&path, "%s/manifest.json", folder) != KV_OK)
        return kv_fail(err, KV_EMEMORY, "out of memory");
    errno = 0;
    char *text = read_whole(path, &length);
    cJSON *root = text ? cJSON_Parse(text) : NULL;
    int status = KV_OK;
    if (!text)
        status = kv_fail(
            err, KV_EINPUT,
            "--resume: %.200s: expected the run's manifest, or --methods and --trace; found: %s",
            path, strerror(errno ? errno : ENOMEM));
    else if (!root || !add_all(definition, root))
        status =
            kv_fail(err, KV_EINPUT,
                    "--resume: %.200s: expected specs, traces, isa and seed, found them not", path);
    cJSON_Delete(root);
    free(text);
    free(path);
    return status;
}

void kv_definition_free(struct kv_definition *definition)
{
    for (int i = 0; i < definition->n; i++) free(definition->words[i]);
    free(definition->words);
    *definition = (struct kv_definition){0};
}
