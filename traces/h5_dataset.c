/* Datasets; see h5.h. */
#include <errno.h>
#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traces/h5_private.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "words are handed on as the file has them");

/* What a damaged header may claim without being believed: a filter that shrinks 65536 : 1 (deflate
 * ends at 1032 : 1), and 16 MiB of fill value that was never stored. */
static const uint64_t believable_ratio = 65536, believable_fill = UINT64_C(16) << 20;

/* Without memory it is not remembered, and looked at again. */
static void remember(struct memo *memo, const char *object, const struct kv_h5_data *data)
{
    if (memo->n == memo->capacity) {
        const size_t capacity = memo->capacity ? memo->capacity * 2 : 128;
        struct described *list = realloc(memo->list, capacity * sizeof *list);
        if (!list) return;
        memo->list = list;
        memo->capacity = capacity;
    }
    char *copy = strdup(object);
    if (copy) memo->list[memo->n++] = (struct described){copy, *data};
}

static void add_filters(struct kv_h5_data *out, hid_t list)
{
    size_t used = 0;
    for (int i = 0; i < H5Pget_nfilters(list) && used < sizeof out->filters; i++) {
        char name[32] = "";
        unsigned flags, config;
        size_t n = 0;
        H5Pget_filter2(list, (unsigned)i, &flags, &n, NULL, sizeof name, name, &config);
        used += (size_t)snprintf(out->filters + used, sizeof out->filters - used, "%s%s",
                                 i ? "+" : "", *name ? name : "unknown");
    }
}

/* Where the bytes lie and whether the file can hold as many as the header says. */
static int describe_storage(struct kv_h5_data *out, const struct kv_h5 *file, const char *object,
                            hid_t dataset, struct kv_error *err)
{
    const hid_t list = H5Dget_create_plist(dataset);
    const H5D_layout_t layout = H5Pget_layout(list);
    out->chunk_rows = out->rank ? out->dims[0] : 1;
    out->stored_bytes = H5Dget_storage_size(dataset);
    const haddr_t offset = layout == H5D_CONTIGUOUS ? H5Dget_offset(dataset) : HADDR_UNDEF;
    const bool elsewhere = layout == H5D_VIRTUAL || H5Pget_external_count(list) > 0;
    if (offset != HADDR_UNDEF && !elsewhere) out->offset = offset;
    hsize_t chunk[H5S_MAX_RANK] = {0};
    if (layout == H5D_CHUNKED && H5Pget_chunk(list, H5S_MAX_RANK, chunk) > 0 && chunk[0])
        out->chunk_rows = chunk[0];
    if (layout == H5D_CHUNKED && !elsewhere) kv_h5_find_runs(out, file, list);
    add_filters(out, list);
    H5Pclose(list);
    if (elsewhere)
        return kv_fail(err, KV_EINPUT, "%s: /%s: expected data in this file, found a reference to"
                       " another", file->path, object);
    const uint64_t end = out->offset + out->bytes;
    if (out->offset && (end < out->offset || end > file->bytes))
        return kv_fail(err, KV_EINPUT,
                       "%s: /%s: expected %" PRIu64 " bytes at %" PRIu64 ", found the"
                       " end of the file at %" PRIu64,
                       file->path, object, out->bytes, out->offset, file->bytes);
    if (out->stored_bytes > file->bytes
        || (out->bytes > believable_fill && out->bytes / believable_ratio > out->stored_bytes))
        return kv_fail(err, KV_EINPUT, "%s: /%s: expected %" PRIu64 " bytes of data, found %" PRIu64
                       " stored in a file of %" PRIu64, file->path, object, out->bytes,
                       out->stored_bytes, file->bytes);
    return KV_OK;
}

static int describe_dataset(struct kv_h5_data *out, const struct kv_h5 *file, const char *object,
                            hid_t dataset, struct kv_error *err)
{
    const hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    uint64_t n = 0;
    const int failed = type < 0 || space < 0 || kv_h5_dims(out->dims, &out->rank, &n, space) != 0;
    if (!failed) {
        out->type = kv_h5_classify(type);
        out->element_bytes = H5Tget_size(type);
    }
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    if (failed || __builtin_mul_overflow(n, out->element_bytes, &out->bytes))
        return kv_fail(err, KV_EINPUT, "%s: /%s: expected at most %d dimensions and a size that can"
                       " exist, found another dataspace", file->path, object, KV_H5_RANK);
    if (out->type == KV_H5_U16 && H5Aexists(dataset, "type") > 0) {
        char *mark = NULL;
        const int status = kv_h5_text(&mark, file, object, "type", err);
        if (status != KV_OK) return status;
        if (strcmp(mark, "bfloat16") == 0) out->type = KV_H5_BF16;
        free(mark);
    }
    return describe_storage(out, file, object, dataset, err);
}

