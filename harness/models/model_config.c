/* What each layer of a Hugging Face config.json keeps of a token.
 *
 * One row of `families` a model_type: which fields say how attention is built, and what stands for
 * those that a config leaves out: what the class of the transformers library fills in. A field
 * that must be there and is not, or that contradicts another, is an error; a model_type without a
 * row is refused: two models with the same head counts may keep very different things. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/models/config_reader.h"

static const struct kv_family families[] = {
    {"llama", NEVER},
    {"mistral", ALWAYS, .kv_heads = 8},
    {"mixtral", ALWAYS, .kv_heads = 8},
    {"ministral3", NEVER, .kv_heads = 8, .head_dim = 128},
    {"qwen2", WHEN_USED, .kv_heads = 32, .null_heads = true},
    {"qwen2_moe", USED_EVEN, .kv_heads = 16},
    {"qwen3", WHEN_USED, .kv_heads = 32, .head_dim = 128, .null_heads = true},
    {"qwen3_moe", USED_ALL, .kv_heads = 4},
    {"qwen3_vl_text", NEVER, .kv_heads = 32, .head_dim = 128, .null_heads = true},
    {"qwen3_vl_moe_text", NEVER, .kv_heads = 16},
    {"mimo", WHEN_USED, .kv_heads = 32, .null_heads = true},
    {"gemma", NEVER, .kv_heads = 16, .head_dim = 256},
    {"gemma2", EVERY, ATTENTION, 2, .kv_heads = 4, .head_dim = 256},
    {"gemma3", EVERY, ATTENTION, 6, .kv_heads = 4, .head_dim = 256,
     .period_field = "sliding_window_pattern"},
    {"gemma3_text", EVERY, ATTENTION, 6, .kv_heads = 4, .head_dim = 256,
     .period_field = "sliding_window_pattern"},
    {"gemma3n_text", EVERY, ATTENTION, 5, .kv_heads = 2, .head_dim = 256, .shared_layers = 15},
    {"gemma3n", EVERY, ATTENTION, 5, .kv_heads = 2, .head_dim = 256, .shared_layers = 15},
    {"gemma4_text", EVERY, ATTENTION, 6, .kv_heads = 4, .head_dim = 256},
    {"gemma4", EVERY, ATTENTION, 6, .kv_heads = 4, .head_dim = 256},
    {"phi", NEVER},
    {"phi3", ALWAYS},
    {"phimoe", ALWAYS, .kv_heads = 8},
    {"falcon", NEVER},
    {"opt", NEVER, .plain_heads = true},
    {"gpt2", NEVER, .plain_heads = true},
    {"gpt_neox", NEVER, .plain_heads = true},
    {"stablelm", NEVER, .kv_heads = 32},
    {"olmo", NEVER},
    {"olmo2", NEVER},
    {"granite", NEVER},
    {"glm", NEVER, .kv_heads = 2, .head_dim = 128},
    {"glm4", NEVER, .kv_heads = 2, .head_dim = 128},
    {"glm4_moe", NEVER, .kv_heads = 8},
    {"smollm3", USED_STILL, ATTENTION, 4, .kv_heads = 4, .null_heads = true,
     .period_field = "no_rope_layer_interval"},
    {"bitnet", NEVER, .kv_heads = 5, .null_heads = true},
    {"minimax_m2", NEVER, .kv_heads = 8, .head_dim = 128},
    {"cohere", NEVER},
    {"cohere2", EVERY, ATTENTION, 4, .period_field = "sliding_window_pattern"},
    {"gpt_oss", EVERY, ATTENTION, 2, .kv_heads = 8, .head_dim = 64},
    {"llama4_text", CHUNKS, ATTENTION, 4, .kv_heads = 8, .head_dim = 128,
     .period_field = "no_rope_layer_interval"},
    {"llama4", CHUNKS, ATTENTION, 4, .kv_heads = 8, .head_dim = 128,
     .period_field = "no_rope_layer_interval"},
    {"deepseek_v2", NEVER, LATENT},
    {"deepseek_v3", NEVER, LATENT},
    {"kimi_k2", NEVER, LATENT},
    {"deepseek_v32", NEVER, LATENT, .index_dim = 128},
    {"glm_moe_dsa", NEVER, LATENT, .index_dim = 128},
    {"mamba", NEVER, MAMBA},
    {"falcon_mamba", NEVER, MAMBA},
    {"mamba2", NEVER, MAMBA2},
    {"jamba", NEVER, JAMBA, .kv_heads = 8},
    {"nemotron_h", NEVER, NEMOTRON, .kv_heads = 8, .head_dim = 128},
    {"falcon_h1", NEVER, BOTH, .kv_heads = 8, .null_heads = true},
    {"qwen3_next", NEVER, DELTA, 4, .kv_heads = 2, .head_dim = 256,
     .period_field = "full_attention_interval"},
    {"qwen3_5_text", NEVER, DELTA, 4, .kv_heads = 4, .head_dim = 256,
     .period_field = "full_attention_interval"},
    {"qwen3_5_moe_text", NEVER, DELTA, 4, .kv_heads = 2, .head_dim = 256,
     .period_field = "full_attention_interval"},
    {"kimi_linear", NEVER, KIMI, 4},
    {NULL}};

/* Models that also see or hear keep the language model's fields one level down. */
static const cJSON *text_config(const cJSON *config)
{
    static const char *const names[] = {"text_config", "language_config", "llm_config"};
    for (int i = 0; i < 3; i++) {
        const cJSON *inner = cJSON_GetObjectItemCaseSensitive(config, names[i]);
        if (cJSON_IsObject(inner)) return inner;
    }
    return config;
}

