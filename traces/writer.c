/* Writing trace files; see writer.h. */
#include "traces/writer.h"

#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traces/h5_private.h"
#include "traces/h5_reason.h"
#include "traces/hash.h"
#include "traces/schema.h"

enum { DEFLATE_LEVEL = 4 };

struct kv_trace_writer {
    hid_t file;
    char *path, *partial;
    int status;
    struct kv_error err;          /* of the first failure */
};

static void fail_with(struct kv_trace_writer *writer, const char *object, const char *name,
                      const char *reason)
{
    if (writer->status != KV_OK) return;
    writer->status = kv_fail(&writer->err, KV_EENVIRONMENT,
                             "%s: /%s%s%s: expected to write it, found: %s", writer->path, object,
                             name ? "@" : "", name ? name : "", reason);
}

/* Right after the call that failed: the next one forgets why. */
static void fail(struct kv_trace_writer *writer, const char *object, const char *name)
{
    char reason[128];
    kv_h5_reason(reason);
    fail_with(writer, object, name, reason);
}

static void open_file(struct kv_trace_writer *writer, unsigned flags)
{
    const char *path = writer->partial;
    char reason[128];
    const hid_t access_list = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access_list, H5F_CLOSE_STRONG);
    /* Attributes above 64 KiB (a long model_config) need the newer layout. */
    H5Pset_libver_bounds(access_list, H5F_LIBVER_EARLIEST, H5F_LIBVER_V110);
    writer->file = flags == H5F_ACC_TRUNC ? H5Fcreate(path, flags, H5P_DEFAULT, access_list)
                                          : H5Fopen(path, flags, access_list);
    kv_h5_reason(reason);
    if (writer->file < 0) fail_with(writer, "", NULL, reason);
    H5Pclose(access_list);
}

static struct kv_trace_writer *allocate(const char *path)
{
    struct kv_trace_writer *writer = calloc(1, sizeof *writer);
    if (!writer) return NULL;
    writer->file = H5I_INVALID_HID;
    writer->path = strdup(path);
    if (asprintf(&writer->partial, "%s.partial", path) < 0) writer->partial = NULL;
    if (writer->path && writer->partial) return writer;
    free(writer->path);
    free(writer->partial);
    free(writer);
    return NULL;
}

int kv_trace_writer_create(struct kv_trace_writer **out, const char *path, struct kv_error *err)
{
    *out = NULL;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    struct kv_trace_writer *writer = allocate(path);
    if (!writer) return kv_fail(err, KV_EMEMORY, "%s: out of memory", path);
    open_file(writer, H5F_ACC_TRUNC);
    if (writer->file < 0) {
        const int status = writer->status;
        if (err) *err = writer->err;
        kv_trace_writer_abandon(writer);
        return status;
    }
    kv_trace_writer_text(writer, "", "format", KV_TRACE_FORMAT);
    kv_trace_writer_i32(writer, "", "version", KV_TRACE_VERSION);
    *out = writer;
    return KV_OK;
}

