/* What a serving engine allocates for a model's cache: its types, its blocks, its devices. These
 * are the engines' own rules, not methods of ours. */
#ifndef KVBENCH_HARNESS_MEMORY_SERVING_H
#define KVBENCH_HARNESS_MEMORY_SERVING_H

#include "harness/models/model.h"

struct kv_serving_setting {
    uint32_t context, block; /* tokens of a block; 0: the engine's default */
    uint32_t chunk; /* prompt tokens of one step: local layers hold them beside their window */
    uint32_t tensor, contexts, ring; /* devices that share heads; tokens; tokens in a ring */
    uint32_t users, prefix;          /* users of one prefix of so many tokens */
    uint32_t state_bits;
    bool all_rows; /* local layers are given every block */
};

struct kv_serving { /* of one sequence, unless it says users */
    uint32_t block;
    int64_t used, allocated; /* bytes of rows held; of whole blocks */
    int64_t device,
        ring_device; /* allocated on each device; rows of one device of a ring and its buffers */
    int64_t users,
        users_shared; /* allocated for all users, each alone; with the prefix's blocks held once */
};

struct kv_serving_type {
    const char *engine, *name, *note;
    uint32_t bits;         /* an element */
    uint32_t group;        /* elements with a scale of one byte; 0 none */
    uint32_t row_bytes;    /* further bytes a row of one head and side (scales) */
    uint32_t latent_bytes; /* a token of an MLA layer of 512 + 64 columns, whole; 0: bits decide */
    uint32_t block;        /* the engine's default */
};
extern const struct kv_serving_type kv_serving_types[]; /* ended by a NULL engine */

/* KV_EUNSUPPORTED when the engine has no such layers in this type. */
int kv_serving_count(struct kv_serving *serving, const struct kv_model *model,
                     const struct kv_serving_type *type, const struct kv_serving_setting *setting,
                     struct kv_error *err);

#endif
