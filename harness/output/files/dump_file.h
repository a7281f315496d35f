/* Writing the HDF5 file of `dump` (cli.md section 5): arrays of f32 and i64, attributes of bytes. Written
 * aside and renamed. */
#ifndef KVBENCH_HARNESS_DUMP_FILE_H
#define KVBENCH_HARNESS_DUMP_FILE_H

#include <stdint.h>

#include "harness/base/status.h"

struct kv_dump_file;

int kv_dump_create(struct kv_dump_file **out, const char *path, struct kv_error *err);
/* A dataset of `rank` dims at "group/name"; groups are made on the way. */
int kv_dump_floats(struct kv_dump_file *file, const char *name, uint32_t rank, const uint64_t *dims,
                   const float *data, struct kv_error *err);
int kv_dump_integers(struct kv_dump_file *file, const char *name, uint64_t n, const int64_t *data,
                     struct kv_error *err);
int kv_dump_attribute(struct kv_dump_file *file, const char *name, int64_t value, struct kv_error *err);
int kv_dump_text(struct kv_dump_file *file, const char *name, const char *value, struct kv_error *err);
/* Renames when keep is set, else removes what was written. */
int kv_dump_close(struct kv_dump_file *file, int keep, struct kv_error *err);

#endif
