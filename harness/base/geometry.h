/* The shape of one recorded layer, as every folder may know it: plain data. */
#ifndef KVBENCH_BASE_GEOMETRY_H
#define KVBENCH_BASE_GEOMETRY_H

#include <stdbool.h>
#include <stdint.h>

enum kv_rope_layout { KV_ROPE_NONE, KV_ROPE_HALF, KV_ROPE_INTERLEAVED };

struct kv_rope {                  /* how keys were rotated (trace.md): x' = scale * R(position) x */
    enum kv_rope_layout layout;
    uint32_t dims;                /* leading dimensions that rotate */
    double scale;                 /* attention factor already in cos and sin; 1 otherwise */
    const double *inv_freq;       /* [dims / 2] radians a position */
};

struct kv_geometry {
    uint32_t layer, model_layers; /* index in the model; layers of the whole model */
    uint32_t q_heads, kv_heads, group; /* group = q_heads / kv_heads */
    uint32_t copies;              /* KV heads that stand for each recorded one (layout=query-heads); 0: it alone */
    uint32_t key_dim, value_dim;
    bool values_in_keys;          /* values are the keys' first columns (MLA): stored once */
    uint32_t tokens, prefill;     /* tokens 0..prefill-1 enter at once, the rest one a step */
    uint32_t window;              /* 0 = all; else a query at t sees keys t - window + 1 .. t */
    uint32_t question_start;      /* first token of the question at the prompt's end; prefill if none */
    uint32_t element_bits;        /* of the recorded K and V: 16 or 32 */
    double scale, softcap;        /* softmax scale; softcap 0 = none */
    const float *sink_logits;     /* [q_heads] one extra logit in the denominator, or NULL */
    struct kv_rope rope;
    const int32_t *positions;     /* [tokens] rotary positions */
};

/* KV heads of the recording, whose elements bytes are counted against. */
static inline uint32_t kv_recorded_heads(const struct kv_geometry *geometry)
{
    return geometry->copies > 1 ? geometry->kv_heads / geometry->copies : geometry->kv_heads;
}

/* Every query head gets a KV head of its own. */
static inline void kv_geometry_part_heads(struct kv_geometry *geometry)
{
    geometry->copies = geometry->group;
    geometry->kv_heads = geometry->q_heads, geometry->group = 1;
}

#endif
