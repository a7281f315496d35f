/* A layer in memory, with what every method over it is compared with. */
#ifndef KVBENCH_HARNESS_OPEN_LAYER_H
#define KVBENCH_HARNESS_OPEN_LAYER_H

#include "harness/replay/exact_logits.h"
#include "harness/run/layers/calibration.h"
#include "harness/run/layers/shared_prompts.h"
#include "harness/run/trace_run.h"

struct kv_open_layer {
    struct kv_trace_run *run;
    uint32_t l;                        /* index into run->layers */
    bool stays;                        /* it is the next one, too: a trace of one layer, methods in batches */
    bool answered;                     /* false: replayed only for the layer beside it */
    struct kv_layer *owner, *reader;
    struct kv_trace_layer shown[2];    /* descriptions of both, where the spec sees them unlike the recording */
    struct kv_fit_layer fit;           /* calibration rows */
    struct kv_reference *reference;
    struct kv_scored scored;
    struct kv_exact_logits *exact_logits;  /* while tasks run */
    struct kv_shared_prompts *prompts; /* likewise */
};

/* Opens run->layers[l], and begins to read run->next_layer. `spec` stands for all that run together: they
 * see the layer alike, and `wants` is what any of them wants. To be closed even after an error. */
int kv_open_layer_open(struct kv_open_layer *layer, struct kv_trace_run *run, uint32_t l,
                       const struct kv_spec *spec, const struct kv_wants *wants, struct kv_error *err);
void kv_open_layer_close(struct kv_open_layer *layer);

/* Bytes of a layer's Q, K and V. */
uint64_t kv_layer_bytes(const struct kv_trace_layer *layer);
/* Bytes of the layer that is read while this one is worked on, or 0. */
uint64_t kv_open_layer_ahead(const struct kv_open_layer *at);

#endif
