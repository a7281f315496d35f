/* The content hash; see hash.h. */
#include "traces/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "traces/finite.h"
#include "traces/schema.h"

enum { BLOCK_BYTES = 1 << 18 };   /* contiguous data passes through a buffer that stays in L2 */

struct entry {
    char *key;                    /* "layers/007/k", "layers/007@scale", "@tokens" */
    char *object;
    const char *attribute;        /* NULL for a dataset; else the end of key */
    bool tensor;                  /* must be finite */
};

struct digest {
    const struct kv_h5 *file;
    unsigned what;
    XXH3_state_t *state;          /* NULL: not hashing */
    struct entry *entries;
    size_t n, capacity;
    void *buffer;
    size_t buffer_bytes;
    struct kv_error *err;
};

static int out_of_memory(const struct digest *digest)
{
    return kv_fail(digest->err, KV_EMEMORY, "%s: out of memory", kv_h5_path(digest->file));
}

static int grow(struct digest *digest)
{
    if (digest->n < digest->capacity) return KV_OK;
    const size_t capacity = digest->capacity ? digest->capacity * 2 : 256;
    struct entry *entries = realloc(digest->entries, capacity * sizeof *entries);
    if (!entries) return out_of_memory(digest);
    digest->entries = entries;
    digest->capacity = capacity;
    return KV_OK;
}

/* Notes an object if the file has it. */
static int add(struct digest *digest, const char *object, const char *attribute, bool tensor)
{
    const bool there = attribute ? kv_h5_has_attribute(digest->file, object, attribute)
                                 : kv_h5_exists(digest->file, object);
    if (!there) return KV_OK;
    const int status = grow(digest);
    if (status != KV_OK) return status;
    struct entry entry = {.object = strdup(object), .tensor = tensor};
    if (asprintf(&entry.key, "%s%s%s", object, attribute ? "@" : "", attribute ? attribute : "") <
        0)
        entry.key = NULL;
    if (entry.key && attribute) entry.attribute = entry.key + strlen(object) + 1;
    digest->entries[digest->n++] = entry;
    return entry.key && entry.object ? KV_OK : out_of_memory(digest);
}

/* A tensor and what may hang on it. */
static int add_tensor(struct digest *digest, const char *object)
{
    int status = add(digest, object, NULL, true);
    if (status != KV_OK || !kv_h5_exists(digest->file, object)) return status;
    struct kv_h5_data data;
    status = kv_h5_describe(&data, digest->file, object, digest->err);
    /* `type` counts where it says something: on raw words. */
    if (status == KV_OK && data.type == KV_H5_BF16) status = add(digest, object, "type", false);
    return status;
}

static int add_root(struct digest *digest)
{
    int status = KV_OK;
    for (const char *const *name = kv_schema_root_attributes; *name && status == KV_OK; name++)
        status = add(digest, "", *name, false);
    for (const char *const *name = kv_schema_root_datasets; *name && status == KV_OK; name++)
        status = add(digest, *name, NULL, false);
    return status;
}

/* Calls add_child for every name in a group that is not an extra. */
static int each_child(struct digest *digest, const char *group,
                      int (*add_child)(struct digest *, const char *))
{
    struct kv_h5_names names;
    int status = kv_h5_list(&names, digest->file, group, digest->err);
    for (size_t i = 0; i < names.n && status == KV_OK; i++) {
        char object[512];
        if (strncmp(names.names[i], "x_", 2) == 0) continue;
        snprintf(object, sizeof object, "%s/%s", group, names.names[i]);
        status = add_child(digest, object);
    }
    kv_h5_names_free(&names);
    return status;
}

static int add_span(struct digest *digest, const char *object)
{
    return add(digest, object, NULL, false);
}

static int add_layer(struct digest *digest, const char *object)
{
    int status = KV_OK;
    for (const char *const *name = kv_schema_layer_attributes; *name && status == KV_OK; name++)
        status = add(digest, object, *name, false);
    for (const char *const *name = kv_schema_layer_datasets; *name && status == KV_OK; name++) {
        char dataset[600];
        snprintf(dataset, sizeof dataset, "%s/%s", object, *name);
        const bool tensor = strchr("qkvw", **name) != NULL;
        /* x2 is divided by: as finite as the tensors, without their attribute. */
        status = tensor ? add_tensor(digest, dataset) : add(digest, dataset, NULL, **name == 'x');
    }
    return status;
}