static void find_family(struct kv_config_reader *reader)
{
    const cJSON *type = kv_config_field(reader, "model_type");
    const char *known[sizeof families / sizeof *families] = {NULL};
    for (int i = 0; families[i].model_type; i++) known[i] = families[i].model_type;
    if (!cJSON_IsString(type)) {
        kv_config_complain(reader, "model_type", "a name", type ? "something else" : "nothing");
        return;
    }
    for (const struct kv_family *family = families; family->model_type; family++)
        if (strcmp(family->model_type, type->valuestring) == 0) reader->family = family;
    if (!reader->family)
        reader->status =
            kv_fail(reader->err, KV_EINPUT,
                    "%s: model_type %.60s is not known here, and what it caches is not guessed%s",
                    reader->where, type->valuestring, kv_hint(type->valuestring, known).text);
    snprintf(reader->model->model_type, sizeof reader->model->model_type, "%.47s",
             type->valuestring);
}

/* OPT writes its width before the first projection apart; no published GPT-2 has another inner one.
 */
static void read_sizes(struct kv_config_reader *reader)
{
    struct kv_model *model = reader->model;
    const cJSON *blocks = kv_config_field(reader, "layers_block_type");
    const uint32_t listed = cJSON_IsArray(blocks) ? (uint32_t)cJSON_GetArraySize(blocks) : 0;
    model->n_layers = kv_config_named(reader, "num_hidden_layers", "n_layer", listed, MOST_LAYERS);
    model->hidden = kv_config_named(reader, "hidden_size", "n_embd", 0, MOST_COLUMNS);
    model->max_context =
        kv_config_named(reader, "max_position_embeddings", "n_positions", UINT32_MAX, 4e9);
    if (model->max_context == UINT32_MAX) model->max_context = 0;
}

/* With 2^30 tokens and a method that needs several times more, bytes stay below 2^63. */
static void check_size(struct kv_config_reader *reader)
{
    const struct kv_model *model = reader->model;
    uint64_t bytes = 0;
    char found[48];
    for (uint32_t i = 0; i < model->n_layers; i++) {
        const struct kv_model_layer *layer = &model->layers[i];
        const uint64_t columns = (uint64_t)layer->key_dim + layer->value_dim + layer->twin_key_dim +
                                 layer->twin_value_dim + layer->index_dim;
        bytes +=
            4 * columns * (layer->q_heads > layer->kv_heads ? layer->q_heads : layer->kv_heads);
    }
    snprintf(found, sizeof found, "%llu", (unsigned long long)bytes);
    if (bytes > 1u << 30) kv_config_complain(reader, "layers", "at most 2^30 bytes a token", found);
}

static int read_layers(struct kv_config_reader *reader)
{
    struct kv_model *model = reader->model;
    struct kv_layer_plan *plan = calloc(1, sizeof *plan);
    model->layers = calloc(model->n_layers, sizeof *model->layers);
    if (!plan || !model->layers) {
        free(plan);
        return kv_fail(reader->err, KV_EMEMORY, "%s: out of memory", reader->where);
    }
    kv_config_plan_layers(reader, plan);
    for (uint32_t i = 0; reader->status == KV_OK && i < model->n_layers; i++)
        kv_config_fill_layer(reader, &model->layers[i], i, plan->kind[i], plan->state[i]);
    free(plan);
    if (reader->status == KV_OK) kv_config_share_layers(reader);
    if (reader->status == KV_OK) check_size(reader);
    return reader->status;
}

int kv_model_from_config(struct kv_model *model, const cJSON *config, const char *where,
                         struct kv_error *err)
{
    struct kv_config_reader reader = {
        .config = text_config(config), .where = where, .model = model, .err = err};
    *model = (struct kv_model){0};
    if (!cJSON_IsObject(config)) return kv_fail(err, KV_EINPUT, "%s: expected an object", where);
    find_family(&reader);
    if (reader.status == KV_OK) read_sizes(&reader);
    if (reader.status == KV_OK) read_layers(&reader);
    if (reader.status == KV_OK) {
        model->parameters = kv_model_count_weights(reader.config, model);
        model->counted = model->parameters > 0;
    }
    if (reader.status != KV_OK) kv_model_free(model);
    return reader.status;
}
