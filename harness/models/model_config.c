/* What each layer of a Hugging Face config.json keeps of a token.
 *
 * One row of `families` a model_type: which fields say how attention is built, and what stands for
 * those that its published configs leave out (as the transformers library fills them in). A field
 * that must be there and is not, or that contradicts another, is an error; a model_type without a
 * row is refused: two models with the same head counts may keep very different things. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/params.h"
#include "harness/models/config_reader.h"

static const struct kv_family families[] = {{"llama", NEVER},
                                            {"mistral", ALWAYS},
                                            {"mixtral", ALWAYS},
                                            {"ministral3", NEVER},
                                            {"qwen2", WHEN_USED},
                                            {"qwen2_moe", WHEN_USED},
                                            {"qwen3", WHEN_USED},
                                            {"qwen3_moe", WHEN_USED},
                                            {"qwen3_vl_text", NEVER},
                                            {"qwen3_vl_moe_text", NEVER},
                                            {"mimo", WHEN_USED},
                                            {"gemma", NEVER},
                                            {"gemma2", EVERY, ATTENTION, 2},
                                            {"gemma3", EVERY, ATTENTION, 6},
                                            {"gemma3_text", EVERY, ATTENTION, 6},
                                            {"gemma3n_text", EVERY, ATTENTION, 5},
                                            {"gemma3n", EVERY, ATTENTION, 5},
                                            {"gemma4_text", EVERY, ATTENTION, 6},
                                            {"gemma4", EVERY, ATTENTION, 6},
                                            {"phi", NEVER},
                                            {"phi3", ALWAYS},
                                            {"phimoe", ALWAYS},
                                            {"falcon", NEVER},
                                            {"opt", NEVER},
                                            {"gpt2", NEVER},
                                            {"gpt_neox", NEVER},
                                            {"stablelm", NEVER},
                                            {"olmo", NEVER},
                                            {"olmo2", NEVER},
                                            {"granite", NEVER},
                                            {"glm", NEVER},
                                            {"glm4", NEVER},
                                            {"glm4_moe", NEVER},
                                            {"smollm3", NEVER},
                                            {"bitnet", NEVER},
                                            {"minimax_m2", NEVER},
                                            {"cohere", NEVER},
                                            {"cohere2", EVERY, ATTENTION, 4},
                                            {"gpt_oss", EVERY, ATTENTION, 2},
                                            {"llama4_text", CHUNKS, ATTENTION, 4},
                                            {"llama4", CHUNKS, ATTENTION, 4},
                                            {"deepseek_v2", NEVER, LATENT},
                                            {"deepseek_v3", NEVER, LATENT},
                                            {"kimi_k2", NEVER, LATENT},
                                            {"deepseek_v32", NEVER, LATENT},
                                            {"glm_moe_dsa", NEVER, LATENT},
                                            {"mamba", NEVER, MAMBA},
                                            {"falcon_mamba", NEVER, MAMBA},
                                            {"mamba2", NEVER, MAMBA2},
                                            {"jamba", NEVER, JAMBA},
                                            {"nemotron_h", NEVER, NEMOTRON},
                                            {"falcon_h1", NEVER, BOTH},
                                            {"qwen3_next", NEVER, DELTA, 4},
                                            {"qwen3_5_text", NEVER, DELTA, 4},
                                            {"qwen3_5_moe_text", NEVER, DELTA, 4},
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
    const char *near = kv_nearest(type->valuestring, known);
    if (!reader->family)
        reader->status =
            kv_fail(reader->err, KV_EINPUT,
                    "%s: model_type %.60s is not known here, and what it caches is not guessed%s%s",
                    reader->where, type->valuestring, near ? "; the nearest known one is " : "",
                    near ? near : "");
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
