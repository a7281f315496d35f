/* Files, groups and datasets; see h5.h. Attributes are in h5_attribute.c. */
#include "traces/h5.h"

#include <errno.h>
#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "traces/h5_private.h"
#include "traces/h5_probe.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "words are handed on as the file has them");

/* What a damaged header may claim without being believed: a filter that shrinks 65536 : 1 (deflate
 * ends at 1032 : 1), and 16 MiB of fill value that was never stored. */
static const uint64_t believable_ratio = 65536, believable_fill = UINT64_C(16) << 20;

/* HDF5's own account of the innermost failure; the system's words where it quotes them. */
static herr_t keep_first(unsigned n, const H5E_error2_t *error, void *text)
{
    static const char quote[] = "error message = '";
    if (n > 0 || !error->desc) return 0;
    const char *system = strstr(error->desc, quote);
    if (system) snprintf(text, 128, "%.*s", (int)strcspn(system + sizeof quote - 1, "'"),
                         system + sizeof quote - 1);
    else snprintf(text, 128, "%s", error->desc);
    return 0;
}

void kv_h5_reason(char text[128])
{
    snprintf(text, 128, "no reason given");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, text);
}

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

/* Without locks (some file systems have none) and with everything closed when the file is. */
static hid_t open_plain(const char *path, char reason[128])
{
    const hid_t access_list = H5Pcreate(H5P_FILE_ACCESS);
    if (access_list < 0) return H5I_INVALID_HID;
    H5Pset_fclose_degree(access_list, H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access_list, false, true);
#endif
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

static const struct kv_h5_data *recall(struct memo *memo, const char *object)
{
    for (size_t i = 0; i < memo->n; i++) {
        const size_t at = (memo->next + i) % memo->n;
        if (strcmp(memo->list[at].object, object) != 0) continue;
        memo->next = at + 1;
        return &memo->list[at].data;
    }
    return NULL;
}

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

bool kv_h5_exists(const struct kv_h5 *file, const char *object)
{
    if (file->memo && recall(file->memo, object)) return true;
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
                                        "integer of another width", "another type"};
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
    const struct kv_h5_data *known = recall(file->memo, object);
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

static int read_plain(void *out, const struct kv_h5 *file, const char *object, uint64_t bytes,
                      uint64_t offset, struct kv_error *err)
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
        return read_plain(out, file, object, row_bytes * rows, data->offset + first * row_bytes,
                          err);
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
