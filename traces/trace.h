/* Reading a trace file, format version 1 (traces/schema.md): open and validate once, then one layer
 * at a time. 16-bit tensors arrive as the raw words of the file. HDF5 is not thread-safe: one
 * thread calls these functions. */
#ifndef KVBENCH_TRACES_TRACE_H
#define KVBENCH_TRACES_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "harness/base/geometry.h"
#include "harness/base/status.h"
#include "harness/base/tensor.h"

struct kv_span_name { char name[64]; uint32_t n; uint32_t (*range)[2]; };  /* spans/NAME */

struct kv_trace_layer {           /* what is known of a layer without reading its tensors */
    uint32_t index;               /* in the model */
    uint32_t kv_source;           /* own index, or the layer whose K and V it reads */
    bool attn_post_norm, qk_norm, v_is_k_prefix, has_w_o, has_x2, has_gradients, sliding;
    enum kv_dtype dtype;          /* of k */
    struct kv_geometry geometry;  /* positions, inv_freq, sink_logits live as long as the trace */
    double *units;                /* of label and fisher gradients; private to traces/ */
};

struct kv_trace {
    char *path, *model, *model_digest, *model_config, *text, *recorder;
    char content_hash[48];        /* "xxh3:..." as stored */
    bool verified;                /* false: --no-verify, and every row says so */
    uint32_t tokens, prefill, question_start;   /* question_start = prefill if not marked */
    uint32_t model_layers;        /* num_hidden_layers of model_config; 0 when it does not say */
    int32_t *token_ids, *positions;
    float *nll;                   /* [tokens] or NULL */
    uint32_t n_spans;  struct kv_span_name *spans;
    uint32_t n_layers; struct kv_trace_layer *layers;          /* ascending index */
    uint32_t n_windows; uint32_t (*windows)[2];                /* grad/windows; 0 = no probes */
    uint32_t window_tokens;       /* W */
    bool has_label;
    uint32_t n_fisher;            /* S; probes in ascending number */
    void *file;                   /* the open file; private to traces/ */
};

struct kv_gradient {
    struct kv_tensor tensor;
    double unit;
}; /* [q_heads][W][value_dim]; value = stored * unit */

struct kv_layer {                 /* one layer in memory; owned by whoever read it */
    const struct kv_trace_layer *info;
    struct kv_tensor q, k, v;     /* k and v are the source layer's when kv_source says so */
    float *w_o;                   /* [hidden][q_heads * value_dim] or NULL */
    uint32_t hidden;
    float *x2;                    /* [tokens] or NULL */
    struct kv_gradient label;     /* tensor.data NULL when absent */
    struct kv_gradient *fisher;   /* [n_fisher] */
    uint32_t n_fisher, n_windows; const uint32_t (*windows)[2];   /* of the trace, when gradients are read */
    void *memory;                 /* private to traces/ */
};

enum { KV_NO_VERIFY = 1 };        /* skip the content hash */

/* Opens, validates everything that trace.md lists (finite tensors and content hash included, unless
 * KV_NO_VERIFY) and reports the first problem as `FILE: /path: expected X, found Y` (KV_EINPUT). */
int kv_trace_open(struct kv_trace **out, const char *path, unsigned flags, struct kv_error *err);
void kv_trace_close(struct kv_trace *trace);
/* Place in trace->layers of the layer with this index; n_layers where none was recorded. */
uint32_t kv_trace_find_layer(const struct kv_trace *trace, uint32_t index);

enum { KV_READ_GRADIENTS = 1, KV_READ_PROJECTION = 2 };  /* otherwise q, k, v only */

/* Reads layer number i of trace->layers. */
int kv_trace_read_layer(struct kv_layer **out, const struct kv_trace *trace, uint32_t i,
                        unsigned what, struct kv_error *err);
void kv_layer_free(
    struct kv_layer *layer); /* its memory serves the next layer, until a trace closes */

#endif
