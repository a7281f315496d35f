/* Copies parts of one trace into another; absent objects are passed over. */
#ifndef KVBENCH_TRACES_COPY_H
#define KVBENCH_TRACES_COPY_H

#include "traces/writer.h"

struct kv_cut {                   /* which indices of a dimension stay; NULL = all */
    const uint32_t *index;
    uint64_t n;
};

struct kv_copy {
    struct kv_trace_writer *writer;
    const struct kv_h5 *from;
    struct kv_error *err;
};

int kv_copy_attribute(const struct kv_copy *copy, const char *object, const char *name);

/* A dataset with its `type` mark; cuts is one per dimension or NULL. What was filtered stays so. */
int kv_copy_dataset(const struct kv_copy *copy, const char *object, const struct kv_cut *cuts);

#endif
