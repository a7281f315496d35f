/* What the parts of h5.h share. */
#ifndef KVBENCH_TRACES_H5_PRIVATE_H
#define KVBENCH_TRACES_H5_PRIVATE_H

#include <hdf5.h>

#include "traces/h5.h"

struct described {                /* a dataset that has been looked at */
    char *object;
    struct kv_h5_data data;
};

struct memo {                     /* looking at one costs the library more than reading 100 KiB */
    struct described *list;
    size_t n, capacity, next; /* next: after the last one found; datasets come in the same order */
};

struct kv_h5 {
    hid_t id;
    int descriptor;      /* the library's own, for pread */
    char *path;
    uint64_t bytes;
    struct memo *memo;
};

/* `bytes` at `offset` of the file; KV_EINPUT: it ends before. */
int kv_h5_read_at(void *out, const struct kv_h5 *file, const char *object, uint64_t bytes, uint64_t offset,
                  struct kv_error *err);

/* Finds data->run, of a dataset of that creation list which lies in chunks. */
void kv_h5_find_runs(struct kv_h5_data *data, const struct kv_h5 *file, hid_t dataset_list);

/* kv_h5_read of such a dataset; 1: a chunk was never written, and the library knows what stands for it. */
int kv_h5_read_runs(void *out, const struct kv_h5 *file, const char *object, const struct kv_h5_data *data,
                    uint64_t first, uint64_t n, struct kv_error *err);

/* What was found out about a dataset before, or NULL. */
const struct kv_h5_data *kv_h5_recall(struct memo *memo, const char *object);

enum kv_h5_type kv_h5_classify(hid_t type);

/* 0 when the dataspace has a rank and size that a trace may have. */
int kv_h5_dims(uint64_t dims[KV_H5_RANK], uint32_t *rank, uint64_t *n, hid_t space);

int kv_h5_damaged(const struct kv_h5 *file, const char *object, const char *expected,
                  struct kv_error *err);

#endif
