/* Parts of a trace, and several traces of one text joined by layers. */
#ifndef KVBENCH_TRACES_SLICE_H
#define KVBENCH_TRACES_SLICE_H

#include "traces/trace.h"

struct kv_slice {
    const uint32_t *layers;       /* indices in the model, ascending; NULL = all */
    uint32_t n_layers;
    const uint32_t *heads;        /* KV heads, ascending, each with its query heads; NULL = all */
    uint32_t n_heads;
    uint32_t first, end;          /* tokens first..end-1; end 0 = to the last */
    uint32_t prefill;             /* of the result; 0 = where it was */
};

/* Probe windows that fit the new token range stay; all go when tokens before them do, since the
 * gradients were taken with those tokens in sight. Cutting heads cuts the columns of w_o and drops
 * x2. notes (may be NULL) receives what was dropped. */
int kv_trace_slice(const char *path, const struct kv_trace *trace, const struct kv_slice *slice,
                   char notes[256], struct kv_error *err);

/* Joins two traces of the same text and model that share no layer; everything but layers and
 * gradients is the first one's. Probes stay when both have the same ones. */
int kv_trace_merge(const char *path, const struct kv_trace *a, const struct kv_trace *b,
                   char notes[256], struct kv_error *err);

#endif
