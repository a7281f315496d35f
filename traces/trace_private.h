/* What the files of the reader share. */
#ifndef KVBENCH_TRACES_TRACE_PRIVATE_H
#define KVBENCH_TRACES_TRACE_PRIVATE_H

#include "traces/h5.h"
#include "traces/trace.h"

/* What a dataset must look like. A dimension of 0 stands for any from 1 up (from 0 up when its name
 * is "n"); names[] says in messages what it is. */
struct kv_expected {
    unsigned types;               /* bits 1 << enum kv_h5_type */
    uint32_t rank;
    uint64_t dims[KV_H5_RANK];
    const char *names[KV_H5_RANK];
};

enum {
    KV_TYPES_INTEGER = 1 << KV_H5_I32 | 1 << KV_H5_I64 | 1 << KV_H5_U16 | 1 << KV_H5_INTEGER,
    KV_TYPES_TENSOR = 1 << KV_H5_F16 | 1 << KV_H5_F32 | 1 << KV_H5_BF16,
    KV_TYPES_GRADIENT = 1 << KV_H5_F16 | 1 << KV_H5_F32
};

int kv_expect(struct kv_h5_data *out, const struct kv_h5 *file, const char *object,
              const struct kv_expected *expected, struct kv_error *err);

/* An integer attribute within low..high. */
int kv_expect_int(int64_t *out, const struct kv_h5 *file, const char *object, const char *name,
                  int64_t low, int64_t high, struct kv_error *err);

/* A finite real attribute; at least 0, or above 0 when `positive`. */
int kv_expect_real(double *out, const struct kv_h5 *file, const char *object, const char *name,
                   bool positive, struct kv_error *err);

/* [n][2] half-open ranges of tokens within low..high, none empty; *out is allocated. */
int kv_read_ranges(uint32_t (**out)[2], uint32_t *n, const struct kv_h5 *file, const char *object,
                   uint32_t low, uint32_t high, struct kv_error *err);

int kv_trace_parse_layers(struct kv_trace *trace, struct kv_error *err);   /* trace_layer.c */
int kv_trace_parse_probes(struct kv_trace *trace, struct kv_error *err);   /* trace_probes.c */

void kv_layers_release(void);     /* gives back the memory that freed layers left; trace_read.c */

enum kv_dtype kv_dtype_of(enum kv_h5_type type);

#endif
