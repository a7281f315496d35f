/* Files, groups and types; see h5.h. Datasets are in h5_dataset.c, attributes in h5_attribute.c. */
#include "traces/h5.h"

#include <errno.h>
#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "traces/h5_access.h"
#include "traces/h5_private.h"
#include "traces/h5_probe.h"
#include "traces/h5_reason.h"

int kv_h5_damaged(const struct kv_h5 *file, const char *object, const char *expected,
                  struct kv_error *err)
{
    char reason[128];
    kv_h5_reason(reason);
    return kv_fail(err, KV_EINPUT, "%s: /%s: expected %s, found damage (HDF5: %s)", file->path,
                   object, expected, reason);
}

static int check_regular(const char *path, uint64_t *bytes, struct kv_error *err)
{
    struct stat info;
    if (stat(path, &info) != 0 || access(path, R_OK) != 0)
        return kv_fail(err, KV_EINPUT, "%s: /: expected a readable trace file, found: %s", path,
                       strerror(errno));
    if (!S_ISREG(info.st_mode))
        return kv_fail(err, KV_EINPUT, "%s: /: expected a trace file, found %s", path,
                       S_ISDIR(info.st_mode) ? "a folder" : "something that is not a file");
    *bytes = (uint64_t)info.st_size;
    return KV_OK;
}

hid_t kv_h5_access_list(void)
{
    const hid_t access_list = H5Pcreate(H5P_FILE_ACCESS);
    if (access_list < 0) return H5I_INVALID_HID;
    H5Pset_fclose_degree(access_list, H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access_list, false, true);
#endif
    return access_list;
}

static hid_t open_plain(const char *path, char reason[128])
{
    const hid_t access_list = kv_h5_access_list();
    if (access_list < 0) return H5I_INVALID_HID;
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access_list);
    kv_h5_reason(reason);         /* the next call forgets it */
    H5Pclose(access_list);
    return file;
}

static int open_library(struct kv_h5 *file, struct kv_error *err)
{
    const htri_t is_hdf5 = H5Fis_hdf5(file->path);
    if (is_hdf5 <= 0)
        return kv_fail(err, KV_EINPUT, "%s: /: expected an HDF5 file, found %" PRIu64
                       " bytes of something else", file->path, file->bytes);
    char reason[128] = "";
    file->id = open_plain(file->path, reason);
    if (file->id < 0)
        return kv_fail(err, KV_EINPUT,
                       "%s: /: expected a whole HDF5 file, found one that is truncated"
                       " or damaged (HDF5: %s)",
                       file->path, reason);
    void *handle = NULL;
    if (H5Fget_vfd_handle(file->id, H5P_DEFAULT, &handle) < 0 || !handle)
        return kv_h5_damaged(file, "", "a plain file", err);
    file->descriptor = *(int *)handle;
    return KV_OK;
}

int kv_h5_open(struct kv_h5 **out, const char *path, struct kv_error *err)
{
    *out = NULL;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    uint64_t bytes = 0;
    int status = check_regular(path, &bytes, err);
    if (status == KV_OK) status = kv_h5_probe(path, err);
    if (status != KV_OK) return status;
    struct kv_h5 *file = calloc(1, sizeof *file);
    if (!file) return kv_fail(err, KV_EMEMORY, "%s: out of memory", path);
    *file = (struct kv_h5){.id = H5I_INVALID_HID, .path = strdup(path), .bytes = bytes,
                           .memo = calloc(1, sizeof *file->memo)};
    if (!file->path || !file->memo) {
        kv_h5_close(file);
        return kv_fail(err, KV_EMEMORY, "%s: out of memory", path);
    }
    status = open_library(file, err);
    if (status != KV_OK) kv_h5_close(file);
    else *out = file;
    return status;
}

static void free_memo(struct memo *memo)
{
    for (size_t i = 0; memo && i < memo->n; i++) free(memo->list[i].object);
    if (memo) free(memo->list);
    free(memo);
}

void kv_h5_close(struct kv_h5 *file)
{
    if (!file) return;
    if (file->id >= 0) H5Fclose(file->id);
    free_memo(file->memo);
    free(file->path);
    free(file);
}

const char *kv_h5_path(const struct kv_h5 *file) { return file->path; }

uint64_t kv_h5_file_bytes(const struct kv_h5 *file) { return file->bytes; }

const struct kv_h5_data *kv_h5_recall(struct memo *memo, const char *object)
{
    for (size_t i = 0; i < memo->n; i++) {
        const size_t at = (memo->next + i) % memo->n;
        if (strcmp(memo->list[at].object, object) != 0) continue;
        memo->next = at + 1;
        return &memo->list[at].data;
    }
    return NULL;
}