/* IEEE binary16, which this library has no name for. */
static hid_t half_type(void)
{
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

/* Variable length: what h5py writes, and hands to Python as text. */
static hid_t text_type(void)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

/* The caller closes it. */
static hid_t file_type(enum kv_h5_type type)
{
    switch (type) {
    case KV_H5_F16: return half_type();
    case KV_H5_F32: return H5Tcopy(H5T_IEEE_F32LE);
    case KV_H5_F64: return H5Tcopy(H5T_IEEE_F64LE);
    case KV_H5_I32: return H5Tcopy(H5T_STD_I32LE);
    case KV_H5_I64: return H5Tcopy(H5T_STD_I64LE);
    case KV_H5_BF16:
    case KV_H5_U16: return H5Tcopy(H5T_STD_U16LE);
    case KV_H5_STRING: return text_type();
    default: return H5I_INVALID_HID;
    }
}

static hid_t links_with_groups(void)
{
    const hid_t list = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(list, 1);
    return list;
}

static bool exists(const struct kv_trace_writer *writer, const char *object)
{
    const struct kv_h5 view = {.id = writer->file};
    return *object == '\0' || kv_h5_exists(&view, object);
}

static hid_t open_or_make(const struct kv_trace_writer *writer, const char *object)
{
    if (exists(writer, object)) return H5Oopen(writer->file, *object ? object : "/", H5P_DEFAULT);
    const hid_t links = links_with_groups();
    const hid_t group = H5Gcreate2(writer->file, object, links, H5P_DEFAULT, H5P_DEFAULT);
    H5Pclose(links);
    return group;
}

static hid_t dataspace(uint32_t rank, const uint64_t *dims)
{
    hsize_t extent[KV_H5_RANK] = {0};
    for (uint32_t i = 0; i < rank; i++) extent[i] = dims[i];
    return rank ? H5Screate_simple((int)rank, extent, NULL) : H5Screate(H5S_SCALAR);
}

void kv_trace_writer_value(struct kv_trace_writer *writer, const char *object, const char *name,
                           const struct kv_h5_value *value)
{
    if (writer->status != KV_OK) return;
    const hid_t owner = open_or_make(writer, object), type = file_type(value->type);
    const hid_t space = dataspace(value->rank, value->dims);
    const hid_t attribute = owner < 0 || type < 0 || space < 0 ? H5I_INVALID_HID
        : H5Acreate2(owner, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const void *data = value->type == KV_H5_STRING ? (const void *)&value->data : value->data;
    if (attribute < 0 || H5Awrite(attribute, type, data) < 0) fail(writer, object, name);
    if (attribute >= 0) H5Aclose(attribute);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (owner >= 0) H5Oclose(owner);
}

void kv_trace_writer_text(struct kv_trace_writer *writer, const char *object, const char *name,
                          const char *text)
{
    const struct kv_h5_value value = {.type = KV_H5_STRING, .n = 1, .bytes = strlen(text),
                                      .data = (void *)text};
    kv_trace_writer_value(writer, object, name, &value);
}

void kv_trace_writer_i32(struct kv_trace_writer *writer, const char *object, const char *name,
                         int32_t value)
{
    const struct kv_h5_value wrapped = {.type = KV_H5_I32, .n = 1, .data = &value};
    kv_trace_writer_value(writer, object, name, &wrapped);
}

void kv_trace_writer_i64(struct kv_trace_writer *writer, const char *object, const char *name,
                         int64_t value)
{
    const struct kv_h5_value wrapped = {.type = KV_H5_I64, .n = 1, .data = &value};
    kv_trace_writer_value(writer, object, name, &wrapped);
}

void kv_trace_writer_real(struct kv_trace_writer *writer, const char *object, const char *name,
                          double value)
{
    const struct kv_h5_value wrapped = {.type = KV_H5_F64, .n = 1, .data = &value};
    kv_trace_writer_value(writer, object, name, &wrapped);
}

/* Without time stamps: the same content gives the same file. */
static hid_t storage(bool deflated, uint32_t rank, const uint64_t *dims)
{
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(list, false);
    H5Pset_fill_time(list, H5D_FILL_TIME_NEVER);
    if (!deflated || rank == 0) return list;
    hsize_t chunk[KV_H5_RANK] = {1};
    for (uint32_t i = rank > 1; i < rank; i++) chunk[i] = dims[i] ? dims[i] : 1;
    H5Pset_chunk(list, (int)rank, chunk);
    H5Pset_shuffle(list);
    H5Pset_deflate(list, DEFLATE_LEVEL);
    return list;
}

static void write_data(struct kv_trace_writer *writer, const char *object, enum kv_h5_type type,
                       uint32_t rank, const uint64_t *dims, const void *data, bool deflated)
{
    if (writer->status != KV_OK) return;
    const hid_t links = links_with_groups(), list = storage(deflated, rank, dims);
    const hid_t stored = file_type(type);
    const hid_t space = dataspace(rank, dims);
    const hid_t dataset = H5Dcreate2(writer->file, object, stored, space, links, list, H5P_DEFAULT);
    const bool empty = H5Sget_simple_extent_npoints(space) == 0;
    if (dataset < 0
        || (!empty && H5Dwrite(dataset, stored, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0))
        fail(writer, object, NULL);
    if (dataset >= 0) H5Dclose(dataset);
    H5Sclose(space);
    H5Tclose(stored);
    H5Pclose(list);
    H5Pclose(links);
    if (type == KV_H5_BF16) kv_trace_writer_text(writer, object, "type", "bfloat16");
}

void kv_trace_writer_data(struct kv_trace_writer *writer, const char *object, enum kv_h5_type type,
                          uint32_t rank, const uint64_t *dims, const void *data)
{
    write_data(writer, object, type, rank, dims, data, false);
}

void kv_trace_writer_deflated(struct kv_trace_writer *writer, const char *object,
                              enum kv_h5_type type, uint32_t rank, const uint64_t *dims,
                              const void *data)
{
    write_data(writer, object, type, rank, dims, data, true);
}

int kv_trace_writer_status(const struct kv_trace_writer *writer) { return writer->status; }

static void close_file(struct kv_trace_writer *writer)
{
    if (writer->file >= 0 && H5Fclose(writer->file) < 0) fail(writer, "", NULL);
    writer->file = H5I_INVALID_HID;
}

/* The hash is taken from the file as a reader would: what was stored, not what was meant. */
static void add_hash(struct kv_trace_writer *writer)
{
    struct kv_h5 *file = NULL;
    char text[KV_HASH_TEXT];
    close_file(writer);
    if (writer->status != KV_OK) return;
    writer->status = kv_h5_open(&file, writer->partial, &writer->err);
    if (writer->status == KV_OK) writer->status = kv_hash_file(text, file, 0, &writer->err);
    kv_h5_close(file);
    if (writer->status != KV_OK) return;
    open_file(writer, H5F_ACC_RDWR);
    kv_trace_writer_text(writer, "", "content_hash", text);
    close_file(writer);
}

int kv_trace_writer_finish(struct kv_trace_writer *writer, struct kv_error *err)
{
    add_hash(writer);
    if (writer->status == KV_OK && rename(writer->partial, writer->path) != 0)
        writer->status = kv_fail(&writer->err, KV_EENVIRONMENT,
                                 "%s: /: expected to rename %s to it,"
                                 " found: %s",
                                 writer->path, writer->partial, strerror(errno));
    const int status = writer->status;
    if (status != KV_OK && err) *err = writer->err;
    kv_trace_writer_abandon(writer);
    return status;
}

void kv_trace_writer_abandon(struct kv_trace_writer *writer)
{
    if (!writer) return;
    const bool opened = writer->file >= 0;
    close_file(writer);
    if (opened || writer->status != KV_OK) unlink(writer->partial);
    free(writer->path);
    free(writer->partial);
    free(writer);
}
