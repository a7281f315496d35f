/* One step ahead; see read_ahead.h. */
#include "harness/run/layers/read_ahead.h"

#include <string.h>

static void *work(void *context)
{
    struct kv_read_ahead *ahead = context;
    ahead->status = ahead->trace
                        ? kv_trace_read_layer(&ahead->layer, ahead->trace, ahead->index,
                                              ahead->what, &ahead->error)
                        : kv_trace_open(&ahead->opened, ahead->path, ahead->flags, &ahead->error);
    return NULL;
}

static void start(struct kv_read_ahead *ahead, const struct kv_read_ahead *wanted)
{
    kv_read_ahead_drop(ahead);
    *ahead = *wanted;
    ahead->running = pthread_create(&ahead->thread, NULL, work, ahead) == 0;
    if (!ahead->running) ahead->trace = NULL, ahead->path = NULL;
}

void kv_read_ahead_layer(struct kv_read_ahead *ahead, const struct kv_trace *trace, uint32_t i,
                         unsigned what)
{
    start(ahead, &(struct kv_read_ahead){.trace = trace, .index = i, .what = what});
}

void kv_read_ahead_trace(struct kv_read_ahead *ahead, const char *path, unsigned flags)
{
    start(ahead, &(struct kv_read_ahead){.path = path, .flags = flags});
}

void kv_read_ahead_wait(struct kv_read_ahead *ahead)
{
    if (ahead->running) pthread_join(ahead->thread, NULL);
    ahead->running = false;
}

void kv_read_ahead_drop(struct kv_read_ahead *ahead)
{
    kv_read_ahead_wait(ahead);
    kv_layer_free(ahead->layer);
    if (ahead->opened) kv_trace_close(ahead->opened);
    *ahead = (struct kv_read_ahead){0};
}

void kv_read_ahead_leave(struct kv_read_ahead *ahead, const struct kv_trace *trace)
{
    kv_read_ahead_wait(ahead);
    if (ahead->trace == trace) kv_read_ahead_drop(ahead);
}

int kv_read_ahead_take_layer(struct kv_read_ahead *ahead, struct kv_layer **out,
                             const struct kv_trace *trace, uint32_t i, unsigned what,
                             struct kv_error *err)
{
    kv_read_ahead_wait(ahead);
    if (ahead->trace != trace || ahead->index != i || ahead->what != what)
        return kv_trace_read_layer(out, trace, i, what, err);
    const int status = ahead->status;
    if (status != KV_OK) *err = ahead->error;
    *out = ahead->layer;
    *ahead = (struct kv_read_ahead){0};
    return status;
}

int kv_read_ahead_take_trace(struct kv_read_ahead *ahead, struct kv_trace **out, const char *path,
                             unsigned flags, struct kv_error *err)
{
    kv_read_ahead_wait(ahead);
    if (!ahead->path || strcmp(ahead->path, path) != 0 || ahead->flags != flags)
        return kv_trace_open(out, path, flags, err);
    const int status = ahead->status;
    if (status != KV_OK) *err = ahead->error;
    *out = ahead->opened;
    *ahead = (struct kv_read_ahead){0};
    return status;
}