bool kv_h5_exists(const struct kv_h5 *file, const char *object)
{
    if (file->memo && kv_h5_recall(file->memo, object)) return true;
    /* H5Lexists wants every step of the way to exist. */
    char part[512];
    const size_t length = strlen(object);
    if (length >= sizeof part) return false;
    for (size_t i = 1; i <= length; i++) {
        if (object[i] != '/' && object[i] != '\0') continue;
        memcpy(part, object, i);
        part[i] = '\0';
        if (H5Lexists(file->id, part, H5P_DEFAULT) <= 0) return false;
    }
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_group(struct kv_h5_names *out, hid_t group)
{
    H5G_info_t info;
    /* More links than bytes in any believable file: refuse before allocating. */
    if (H5Gget_info(group, &info) < 0 || info.nlinks > 1u << 20) return -1;
    out->names = calloc(info.nlinks + 1, sizeof *out->names);
    if (!out->names) return -1;
    for (hsize_t i = 0; i < info.nlinks; i++) {
        const ssize_t length =
            H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, NULL, 0, H5P_DEFAULT);
        char *name = length < 0 ? NULL : malloc((size_t)length + 1);
        if (!name) return -1;
        out->names[out->n++] = name;
        if (H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, (size_t)length + 1,
                               H5P_DEFAULT) < 0) return -1;
    }
    qsort(out->names, out->n, sizeof *out->names, compare_names);
    return 0;
}

int kv_h5_list(struct kv_h5_names *out, const struct kv_h5 *file, const char *group,
               struct kv_error *err)
{
    *out = (struct kv_h5_names){0};
    if (!kv_h5_exists(file, group)) return KV_OK;
    const hid_t id = H5Gopen2(file->id, group, H5P_DEFAULT);
    if (id < 0)
        return kv_fail(err, KV_EINPUT, "%s: /%s: expected a group, found something else",
                       file->path, group);
    int status = KV_OK;
    if (list_group(out, id) != 0) {
        kv_h5_names_free(out);
        status = kv_h5_damaged(file, group, "a group", err);
    }
    H5Gclose(id);
    return status;
}

void kv_h5_names_free(struct kv_h5_names *names)
{
    for (size_t i = 0; i < names->n; i++) free(names->names[i]);
    free(names->names);
    *names = (struct kv_h5_names){0};
}

static enum kv_h5_type float_type(hid_t type)
{
    size_t sign, exponent, exponent_bits, mantissa, mantissa_bits;
    if (H5Tget_order(type) != H5T_ORDER_LE
        || H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0)
        return KV_H5_OTHER;
    if (H5Tget_size(type) == 2 && sign == 15 && exponent == 10 && exponent_bits == 5 &&
        mantissa == 0 && mantissa_bits == 10 && H5Tget_ebias(type) == 15)
        return KV_H5_F16;
    if (H5Tequal(type, H5T_IEEE_F32LE) > 0) return KV_H5_F32;
    if (H5Tequal(type, H5T_IEEE_F64LE) > 0) return KV_H5_F64;
    return KV_H5_OTHER;
}

enum kv_h5_type kv_h5_classify(hid_t type)
{
    switch (H5Tget_class(type)) {
    case H5T_FLOAT:
        return float_type(type);
    case H5T_INTEGER:
        if (H5Tequal(type, H5T_STD_I32LE) > 0) return KV_H5_I32;
        if (H5Tequal(type, H5T_STD_I64LE) > 0) return KV_H5_I64;
        if (H5Tequal(type, H5T_STD_U16LE) > 0) return KV_H5_U16;
        /* The file is little-endian (schema.md); of one byte there is no order. */
        if (H5Tget_order(type) == H5T_ORDER_BE && H5Tget_size(type) > 1) return KV_H5_OTHER;
        return H5Tget_size(type) <= 8 ? KV_H5_INTEGER : KV_H5_OTHER;
    case H5T_STRING:
        return KV_H5_STRING;
    default:
        return KV_H5_OTHER;
    }
}

const char *kv_h5_type_name(enum kv_h5_type type)
{
    static const char *const names[] = {"f16", "f32", "f64", "bf16", "i32", "i64", "u16", "str",
                                        "integer of another width", "another type or order of bytes"};
    return names[type];
}

void kv_h5_print_shape(char *text, size_t capacity, const struct kv_h5_data *data)
{
    size_t used = (size_t)snprintf(text, capacity, "[");
    for (uint32_t i = 0; i < data->rank && i < KV_H5_RANK && used < capacity; i++)
        used += (size_t)snprintf(text + used, capacity - used, "%s%" PRIu64, i ? ", " : "",
                                 data->dims[i]);
    if (used < capacity)
        snprintf(text + used, capacity - used, "] %s", kv_h5_type_name(data->type));
}

int kv_h5_dims(uint64_t dims[KV_H5_RANK], uint32_t *rank, uint64_t *n, hid_t space)
{
    const int found = H5Sget_simple_extent_ndims(space);
    hsize_t extent[H5S_MAX_RANK] = {0};
    if (found < 0 || found > KV_H5_RANK || H5Sget_simple_extent_type(space) == H5S_NULL
        || H5Sget_simple_extent_dims(space, extent, NULL) < 0) return -1;
    *rank = (uint32_t)found;
    *n = 1;
    for (int i = 0; i < found; i++) {
        dims[i] = extent[i];
        if (__builtin_mul_overflow(*n, dims[i], n) || *n > UINT64_MAX / 16) return -1;
    }
    return 0;
}
