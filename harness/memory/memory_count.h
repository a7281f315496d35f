/* Bytes that a method keeps of one layer of a given shape, without a recording: the cache of `run`
 * itself, over rows that are counted and not kept (struct kv_cache_plan, counts_only). There is no
 * second law of bytes anywhere.
 *
 * Where bytes hang on what the rows hold (which rows heads have in common, or how many each has of
 * a shared budget, which rows of a block a policy drops step by step), the most is given with the
 * least that it can come to. What no rule bounds (chunks or pooled heads among other policies,
 * policies of a rest cache) is gone through row by row instead, in two made-up recordings, and the
 * larger figure is given with the smaller one. */
#ifndef KVBENCH_HARNESS_MEMORY_MEMORY_COUNT_H
#define KVBENCH_HARNESS_MEMORY_MEMORY_COUNT_H

#include "methods/spec/spec.h"

struct kv_memory_shape {
    const uint32_t *layers; /* [n_layers] of the model: one, or those of a layer group */
    uint32_t n_layers, model_layers, q_heads, kv_heads, key_dim;
    uint32_t value_dim; /* 0: values are the first latent_dim columns of the key (MLA) */
    uint32_t latent_dim;
    uint32_t tokens, decode; /* rows in all; how many of them come after the prompt, one by one */
    uint32_t element_bits;   /* 16 or 32: of rows that are kept as they are */
};

struct kv_memory_bytes {
    int64_t payload, metadata, residual, basis, total;
    int64_t varies; /* not 0: atoms vary in size, and count with the average; total may be */
    int64_t smaller,
        larger;    /* by so much smaller or larger where all are their smallest or largest */
    int64_t least; /* < total where the data decide */
    int64_t offloaded, offloaded_least,
        offloaded_most; /* on the host (where=host), in no other count; what it can come to */
    int64_t sampled;    /* not 0: total and least are of two made-up recordings and no bounds */
};

/* The bytes of one layer (or of a layer group, whole) as a function of how many rows came. Without
 * policies the cache is made once, and with those whose rows are counted by their rule of eviction
 * (held_rows.h); else every question runs it over all rows. */
struct kv_memory_law;

enum { KV_MOST_COUNTED = 1 << 24 }; /* rows that are gone through one by one */

/* Of the shape only tokens and decode may differ later. KV_EUNSUPPORTED with the reason when the
 * method cannot be made for this shape. */
int kv_memory_law_create(struct kv_memory_law **out, const struct kv_spec *spec,
                         const struct kv_memory_shape *shape, const struct kv_kernels *kernels,
                         struct kv_error *err);
int kv_memory_law_bytes(struct kv_memory_law *law, uint32_t tokens, uint32_t decode,
                        struct kv_memory_bytes *bytes, struct kv_error *err);
/* Likewise the most alone, but KV_EUNSUPPORTED where rows would be gone through one by one. */
int kv_memory_law_count(struct kv_memory_law *law, uint32_t tokens, uint32_t decode,
                        struct kv_memory_bytes *bytes, struct kv_error *err);
/* From now on rows are gone through though they could be counted: what counting is held against. */
void kv_memory_law_go_through(struct kv_memory_law *law);
void kv_memory_law_free(struct kv_memory_law *law);

/* True when a question is answered without going through the rows. */
bool kv_memory_is_direct(const struct kv_spec *spec);

#endif
