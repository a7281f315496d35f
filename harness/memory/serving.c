/* Serving engines; see serving.h. Rules from vLLM v1 kv_cache_interface.py:
 *
 *     page   = block * heads * (bytes of a key + bytes of a value);  MLA: block * bytes of a latent
 *     full   = ceil(tokens / devices of the context / block) pages
 *     local  = ceil(min(window - 1 + chunk, tokens) / block) + 1 pages: what admits a sequence
 *     state  = one page of its own size
 *
 * Tensor parallelism gives a device max(1, heads / devices) heads, so few heads are held many
 * times; an MLA latent is held by every device. A ring gives each of P devices 1 / P of the tokens,
 * and room for twice the keys and values of one layer that pass by (Ring Attention, arXiv
 * 2310.01889). A prefix is shared in whole blocks; local layers and states are each user's own. */
#include "harness/memory/serving.h"

#include <string.h>

const struct kv_serving_type kv_serving_types[] = {
    {"vllm", "auto", "16 bits", 16, 0, 0, 0, 16},
    {"vllm", "fp8", "one scale a tensor", 8, 0, 0, 0, 16},
    {"vllm", "int8_per_token_head", "an f32 scale a head and token", 8, 0, 4, 0, 16},
    {"vllm", "fp8_per_token_head", "an f32 scale a head and token", 8, 0, 4, 0, 16},
    {"vllm", "nvfp4", "an fp8 scale for 16 elements", 4, 16, 0, 0, 16},
    {"vllm", "fp8_ds_mla", "512 fp8, 16 bytes of scales, 64 bf16", 8, 0, 0, 656, 64},
    {"sglang", "auto", "16 bits", 16, 0, 0, 0, 1},
    {"sglang", "fp8_e5m2", "no scale", 8, 0, 0, 0, 1},
    {"sglang", "fp8_e4m3", "one scale a tensor", 8, 0, 0, 0, 1},
    {"sglang", "fp4_e2m1", "a scale of a byte for 16 elements", 4, 16, 0, 0, 1},
    {"tensorrt-llm", "auto", "16 bits", 16, 0, 0, 0, 32},
    {"tensorrt-llm", "fp8", "one scale a tensor", 8, 0, 0, 0, 32},
    {"tensorrt-llm", "int8", "one scale a tensor", 8, 0, 0, 0, 32},
    {"tensorrt-llm", "nvfp4", "an fp8 scale for 16 elements", 4, 16, 0, 0, 32},
    {NULL}};

static int64_t over(int64_t n, int64_t d)
{
    return (n + d - 1) / d;
}

/* A row of one head and side. */
static int64_t row_bytes(const struct kv_serving_type *type, uint32_t dim)
{
    if (dim == 0) return 0;
    return over((int64_t)dim * type->bits, 8) + (type->group ? over(dim, type->group) : 0) +
           type->row_bytes;
}

/* A token of a layer with so many heads of its own on a device. */
static int64_t token_bytes(const struct kv_serving_type *type, const struct kv_model_layer *layer,
                           uint32_t heads)
{
    const int64_t index = row_bytes(type, layer->index_dim);
    if (layer->kind == KV_LAYER_MLA && type->latent_bytes) return type->latent_bytes + index;
    return heads * (row_bytes(type, layer->key_dim) + row_bytes(type, layer->value_dim)) + index;
}

static uint32_t heads_on_device(const struct kv_model_layer *layer, uint32_t devices)
{
    return layer->kv_heads > devices ? (uint32_t)over(layer->kv_heads, devices) : 1;
}

static bool is_local(const struct kv_model_layer *layer, const struct kv_serving_setting *setting)
{
    return (layer->kind == KV_LAYER_SLIDING || layer->kind == KV_LAYER_CHUNKED) &&
           !setting->all_rows && layer->window < setting->context;
}

static int64_t pages(const struct kv_model_layer *layer, const struct kv_serving_setting *setting,
                     int64_t block, int64_t tokens)
{
    if (!is_local(layer, setting)) return over(tokens, block);
    const int64_t held = (int64_t)layer->window - 1 + setting->chunk;
    return over(held < tokens ? held : tokens, block) + 1;
}

static void add_layer(struct kv_serving *sum, const struct kv_model_layer *layer,
                      const struct kv_serving_type *type, const struct kv_serving_setting *setting)
{
    const int64_t tokens = setting->context, block = sum->block;
    const int64_t rows = is_local(layer, setting) ? layer->window : tokens;
    const int64_t one = token_bytes(type, layer, layer->kv_heads);
    const int64_t own = token_bytes(type, layer, heads_on_device(layer, setting->tensor));
    const int64_t all = pages(layer, setting, block, tokens);
    const int64_t mine = pages(layer, setting, block, over(tokens, setting->contexts));
    const int64_t shared = is_local(layer, setting) ? 0 : setting->prefix / block;
    const int64_t users = setting->users;
    sum->used += rows * one;
    sum->allocated += all * block * one;
    sum->device += mine * block * own;
    sum->ring_device += over(rows, setting->ring) * one;
    sum->users += users * all * block * one;
    sum->users_shared += (shared + users * (all - shared)) * block * one;
}

/* Twice the largest layer's keys and values of one device's tokens. */
static int64_t ring_buffers(const struct kv_model *model, const struct kv_serving_type *type,
                            const struct kv_serving_setting *setting)
{
    int64_t most = 0;
    for (uint32_t i = 0; i < model->n_layers && setting->ring > 1; i++) {
        const struct kv_model_layer *layer = &model->layers[i];
        if (layer->kind == KV_LAYER_NONE || is_local(layer, setting)) continue;
        const int64_t one =
            token_bytes(type, layer, layer->kv_heads) * over(setting->context, setting->ring);
        if (one > most) most = one;
    }
    return 2 * most;
}

static int check(const struct kv_model *model, const struct kv_serving_type *type,
                 struct kv_error *err)
{
    bool latent = false;
    for (uint32_t i = 0; i < model->n_layers; i++) {
        const struct kv_model_layer *layer = &model->layers[i];
        latent |= layer->kind == KV_LAYER_MLA;
        if (type->latent_bytes && layer->kind == KV_LAYER_MLA && layer->key_dim != 576)
            return kv_fail(err, KV_EUNSUPPORTED, "%s is for a latent of 512 + 64 columns, not %u",
                           type->name, layer->key_dim);
    }
    if (type->latent_bytes && !latent)
        return kv_fail(err, KV_EUNSUPPORTED, "%s is for MLA layers, and there are none",
                       type->name);
    return KV_OK;
}

int kv_serving_count(struct kv_serving *serving, const struct kv_model *model,
                     const struct kv_serving_type *type, const struct kv_serving_setting *setting,
                     struct kv_error *err)
{
    *serving = (struct kv_serving){.block = setting->block ? setting->block : type->block};
    const int status = check(model, type, err);
    if (status != KV_OK) return status;
    int64_t state = 0;
    for (uint32_t i = 0; i < model->n_layers; i++) {
        const struct kv_model_layer *layer = &model->layers[i];
        state += (int64_t)layer->state_elements * setting->state_bits / 8;
        if (layer->kind != KV_LAYER_NONE && layer->source == i)
            add_layer(serving, layer, type, setting);
    }
    serving->used += state, serving->allocated += state;
    serving->device += over(state, setting->tensor), serving->ring_device += state;
    serving->users += setting->users * state, serving->users_shared += setting->users * state;
    serving->ring_device += ring_buffers(model, type, setting);
    return KV_OK;
}
