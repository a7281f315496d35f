/* A model as far as its cache goes: what each layer keeps of a token, and how many weights there
 * are.
 *
 * Read from a Hugging Face config.json (model_config.c: one row a model_type that is known; another
 * one is refused, since head counts alone do not say what is cached), or from the registry
 * experiments/models/FAMILY.json, whose entries are the same fields with a name and a source. */
#ifndef KVBENCH_HARNESS_MEMORY_MODEL_H
#define KVBENCH_HARNESS_MEMORY_MODEL_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "harness/base/status.h"

enum kv_layer_kind {
    KV_LAYER_NONE, /* no attention: feed-forward or constant state alone */
    KV_LAYER_FULL,
    KV_LAYER_SLIDING, /* the last `window` tokens */
    KV_LAYER_CHUNKED, /* those since the last multiple of `window`: at most `window` */
    KV_LAYER_MLA      /* one vector of key_dim = latent + rotary columns; no value */
};

struct kv_model_layer {
    enum kv_layer_kind kind;
    uint32_t q_heads, kv_heads, key_dim, value_dim, window;
    uint32_t latent_dim;     /* MLA: the first columns of the key, which are the values, too */
    uint32_t twin_key_dim,
        twin_value_dim;      /* MLA: of a head, if heads were cached and not the latent */
    uint32_t index_dim;      /* further columns a token, of one index head (sparse attention) */
    uint32_t source;         /* own index, or the layer whose keys and values it reads */
    uint64_t state_elements; /* constant: recurrent and convolution state */
};

struct kv_model {
    char name[96], model_type[48], source[256];
    bool verified; /* false: no public file was read for it */
    uint32_t n_layers, hidden, max_context;
    struct kv_model_layer *layers;
    uint64_t parameters;    /* 0: there is no formula for this model_type, and no figure */
    bool counted;           /* parameters come from the formula and not from the entry */
    uint64_t weights_bytes; /* of the entry; 0: parameters * bits */
};

/* name: of the registry, or a path of a config.json (a name with a slash or ending in .json). */
int kv_model_read(struct kv_model *model, const char *name, struct kv_error *err);
void kv_model_free(struct kv_model *model);

/* The model that a parsed config describes; `where` begins messages. */
int kv_model_from_config(struct kv_model *model, const cJSON *config, const char *where,
                         struct kv_error *err);

/* Weights by formula; 0 when the model_type has none. */
uint64_t kv_model_count_weights(const cJSON *config, const struct kv_model *model);

/* Every entry of the registry, in the order of file names: visit gets the entry {name, source,
 * ...}. */
typedef int kv_model_visit(void *context, const cJSON *entry, const char *where,
                           struct kv_error *err);
int kv_model_each(kv_model_visit *visit, void *context, struct kv_error *err);

#endif