static int open_dataset(hid_t *out, const struct kv_h5 *file, const char *object,
                        struct kv_error *err)
{
    *out = H5I_INVALID_HID;
    if (!kv_h5_exists(file, object))
        return kv_fail(err, KV_EINPUT, "%s: /%s: expected a dataset, found nothing", file->path,
                       object);
    *out = H5Dopen2(file->id, object, H5P_DEFAULT);
    return *out < 0 ? kv_h5_damaged(file, object, "a dataset", err) : KV_OK;
}

int kv_h5_describe(struct kv_h5_data *out, const struct kv_h5 *file, const char *object,
                   struct kv_error *err)
{
    const struct kv_h5_data *known = kv_h5_recall(file->memo, object);
    *out = known ? *known : (struct kv_h5_data){0};
    if (known) return KV_OK;
    hid_t dataset;
    int status = open_dataset(&dataset, file, object, err);
    if (status != KV_OK) return status;
    status = describe_dataset(out, file, object, dataset, err);
    H5Dclose(dataset);
    if (status == KV_OK) remember(file->memo, object, out);
    return status;
}

int kv_h5_read_at(void *out, const struct kv_h5 *file, const char *object, uint64_t bytes, uint64_t offset,
                  struct kv_error *err)
{
    for (uint64_t done = 0; done < bytes;) {
        const ssize_t n = pread(file->descriptor, (char *)out + done, bytes - done,
                                (off_t)(offset + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return kv_fail(err, KV_EINPUT, "%s: /%s: expected %" PRIu64 " bytes, found %s after %"
                           PRIu64, file->path, object, bytes,
                           n < 0 ? strerror(errno) : "the end of the file", done);
        done += (uint64_t)n;
    }
    return KV_OK;
}

/* Through the library, memory type `type`, or the file's own when that is H5I_INVALID_HID. */
static int read_library(void *out, const struct kv_h5 *file, const char *object, hid_t type,
                        const hsize_t *start, const hsize_t *count, struct kv_error *err)
{
    hid_t dataset;
    int status = open_dataset(&dataset, file, object, err);
    if (status != KV_OK) return status;
    const hid_t own = H5Dget_type(dataset), space = H5Dget_space(dataset);
    hid_t memory = H5S_ALL;
    if (start && H5Sget_simple_extent_ndims(space) > 0) {
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
        memory = H5Screate_simple(H5Sget_simple_extent_ndims(space), count, NULL);
    }
    const herr_t result = H5Dread(dataset, type < 0 ? own : type, memory,
                                  memory == H5S_ALL ? H5S_ALL : space, H5P_DEFAULT, out);
    if (result < 0)
        status = kv_h5_damaged(file, object, "data that this HDF5 library can decode", err);
    if (memory > 0) H5Sclose(memory);
    H5Tclose(own);
    H5Sclose(space);
    H5Dclose(dataset);
    return status;
}

int kv_h5_read(void *out, const struct kv_h5 *file, const char *object,
               const struct kv_h5_data *data, uint64_t first, uint64_t rows, struct kv_error *err)
{
    uint64_t row_bytes = data->element_bytes;
    for (uint32_t i = 1; i < data->rank; i++) row_bytes *= data->dims[i];
    if (row_bytes * rows == 0) return KV_OK;
    if (data->offset)
        return kv_h5_read_at(out, file, object, row_bytes * rows, data->offset + first * row_bytes, err);
    const int status = data->run[0] ? kv_h5_read_runs(out, file, object, data, first, rows, err) : 1;
    if (status != 1) return status;
    hsize_t start[KV_H5_RANK] = {first}, count[KV_H5_RANK] = {rows};
    for (uint32_t i = 1; i < data->rank; i++) count[i] = data->dims[i];
    return read_library(out, file, object, H5I_INVALID_HID, start, count, err);
}

static int narrow(int32_t *out, const int64_t *wide, uint64_t n, const struct kv_h5 *file,
                  const char *object, struct kv_error *err)
{
    for (uint64_t i = 0; i < n; i++) {
        if (wide[i] < INT32_MIN || wide[i] > INT32_MAX)
            return kv_fail(err, KV_EINPUT, "%s: /%s: expected values that fit i32, found %" PRId64
                           " at %" PRIu64, file->path, object, wide[i], i);
        out[i] = (int32_t)wide[i];
    }
    return KV_OK;
}

int kv_h5_read_i32(int32_t *out, const struct kv_h5 *file, const char *object,
                   const struct kv_h5_data *data, struct kv_error *err)
{
    const uint64_t n = data->bytes / data->element_bytes;
    if (n == 0) return KV_OK;
    if (data->type == KV_H5_I32)
        return read_library(out, file, object, H5T_NATIVE_INT32, NULL, NULL, err);
    int64_t *wide = malloc(n * sizeof *wide);
    if (!wide) return kv_fail(err, KV_EMEMORY, "%s: /%s: out of memory", file->path, object);
    /* The library clamps what does not fit i64; a clamped value does not fit i32 either. */
    int status = read_library(wide, file, object, H5T_NATIVE_INT64, NULL, NULL, err);
    if (status == KV_OK) status = narrow(out, wide, n, file, object, err);
    free(wide);
    return status;
}