static int add_gradient(struct digest *digest, const char *object)
{
    const int status = add_tensor(digest, object);
    return status == KV_OK ? add(digest, object, "unit", false) : status;
}

static int add_fisher(struct digest *digest, const char *object)
{
    const int status = add(digest, object, "seeds", false);
    return status == KV_OK ? each_child(digest, object, add_gradient) : status;
}

static int collect(struct digest *digest)
{
    int status = add_root(digest);
    if (status == KV_OK) status = each_child(digest, "spans", add_span);
    if (status == KV_OK) status = each_child(digest, "layers", add_layer);
    if (status == KV_OK) status = add(digest, "grad/windows", NULL, false);
    if (status == KV_OK) status = each_child(digest, "grad/label", add_gradient);
    if (status == KV_OK) status = each_child(digest, "grad/fisher", add_fisher);
    return status;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->key, ((const struct entry *)b)->key);
}

static void feed(struct digest *digest, const void *bytes, size_t n)
{
    if (digest->state && n) XXH3_128bits_update(digest->state, bytes, n);
}

static void feed_header(struct digest *digest, const char *key, enum kv_h5_type type, uint32_t rank,
                        const uint64_t *dims)
{
    const char *name = kv_h5_type_name(type);
    char text[96] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < rank; i++)
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "%s%" PRIu64, i ? "x" : "", dims[i]);
    feed(digest, key, strlen(key) + 1);
    feed(digest, name, strlen(name) + 1);
    feed(digest, text, used + 1);
}

static int feed_attribute(struct digest *digest, const struct entry *entry)
{
    struct kv_h5_value value;
    const int status =
        kv_h5_value(&value, digest->file, entry->object, entry->attribute, digest->err);
    if (status != KV_OK) return status;
    feed_header(digest, entry->key, value.type, value.rank, value.dims);
    feed(digest, value.data, value.bytes);
    feed(digest, "", 1);
    free(value.data);
    return KV_OK;
}

static int need_buffer(struct digest *digest, uint64_t bytes)
{
    if (bytes <= digest->buffer_bytes) return KV_OK;
    free(digest->buffer);
    digest->buffer = malloc(bytes);
    digest->buffer_bytes = digest->buffer ? bytes : 0;
    return digest->buffer ? KV_OK : out_of_memory(digest);
}

static int not_finite(const struct digest *digest, const struct entry *entry,
                      const struct kv_h5_data *data, uint64_t at, size_t in_buffer)
{
    uint64_t index[KV_H5_RANK] = {0};
    for (uint32_t i = data->rank; i-- > 0; at /= data->dims[i]) index[i] = at % data->dims[i];
    char text[80] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < data->rank; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%" PRIu64, i ? ", " : "",
                                 index[i]);
    return kv_fail(digest->err, KV_EINPUT, "%s: /%s: expected finite numbers, found %s at [%s]",
                   kv_h5_path(digest->file), entry->object,
                   kv_is_nan(digest->buffer, in_buffer, data->type) ? "NaN" : "infinity", text);
}

/* Rows a time: as the chunks lie, or what fits the buffer. */
static uint64_t rows_at_once(const struct kv_h5_data *data, uint64_t row_bytes)
{
    const uint64_t fit = row_bytes ? BLOCK_BYTES / row_bytes : 1;
    const uint64_t rows = data->offset ? fit : data->chunk_rows > fit ? data->chunk_rows : fit;
    return rows ? rows : 1;
}

/* Contiguous data has no rows that matter: it goes through the buffer as one line of elements. */
static struct kv_h5_data flattened(const struct kv_h5_data *data)
{
    struct kv_h5_data flat = *data;
    flat.rank = 1;
    flat.dims[0] = data->bytes / data->element_bytes;
    return flat;
}

