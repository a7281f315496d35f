/* Checked access to an HDF5 file: the only door through which traces are read. Every failure
 * becomes `FILE: /path: expected X, found Y` (KV_EINPUT). HDF5 is not thread-safe: one thread calls
 * these.
 *
 * Objects are named without a leading slash ("layers/007/k"; "" is the root). */
#ifndef KVBENCH_TRACES_H5_H
#define KVBENCH_TRACES_H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "harness/base/status.h"

struct kv_h5;                     /* an open file */

enum kv_h5_type {
    KV_H5_F16, KV_H5_F32, KV_H5_F64, KV_H5_BF16, KV_H5_I32, KV_H5_I64, KV_H5_U16, KV_H5_STRING,
    KV_H5_INTEGER,                /* an integer of another width or byte order */
    KV_H5_OTHER
};

enum { KV_H5_RANK = 3 };          /* no object of a trace has more dimensions */

struct kv_h5_data {               /* a dataset, before it is read */
    enum kv_h5_type type;         /* u16 words marked `bfloat16` are KV_H5_BF16 */
    uint32_t rank;
    uint64_t dims[KV_H5_RANK];
    size_t element_bytes;
    uint64_t bytes, stored_bytes; /* in memory; on disk */
    uint64_t offset;              /* of the bytes in the file when contiguous, else 0 */
    uint64_t chunk_rows;          /* steps of the first dimension that read well */
    uint64_t run[KV_H5_RANK];     /* chunks of that shape hold runs of its words as they are; else 0 */
    char filters[48];             /* "shuffle+deflate"; empty when none */
};

struct kv_h5_value {              /* an attribute; data is raw little-endian, or a C string */
    enum kv_h5_type type;         /* odd integers arrive as KV_H5_I64 */
    uint32_t rank;
    uint64_t dims[KV_H5_RANK], n;
    size_t bytes;                 /* of data; of a string without its terminator */
    void *data;                   /* caller frees */
};

int kv_h5_open(struct kv_h5 **out, const char *path, struct kv_error *err);
void kv_h5_close(struct kv_h5 *file);
const char *kv_h5_path(const struct kv_h5 *file);
uint64_t kv_h5_file_bytes(const struct kv_h5 *file);

bool kv_h5_exists(const struct kv_h5 *file, const char *object);
bool kv_h5_has_attribute(const struct kv_h5 *file, const char *object, const char *name);

/* The names in a group, in ascending byte order; n = 0 when the group is absent. */
struct kv_h5_names { size_t n; char **names; };
int kv_h5_list(struct kv_h5_names *out, const struct kv_h5 *file, const char *group,
               struct kv_error *err);
void kv_h5_names_free(struct kv_h5_names *names);

int kv_h5_describe(struct kv_h5_data *out, const struct kv_h5 *file, const char *object,
                   struct kv_error *err);

/* Reads rows first .. first + rows - 1 of the first dimension as they are stored: contiguous data
 * and runs in chunks with pread, anything else through the library with the file's own type, so without
 * conversion. */
int kv_h5_read(void *out, const struct kv_h5 *file, const char *object,
               const struct kv_h5_data *data, uint64_t first, uint64_t rows, struct kv_error *err);

/* A whole integer dataset, whatever its width, as i32; a value outside i32 is an error. */
int kv_h5_read_i32(int32_t *out, const struct kv_h5 *file, const char *object,
                   const struct kv_h5_data *data, struct kv_error *err);

int kv_h5_value(struct kv_h5_value *out, const struct kv_h5 *file, const char *object,
                const char *name, struct kv_error *err);
int kv_h5_text(char **out, const struct kv_h5 *file, const char *object, const char *name,
               struct kv_error *err);
int kv_h5_int(int64_t *out, const struct kv_h5 *file, const char *object, const char *name,
              struct kv_error *err);
int kv_h5_real(double *out, const struct kv_h5 *file, const char *object, const char *name,
               struct kv_error *err);

const char *kv_h5_type_name(enum kv_h5_type type);   /* as the content hash spells it */

/* "[3, 1024, 64] f16" for messages. */
void kv_h5_print_shape(char *text, size_t capacity, const struct kv_h5_data *data);

#endif
