/* How many weights a config describes: embeddings, attention, feed-forward, norms. One row of
 * `shapes` a model_type; without a row there is no formula and the answer is 0. Layers for
 * predicting several tokens at once, and what sees and hears, are not counted. */
#include <string.h>

#include "harness/models/model.h"

enum feed { PLAIN, GATED, EXPERTS };

struct shape {
    const char *model_type;
    enum feed feed;
    bool qkv_bias, out_bias, norm_bias, qk_norm, tied;
    uint32_t norms;    /* of hidden columns, a layer */
    const char *inner; /* field of the inner width */
    bool plain_bias;   /* the feed-forward has biases */
};

static const struct shape shapes[] = {
    {"llama", GATED, .norms = 2, .inner = "intermediate_size"},
    {"mistral", GATED, .norms = 2, .inner = "intermediate_size"},
    {"smollm3", GATED, .norms = 2, .inner = "intermediate_size", .tied = true},
    {"phi3", GATED, .norms = 2, .inner = "intermediate_size"},
    {"qwen2", GATED, .qkv_bias = true, .norms = 2, .inner = "intermediate_size"},
    {"qwen3", GATED, .qk_norm = true, .norms = 2, .inner = "intermediate_size"},
    {"qwen3_moe", EXPERTS, .qk_norm = true, .norms = 2, .inner = "moe_intermediate_size"},
    {"mixtral", EXPERTS, .norms = 2, .inner = "intermediate_size"},
    {"gemma", GATED, .norms = 2, .inner = "intermediate_size", .tied = true},
    {"gemma2", GATED, .norms = 4, .inner = "intermediate_size", .tied = true},
    {"gemma3_text", GATED, .qk_norm = true, .norms = 4, .inner = "intermediate_size", .tied = true},
    {"phi", PLAIN, .qkv_bias = true, .out_bias = true, .norm_bias = true, .norms = 1,
     .inner = "intermediate_size", .plain_bias = true},
    {"opt", PLAIN, .qkv_bias = true, .out_bias = true, .norm_bias = true, .norms = 2,
     .inner = "ffn_dim", .plain_bias = true, .tied = true},
    {"deepseek_v2", EXPERTS, .norms = 2, .inner = "moe_intermediate_size"},
    {"deepseek_v3", EXPERTS, .norms = 2, .inner = "moe_intermediate_size"},
    {"kimi_k2", EXPERTS, .norms = 2, .inner = "moe_intermediate_size"},
    {NULL}};

static uint64_t get(const cJSON *config, const char *name)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(config, name);
    return cJSON_IsNumber(value) && value->valuedouble > 0 ? (uint64_t)value->valuedouble : 0;
}

static uint64_t latent_weights(const cJSON *config, const struct kv_model_layer *layer,
                               uint64_t hidden)
{
    const uint64_t rank = get(config, "q_lora_rank"), latent = get(config, "kv_lora_rank");
    const uint64_t heads = layer->q_heads, query = heads * layer->twin_key_dim;
    const uint64_t rope = layer->key_dim - latent, nope = layer->twin_key_dim - rope;
    const uint64_t queries = rank ? hidden * rank + rank + rank * query : hidden * query;
    return queries + hidden * layer->key_dim + latent +
           latent * heads * (nope + layer->twin_value_dim) + heads * layer->twin_value_dim * hidden;
}

static uint64_t attention_weights(const struct shape *shape, const cJSON *config,
                                  const struct kv_model_layer *layer, uint64_t hidden)
{
    if (layer->kind == KV_LAYER_MLA) return latent_weights(config, layer, hidden);
    const uint64_t queries = (uint64_t)layer->q_heads * layer->key_dim;
    const uint64_t keys = (uint64_t)layer->kv_heads * layer->key_dim;
    const uint64_t values = (uint64_t)layer->kv_heads * layer->value_dim;
    const uint64_t out = (uint64_t)layer->q_heads * layer->value_dim * hidden;
    return hidden * (queries + keys + values) + out +
           (shape->qkv_bias ? queries + keys + values : 0) + (shape->out_bias ? hidden : 0) +
           (shape->qk_norm ? 2 * (uint64_t)layer->key_dim : 0);
}

static uint64_t expert_weights(const struct shape *shape, const cJSON *config, uint64_t hidden)
{
    static const char *const names[] = {"n_routed_experts", "num_local_experts", "num_experts"};
    uint64_t experts = 0;
    for (int i = 0; i < 3 && !experts; i++) experts = get(config, names[i]);
    const uint64_t one = 3 * hidden * get(config, shape->inner);
    return experts * one + get(config, "n_shared_experts") * one + hidden * experts;
}

static uint64_t feed_weights(const struct shape *shape, const cJSON *config, uint64_t hidden,
                             uint32_t index)
{
    const uint64_t inner = get(config, shape->inner);
    if (shape->feed == EXPERTS && index >= get(config, "first_k_dense_replace"))
        return expert_weights(shape, config, hidden);
    if (shape->feed != PLAIN)
        return 3 * hidden *
               get(config, shape->feed == EXPERTS ? "intermediate_size" : shape->inner);
    return 2 * hidden * inner + (shape->plain_bias ? inner + hidden : 0);
}

uint64_t kv_model_count_weights(const cJSON *config, const struct kv_model *model)
{
    const struct shape *shape = shapes;
    while (shape->model_type && strcmp(shape->model_type, model->model_type) != 0) shape++;
    const uint64_t hidden = model->hidden, vocabulary = get(config, "vocab_size");
    if (!shape->model_type || !vocabulary || !get(config, shape->inner)) return 0;
    const cJSON *ties = cJSON_GetObjectItemCaseSensitive(config, "tie_word_embeddings");
    const bool tied = cJSON_IsBool(ties) ? cJSON_IsTrue(ties) : shape->tied;
    const uint64_t norm = hidden * (shape->norm_bias ? 2 : 1);
    uint64_t sum = vocabulary * hidden * (tied ? 1 : 2) + norm;
    for (uint32_t i = 0; i < model->n_layers; i++)
        sum += attention_weights(shape, config, &model->layers[i], hidden) +
               feed_weights(shape, config, hidden, i) + shape->norms * norm;
    /* OPT learns its positions, from 2 on; Phi's last projection has a bias. */
    if (strcmp(shape->model_type, "opt") == 0)
        sum += (get(config, "max_position_embeddings") + 2) * hidden;
    if (strcmp(shape->model_type, "phi") == 0) sum += vocabulary;
    return sum;
}
