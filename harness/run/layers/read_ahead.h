/* Reads the next layer, or opens the next trace, while this one is worked on: one thread, since
 * the HDF5 library may be used by one at a time. So while something is under way (from a start to
 * the next take or wait) nobody else may read traces. */
#ifndef KVBENCH_HARNESS_READ_AHEAD_H
#define KVBENCH_HARNESS_READ_AHEAD_H

#include <pthread.h>

#include "traces/trace.h"

struct kv_read_ahead {                 /* all zeros: nothing under way, nothing read */
    bool running;
    pthread_t thread;
    const struct kv_trace *trace;      /* of the layer asked for; NULL: none */
    uint32_t index;
    unsigned what;
    struct kv_layer *layer;            /* NULL: not read, see status */
    const char *path;                  /* of the trace asked for; NULL: none */
    unsigned flags;
    struct kv_trace *opened;
    int status;
    struct kv_error error;
};

/* Begin to read layer number i of trace->layers, or to open a trace; path and trace must last until
 * they are taken. A thread that cannot be had only means that taking takes its time. */
void kv_read_ahead_layer(struct kv_read_ahead *ahead, const struct kv_trace *trace, uint32_t i,
                         unsigned what);
void kv_read_ahead_trace(struct kv_read_ahead *ahead, const char *path, unsigned flags);

/* What kv_trace_read_layer and kv_trace_open give, be it read ahead or not. */
int kv_read_ahead_take_layer(struct kv_read_ahead *ahead, struct kv_layer **out,
                             const struct kv_trace *trace, uint32_t i, unsigned what,
                             struct kv_error *err);
int kv_read_ahead_take_trace(struct kv_read_ahead *ahead, struct kv_trace **out, const char *path,
                             unsigned flags, struct kv_error *err);

/* All wait until nothing is under way. leave: the trace is about to close, its layer goes; drop:
 * whatever nobody took goes. */
void kv_read_ahead_wait(struct kv_read_ahead *ahead);
void kv_read_ahead_leave(struct kv_read_ahead *ahead, const struct kv_trace *trace);
void kv_read_ahead_drop(struct kv_read_ahead *ahead);

#endif
