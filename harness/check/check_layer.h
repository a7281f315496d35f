/* Small recorded layers made in memory for the conformance kit: any shape, any kind of rows. */
#ifndef KVBENCH_HARNESS_CHECK_LAYER_H
#define KVBENCH_HARNESS_CHECK_LAYER_H

#include "traces/trace.h"

enum kv_check_rows { KV_ROWS_NORMAL, KV_ROWS_CONSTANT, KV_ROWS_ZERO, KV_ROWS_HUGE, KV_ROWS_SUBNORMAL };

struct kv_check_shape {
    uint32_t tokens, prefill, kv_heads, group, key_dim, value_dim, window;
    double softcap;
    bool sinks, interleaved;
    enum kv_dtype dtype;
    enum kv_check_rows rows;
    uint32_t changed_from;        /* tokens from here on differ from those of another layer; 0 = none */
    bool swapped;                 /* KV heads (with their groups) in reverse order */
    uint32_t question;            /* tokens of a question at the end of the prompt; 0 = none is marked */
    int32_t neighbour;            /* so many layers behind the kit's, or in front of it: of other content */
    bool latent;                  /* values are the first columns of the keys, which do not turn */
};

/* The model that the kit's layer is one of. */
enum { KV_CHECK_LAYERS = 12, KV_CHECK_LAYER = 7 };

/* A layer whose content is a function of the shape alone; NULL when memory is exhausted. */
struct kv_layer *kv_check_layer(const struct kv_check_shape *shape);
void kv_check_layer_free(struct kv_layer *layer);

#endif
