/* The HDF5 library alone, as others would read a trace: beside it stands what the trace reader
 * does. */
#ifndef KVBENCH_HARNESS_PERF_HDF5_READING_H
#define KVBENCH_HARNESS_PERF_HDF5_READING_H

#include <stddef.h>
#include <stdint.h>

#include "harness/base/status.h"

struct kv_hdf5_reading {
    int64_t file, dataset, memory, space, type; /* the library's handles */
    void *buffer;
    size_t bytes; /* in the file */
};

/* The first head of a dataset [heads][tokens][dim] of halves, as floats by the library's own conversion. Closed
 * even after an error. */
int kv_hdf5_reading_open(struct kv_hdf5_reading *reading, const char *path, const char *object,
                         struct kv_error *err);
void kv_hdf5_reading_close(struct kv_hdf5_reading *reading);
/* A kv_perf_work: bytes of the file. */
double kv_hdf5_reading_run(void *context);

/* Stores q, k and v of the first layer anew, in chunks of a head and 1,024 tokens, without a
 * filter. */
int kv_hdf5_chunk_layer(const char *path, struct kv_error *err);

#endif