static int feed_rows(struct digest *digest, const struct entry *entry,
                     const struct kv_h5_data *data)
{
    const struct kv_h5_data rowed = data->offset ? flattened(data) : *data;
    const uint64_t total = rowed.rank ? rowed.dims[0] : 1;
    const uint64_t row_bytes = total ? data->bytes / total : 0;
    const uint64_t step = rows_at_once(&rowed, row_bytes);
    for (uint64_t first = 0; first < total && row_bytes; first += step) {
        const uint64_t rows = total - first < step ? total - first : step;
        int status = need_buffer(digest, rows * row_bytes);
        if (status == KV_OK)
            status = kv_h5_read(digest->buffer, digest->file, entry->object, &rowed, first, rows,
                                digest->err);
        if (status != KV_OK) return status;
        const size_t n = rows * row_bytes / data->element_bytes;
        size_t bad = n;
        if (entry->tensor && digest->what & KV_HASH_FINITE)
            bad = kv_first_not_finite(digest->buffer, n, data->type);
        if (bad < n)
            return not_finite(digest, entry, data, first * (row_bytes / data->element_bytes) + bad,
                              bad);
        feed(digest, digest->buffer, rows * row_bytes);
    }
    return KV_OK;
}

static int feed_odd_integers(struct digest *digest, const struct entry *entry,
                             const struct kv_h5_data *data)
{
    const uint64_t n = data->bytes / data->element_bytes;
    int status = need_buffer(digest, n * sizeof(int32_t));
    if (status == KV_OK)
        status = kv_h5_read_i32(digest->buffer, digest->file, entry->object, data, digest->err);
    if (status != KV_OK) return status;
    feed_header(digest, entry->key, KV_H5_I32, data->rank, data->dims);
    feed(digest, digest->buffer, n * sizeof(int32_t));
    feed(digest, "", 1);
    return KV_OK;
}

static int feed_dataset(struct digest *digest, const struct entry *entry)
{
    struct kv_h5_data data;
    int status = kv_h5_describe(&data, digest->file, entry->object, digest->err);
    if (status != KV_OK) return status;
    if (data.type >= KV_H5_STRING && data.type != KV_H5_INTEGER)
        return kv_fail(digest->err, KV_EINPUT, "%s: /%s: expected numbers, found %s",
                       kv_h5_path(digest->file), entry->object, kv_h5_type_name(data.type));
    if (data.type == KV_H5_INTEGER) return feed_odd_integers(digest, entry, &data);
    feed_header(digest, entry->key, data.type, data.rank, data.dims);
    status = feed_rows(digest, entry, &data);
    feed(digest, "", 1);
    return status;
}

static void print_hash(char text[KV_HASH_TEXT], const XXH3_state_t *state)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
    size_t used = (size_t)snprintf(text, KV_HASH_TEXT, "xxh3:");
    for (size_t i = 0; i < sizeof canonical.digest; i++)
        used += (size_t)snprintf(text + used, KV_HASH_TEXT - used, "%02x", canonical.digest[i]);
}

static int feed_all(struct digest *digest)
{
    int status = KV_OK;
    if (digest->n) qsort(digest->entries, digest->n, sizeof *digest->entries, compare_entries);
    for (size_t i = 0; i < digest->n && status == KV_OK; i++) {
        const struct entry *entry = &digest->entries[i];
        if (entry->attribute) status = digest->state ? feed_attribute(digest, entry) : KV_OK;
        else if (digest->state || entry->tensor) status = feed_dataset(digest, entry);
    }
    return status;
}

int kv_hash_file(char text[KV_HASH_TEXT], const struct kv_h5 *file, unsigned what,
                 struct kv_error *err)
{
    struct digest digest = {.file = file, .what = what, .err = err};
    text[0] = '\0';
    if (!(what & KV_HASH_SKIP)) {
        digest.state = XXH3_createState();
        if (!digest.state) return out_of_memory(&digest);
        XXH3_128bits_reset(digest.state);
    }
    int status = collect(&digest);
    if (status == KV_OK) status = feed_all(&digest);
    if (status == KV_OK && digest.state) print_hash(text, digest.state);
    for (size_t i = 0; i < digest.n; i++) {
        free(digest.entries[i].key);
        free(digest.entries[i].object);
    }
    free(digest.entries);
    free(digest.buffer);
    if (digest.state) XXH3_freeState(digest.state);
    return status;
}
