/* What synth.c (the file) and synth_layer.c (its numbers) share. */
#ifndef KVBENCH_TRACES_SYNTH_PRIVATE_H
#define KVBENCH_TRACES_SYNTH_PRIVATE_H

#include <stdbool.h>

#include "harness/base/rng.h"
#include "harness/base/tensor.h"
#include "traces/synth.h"

enum kv_synth_group { KV_REST, KV_SINKS, KV_HEAVY, KV_NEEDLES, KV_SYNTH_GROUPS };

enum kv_synth_stream {            /* third name of a random stream */
    KV_DRAW_KEYS, KV_DRAW_VALUES, KV_DRAW_QUERIES, KV_DRAW_DIRECTIONS, KV_DRAW_OUTLIERS,
    KV_DRAW_ROLES, KV_DRAW_TOKENS, KV_DRAW_NLL, KV_DRAW_W_O, KV_DRAW_X2, KV_DRAW_SINK_LOGITS,
    KV_DRAW_LABEL, KV_DRAW_FISHER /* + number of the probe */
};

enum { KV_NEEDLE_TOKENS = 8, KV_QUESTION_TOKENS = 16 };

struct kv_synth_layer {
    const struct kv_synth *synth;
    uint32_t index, value_dim, rope_dims, window, question_start;
    const uint8_t *role;          /* [tokens] enum kv_synth_group */
    double *inv_freq;             /* [rope_dims / 2] */
    float *sink_logits;           /* [q_heads] or NULL */
    /* Stored words, [heads][tokens][dim]. */
    void *q, *k, *v;
};

/* Fills q, k and v (v may be NULL). */
int kv_synth_attention(const struct kv_synth_layer *layer, struct kv_error *err);

/* Stores value at element i of words. */
void kv_synth_store(void *words, size_t i, double value, enum kv_dtype dtype);

#endif
