/* Writes a trace file, format 1: contiguous datasets, aside (FILE.partial) and renamed when whole.
 *
 * The calls between create and finish return nothing: the first failure is kept, what follows does
 * nothing, and finish reports it. Either finish or abandon ends a writer; after a failure neither
 * FILE.partial nor a new FILE is left. */
#ifndef KVBENCH_TRACES_WRITER_H
#define KVBENCH_TRACES_WRITER_H

#include "traces/h5.h"

struct kv_trace_writer;

/* Writes `format` and `version` as well. KV_EENVIRONMENT when the folder cannot be written. */
int kv_trace_writer_create(struct kv_trace_writer **out, const char *path, struct kv_error *err);

/* Attributes of an object ("" is the root); a group that does not exist yet is made. */
void kv_trace_writer_text(struct kv_trace_writer *writer, const char *object, const char *name,
                          const char *text);
void kv_trace_writer_i32(struct kv_trace_writer *writer, const char *object, const char *name,
                         int32_t value);
void kv_trace_writer_i64(struct kv_trace_writer *writer, const char *object, const char *name,
                         int64_t value);
void kv_trace_writer_real(struct kv_trace_writer *writer, const char *object, const char *name,
                          double value);
void kv_trace_writer_value(struct kv_trace_writer *writer, const char *object, const char *name,
                           const struct kv_h5_value *value);

/* A dataset [dims]; KV_H5_BF16 is written as marked u16 words. data may be NULL when it is empty.
 */
void kv_trace_writer_data(struct kv_trace_writer *writer, const char *object, enum kv_h5_type type,
                          uint32_t rank, const uint64_t *dims, const void *data);

/* The same chunked by its first dimension, with shuffle and deflate. */
void kv_trace_writer_deflated(struct kv_trace_writer *writer, const char *object,
                              enum kv_h5_type type, uint32_t rank, const uint64_t *dims,
                              const void *data);

/* KV_OK, or the status of the first failure so far: lets a long job stop early. */
int kv_trace_writer_status(const struct kv_trace_writer *writer);

/* Computes and stores the content hash, renames, frees. */
int kv_trace_writer_finish(struct kv_trace_writer *writer, struct kv_error *err);

/* Removes what was written and frees; accepts NULL. */
void kv_trace_writer_abandon(struct kv_trace_writer *writer);

#endif
