/* Models by name or by file; see model.h. */
#include "harness/models/model.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/claims/claims.h"

enum { LARGEST_FILE = 1 << 22 };

void kv_model_free(struct kv_model *model)
{
    free(model->layers);
    model->layers = NULL;
}

/* -- files ------------------------------------------------------------------------------------ */

static int read_text(char **text, const char *path, struct kv_error *err)
{
    FILE *file = fopen(path, "r");
    if (!file) return kv_fail(err, KV_EINPUT, "%.300s: cannot be read: %s", path, strerror(errno));
    size_t length = 0, capacity = 1 << 16;
    char *bytes = malloc(capacity + 1);
    while (bytes) {
        length += fread(bytes + length, 1, capacity - length, file);
        if (length < capacity || capacity >= LARGEST_FILE) break;
        char *more = realloc(bytes, 2 * capacity + 1);
        if (!more) free(bytes);
        bytes = more, capacity *= 2;
    }
    const bool bad = ferror(file) != 0;
    fclose(file);
    if (bytes) bytes[length] = 0;
    *text = bytes;
    if (!bytes) return kv_fail(err, KV_EMEMORY, "%.300s: out of memory", path);
    if (bad || length >= LARGEST_FILE) {
        free(bytes);
        return kv_fail(err, KV_EINPUT, "%.300s: expected a file of at most %d bytes", path,
                       LARGEST_FILE);
    }
    return KV_OK;
}

/* Python writes Infinity and NaN, which JSON has not: nulls, of which no field that we read is one.
 */
static void mend_python(char *text)
{
    static const char *const words[] = {"-Infinity", "Infinity", "NaN"};
    bool quoted = false;
    for (char *at = text; *at; at++) {
        if (*at == '"' && (at == text || at[-1] != '\\')) quoted = !quoted;
        for (int w = 0; !quoted && w < 3; w++) {
            const size_t length = strlen(words[w]);
            if (strncmp(at, words[w], length) != 0) continue;
            memset(at, ' ', length);
            if (length >= 4)
                memcpy(at, "null", 4);
            else
                *at = '0';
            break;
        }
    }
}

static int read_json(cJSON **json, const char *path, struct kv_error *err)
{
    char *text = NULL;
    const int status = read_text(&text, path, err);
    if (status != KV_OK) return status;
    mend_python(text);
    const char *end = NULL;
    *json = cJSON_ParseWithOpts(text, &end, true);
    const long at = end ? end - text : 0;
    free(text);
    if (*json) return KV_OK;
    return kv_fail(err, KV_EINPUT, "%.300s: expected JSON, found something else at byte %ld", path,
                   at);
}

/* -- the registry ----------------------------------------------------------------------------- */

static int is_json(const struct dirent *entry)
{
    const size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
}

static int by_name(const struct dirent **left, const struct dirent **right)
{
    return strcmp((*left)->d_name, (*right)->d_name); /* not the locale's order */
}

static int visit_file(const char *path, kv_model_visit *visit, void *context, struct kv_error *err)
{
    cJSON *json;
    int status = read_json(&json, path, err);
    if (status != KV_OK) return status;
    if (!cJSON_IsArray(json))
        status = kv_fail(err, KV_EINPUT, "%.300s: expected an array of models", path);
    const cJSON *entry;
    cJSON_ArrayForEach(entry, json) if (status == KV_OK) status = visit(context, entry, path, err);
    cJSON_Delete(json);
    return status;
}

int kv_model_each(kv_model_visit *visit, void *context, struct kv_error *err)
{
    char folder[4096], path[4400];
    struct dirent **names = NULL;
    if (!kv_tree_folder(folder, "experiments/models"))
        return kv_fail(err, KV_EINPUT,
                       "experiments/models: expected above the program or the "
                       "working folder, found nowhere");
    const int n = scandir(folder, &names, is_json, by_name);
    if (n < 0)
        return kv_fail(err, KV_EINPUT, "%s: expected a folder, found: %s", folder, strerror(errno));
    int status = KV_OK;
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        if (status == KV_OK) status = visit_file(path, visit, context, err);
        free(names[i]);
    }
    free(names);
    return status;
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

/* What only an entry has: where it is from, and figures that no formula gives. */
static int take_entry(struct kv_model *model, const cJSON *entry, const char *where,
                      struct kv_error *err)
{
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(entry, "config");
    const cJSON *parameters = cJSON_GetObjectItemCaseSensitive(entry, "parameters");
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(entry, "weights_bytes");
    char place[512];
    snprintf(place, sizeof place, "%.300s: %.90s", where, text_of(entry, "name"));
    if (!cJSON_IsObject(config) || !*text_of(entry, "source"))
        return kv_fail(err, KV_EINPUT, "%s: expected name, source and config", place);
    const int status = kv_model_from_config(model, config, place, err);
    if (status != KV_OK) return status;
    snprintf(model->name, sizeof model->name, "%s", text_of(entry, "name"));
    snprintf(model->source, sizeof model->source, "%s", text_of(entry, "source"));
    model->verified = strncmp(model->source, "unverified", 10) != 0;
    if (cJSON_IsNumber(parameters)) {
        model->parameters = (uint64_t)parameters->valuedouble;
        model->counted = false;
    }
    if (cJSON_IsNumber(bytes)) model->weights_bytes = (uint64_t)bytes->valuedouble;
    return KV_OK;
}

enum { MOST_MODELS = 512 };

struct search {
    struct kv_model *model;
    const char *name;
    bool found;
    char names[MOST_MODELS][96];
    const char *pointers[MOST_MODELS + 1];
    uint32_t n;
};

static int visit_named(void *context, const cJSON *entry, const char *where, struct kv_error *err)
{
    struct search *search = context;
    const char *name = text_of(entry, "name");
    if (search->n < MOST_MODELS) {
        snprintf(search->names[search->n], sizeof *search->names, "%s", name);
        search->pointers[search->n] = search->names[search->n];
        search->n++;
    }
    if (search->found || strcasecmp(name, search->name) != 0) return KV_OK;
    search->found = true;
    return take_entry(search->model, entry, where, err);
}

static int read_named(struct kv_model *model, const char *name, struct kv_error *err)
{
    struct search *search = calloc(1, sizeof *search);
    if (!search) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    search->model = model, search->name = name;
    int status = kv_model_each(visit_named, search, err);
    if (status == KV_OK && !search->found)
        status = kv_fail(err, KV_EUSAGE,
                         "unknown model %.90s%s (kvbench list models; any config.json works)", name,
                         kv_hint(name, search->pointers).text);
    free(search);
    return status;
}

static int read_file(struct kv_model *model, const char *path, struct kv_error *err)
{
    cJSON *json;
    int status = read_json(&json, path, err);
    if (status != KV_OK) return status;
    status = kv_model_from_config(model, json, path, err);
    cJSON_Delete(json);
    const char *slash = strrchr(path, '/');
    snprintf(model->name, sizeof model->name, "%.95s", slash ? slash + 1 : path);
    snprintf(model->source, sizeof model->source, "%.255s", path);
    model->verified = true;
    return status;
}

int kv_model_read(struct kv_model *model, const char *name, struct kv_error *err)
{
    const size_t length = strlen(name);
    *model = (struct kv_model){0};
    const bool path = strchr(name, '/') || (length > 5 && strcmp(name + length - 5, ".json") == 0);
    const int status = path ? read_file(model, name, err) : read_named(model, name, err);
    if (status != KV_OK) kv_model_free(model);
    return status;
}
