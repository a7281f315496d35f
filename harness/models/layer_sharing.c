/* Layers of a model that read what another one keeps; see config_reader.h. */
#include "harness/models/config_reader.h"

#include <stdio.h>
#include <string.h>

static bool same_cache(const struct kv_model_layer *a, const struct kv_model_layer *b)
{
    return a->kind == b->kind && a->kv_heads == b->kv_heads && a->key_dim == b->key_dim &&
           a->value_dim == b->value_dim && a->window == b->window;
}

/* The last num_kv_shared_layers read the last layer before them that is of their kind. */
static void share_last(struct kv_config_reader *reader)
{
    struct kv_model *model = reader->model;
    const uint32_t shared = kv_config_count(reader, "num_kv_shared_layers",
                                            reader->family->shared_layers, MOST_LAYERS);
    char found[32];
    snprintf(found, sizeof found, "%u", shared);
    if (shared >= model->n_layers) {
        kv_config_complain(reader, "num_kv_shared_layers", "fewer than the hidden layers", found);
        return;
    }
    for (uint32_t i = model->n_layers - shared; i < model->n_layers; i++) {
        uint32_t owner = model->n_layers - shared;
        while (owner > 0 && !same_cache(&model->layers[owner - 1], &model->layers[i])) owner--;
        if (owner == 0) {
            kv_config_complain(reader, "num_kv_shared_layers",
                               "an earlier layer of every shared kind", found);
            return;
        }
        model->layers[i].source = owner - 1;
    }
}

/* kv_source: for every layer the layer whose keys and values it reads, itself for an owner. */
static void share_listed(struct kv_config_reader *reader, const cJSON *list)
{
    struct kv_model *model = reader->model;
    uint32_t i = 0;
    const cJSON *item;
    if (cJSON_GetArraySize(list) != (int)model->n_layers)
        kv_config_complain(reader, "kv_source", "one layer a hidden layer", "another number");
    cJSON_ArrayForEach(item, list)
    {
        const double source = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (reader->status != KV_OK) return;
        if (source < 0 || source >= model->n_layers || source != (double)(uint32_t)source)
            kv_config_complain(reader, "kv_source", "layers of the model", "another");
        else
            model->layers[i++].source = (uint32_t)source;
    }
    for (i = 0; reader->status == KV_OK && i < model->n_layers; i++) {
        const struct kv_model_layer *source = &model->layers[model->layers[i].source];
        if (source->source != model->layers[i].source)
            kv_config_complain(reader, "kv_source", "layers that read their own keys and values",
                               "a chain or a cycle");
        else if (!same_cache(source, &model->layers[i]))
            kv_config_complain(reader, "kv_source", "a layer of the same shape", "another");
    }
}

/* Where no list says so: the first layers, and every index_topk_freq-th behind them, have their
 * own. */
static void share_index_by_period(struct kv_config_reader *reader)
{
    const uint32_t period = kv_config_number(reader, "index_topk_freq", 1, MOST_LAYERS);
    const uint32_t first = kv_config_count(reader, "index_skip_topk_offset", 2, MOST_LAYERS);
    if (kv_config_field(reader, "index_topk_pattern"))
        kv_config_complain(reader, "index_topk_pattern", "indexer_types in its place", "a pattern");
    for (uint32_t i = first; i < reader->model->n_layers; i++)
        if ((i - first + 1) % period != 0) reader->model->layers[i].index_dim = 0;
}

/* Sparse attention: some layers take over the choice of another and keep no index. */
static void share_index(struct kv_config_reader *reader)
{
    const cJSON *types = kv_config_field(reader, "indexer_types"), *item;
    uint32_t i = 0;
    if (strcmp(reader->family->model_type, "glm_moe_dsa") != 0) return;
    if (!types) {
        share_index_by_period(reader);
        return;
    }
    if (cJSON_GetArraySize(types) != (int)reader->model->n_layers) {
        kv_config_complain(reader, "indexer_types", "one word a hidden layer", "another number");
        return;
    }
    cJSON_ArrayForEach(item, types)
    {
        const char *text = cJSON_GetStringValue(item);
        if (!text || strcmp(text, "full") != 0) reader->model->layers[i].index_dim = 0;
        i++;
    }
}

void kv_config_share_layers(struct kv_config_reader *reader)
{
    const cJSON *sources = kv_config_field(reader, "kv_source");
    share_last(reader);
    if (reader->status == KV_OK && sources) share_listed(reader, sources);
    if (reader->status == KV_OK) share_index(reader);
}
