/* A Hugging Face config.json while it is read, shared by the files that read its parts:
 * model_config.c (families and the whole), layer_kinds.c, layer_shapes.c, layer_sharing.c. */
#ifndef KVBENCH_HARNESS_CONFIG_READER_H
#define KVBENCH_HARNESS_CONFIG_READER_H

#include "harness/models/model.h"

enum { MOST_LAYERS = 1024, MOST_HEADS = 1 << 16, MOST_COLUMNS = 1 << 20, MOST_HEAD_COLUMNS = 4096 };

/* How layers without a list of kinds become global or local. */
enum kv_windows {
    NEVER,      /* global, whatever sliding_window says */
    ALWAYS,     /* local where sliding_window is a number */
    WHEN_USED,  /* use_sliding_window: layers from max_window_layers on */
    USED_EVEN,  /* use_sliding_window: every other layer below max_window_layers */
    USED_ALL,   /* use_sliding_window: all layers */
    USED_STILL, /* use_sliding_window: layers whose keys do not turn */
    EVERY,      /* every `period`-th layer is global, the others local */
    CHUNKS      /* layers whose keys do not turn are global, the others see chunks */
};

enum kv_body { ATTENTION, LATENT, MAMBA, MAMBA2, JAMBA, NEMOTRON, BOTH, DELTA, KIMI };

struct kv_family {
    const char *model_type;
    enum kv_windows windows;
    enum kv_body body;
    uint32_t period;
    const char *period_field; /* that says another one; NULL: there is none */
    /* Where the field is absent; 0: the query heads, and hidden columns / heads. Null is no number:
     * refused where there is one, but for those who take null for the query heads. */
    uint32_t kv_heads, head_dim;
    bool null_heads;
    uint32_t shared_layers; /* num_kv_shared_layers, where it is absent */
    uint32_t index_dim;     /* index_head_dim, where it is absent */
    bool plain_heads; /* as many as query heads, hidden columns / heads wide, whatever fields say */
};

struct kv_config_reader {
    const cJSON *config;
    const char *where;
    const struct kv_family *family;
    struct kv_model *model;
    int status;
    struct kv_error *err;
};

struct kv_layer_plan {
    enum kv_layer_kind kind[MOST_LAYERS];
    bool state[MOST_LAYERS];
};

/* A field, or NULL where it is absent or null. */
const cJSON *kv_config_field(const struct kv_config_reader *reader, const char *name);

/* True where it is there, and null. */
bool kv_config_is_null(const struct kv_config_reader *reader, const char *name);

/* The first failure is kept, later ones are not reached. */
void kv_config_complain(struct kv_config_reader *reader, const char *name, const char *expected,
                        const char *found);

/* A whole number from 1 to most; `otherwise` when it is absent, 0 = it must be there. */
uint32_t kv_config_number(struct kv_config_reader *reader, const char *name, uint32_t otherwise,
                          double most);

/* The same field under the names that families give it. */
uint32_t kv_config_named(struct kv_config_reader *reader, const char *name, const char *other,
                         uint32_t otherwise, double most);

/* Like number, but 0 is a value, and so is `otherwise` where it is 0. */
uint32_t kv_config_count(struct kv_config_reader *reader, const char *name, uint32_t otherwise,
                         double most);

bool kv_config_truth(const struct kv_config_reader *reader, const char *name);

/* Which layers are global, local, latent or a state. */
void kv_config_plan_layers(struct kv_config_reader *reader, struct kv_layer_plan *plan);

/* What a layer of that kind keeps. */
void kv_config_fill_layer(struct kv_config_reader *reader, struct kv_model_layer *layer,
                          uint32_t index, enum kv_layer_kind kind, bool state);

/* Layers that read the rows, or the index, of another one. */
void kv_config_share_layers(struct kv_config_reader *reader);

#endif
