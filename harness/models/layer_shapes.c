/* What a layer of a model keeps of a token; see config_reader.h. */
#include "harness/models/config_reader.h"

#include <stdio.h>
#include <string.h>

static uint32_t kv_heads_of(struct kv_config_reader *reader, uint32_t q_heads)
{
    if (strcmp(reader->family->model_type, "falcon") == 0) {
        /* The old decoder has one head whatever the other fields say (Falcon-7B: 71 heads,
         * multi_query). */
        if (!kv_config_truth(reader, "new_decoder_architecture"))
            return cJSON_IsFalse(kv_config_field(reader, "multi_query")) ||
                           kv_config_is_null(reader, "multi_query")
                       ? q_heads
                       : 1;
        return kv_config_named(reader, "num_kv_heads", "n_head_kv", q_heads, MOST_HEADS);
    }
    const struct kv_family *family = reader->family;
    const bool null = kv_config_is_null(reader, "num_key_value_heads");
    if (family->plain_heads) return q_heads;
    if (null && family->kv_heads && !family->null_heads)
        kv_config_complain(reader, "num_key_value_heads", "a whole number", "null");
    return kv_config_number(reader, "num_key_value_heads",
                            family->kv_heads && !null ? family->kv_heads : q_heads, MOST_HEADS);
}

static uint32_t head_dim_of(struct kv_config_reader *reader, uint32_t q_heads)
{
    const char *name =
        kv_config_field(reader, "attention_head_dim") ? "attention_head_dim" : "head_dim";
    const uint32_t hidden = reader->model->hidden;
    char found[96];
    const struct kv_family *family = reader->family;
    if (kv_config_field(reader, name) && !family->plain_heads)
        return kv_config_number(reader, name, 0, MOST_HEAD_COLUMNS);
    if (kv_config_is_null(reader, name) && family->head_dim)
        kv_config_complain(reader, name, "a whole number", "null");
    if (family->head_dim) return family->head_dim;
    if (hidden % q_heads == 0 && hidden / q_heads <= MOST_HEAD_COLUMNS) return hidden / q_heads;
    snprintf(found, sizeof found,
             "nothing, and hidden_size %u is no multiple of %u heads, or too large", hidden,
             q_heads);
    kv_config_complain(reader, "head_dim", "a whole number", found);
    return 1;
}

static struct kv_model_layer attention_layer(struct kv_config_reader *reader)
{
    struct kv_model_layer layer = {0};
    char found[96];
    layer.q_heads = kv_config_named(reader, "num_attention_heads", "n_head", 0, MOST_HEADS);
    layer.kv_heads = kv_heads_of(reader, layer.q_heads);
    layer.key_dim = head_dim_of(reader, layer.q_heads);
    layer.value_dim = kv_config_number(reader, "v_head_dim", layer.key_dim, MOST_HEAD_COLUMNS);
    if (layer.q_heads % layer.kv_heads) {
        snprintf(found, sizeof found, "%u for %u query heads", layer.kv_heads, layer.q_heads);
        kv_config_complain(reader, "num_key_value_heads", "a divisor of num_attention_heads",
                           found);
    }
    return layer;
}

static struct kv_model_layer latent_layer(struct kv_config_reader *reader)
{
    const uint32_t rope = kv_config_number(reader, "qk_rope_head_dim", 0, MOST_HEAD_COLUMNS);
    struct kv_model_layer layer = {.kind = KV_LAYER_MLA, .kv_heads = 1};
    layer.q_heads = kv_config_number(reader, "num_attention_heads", 0, MOST_HEADS);
    layer.latent_dim = kv_config_number(reader, "kv_lora_rank", 0, MOST_HEAD_COLUMNS);
    layer.key_dim = layer.latent_dim + rope;
    layer.twin_key_dim = kv_config_number(reader, "qk_nope_head_dim", 0, MOST_HEAD_COLUMNS) + rope;
    layer.twin_value_dim = kv_config_number(reader, "v_head_dim", 0, MOST_HEAD_COLUMNS);
    layer.index_dim =
        kv_config_count(reader, "index_head_dim", reader->family->index_dim, MOST_HEAD_COLUMNS);
    return layer;
}

static uint32_t window_of(struct kv_config_reader *reader, enum kv_layer_kind kind)
{
    if (kind == KV_LAYER_CHUNKED)
        return kv_config_number(reader, "attention_chunk_size", 0, 1u << 30);
    return kind == KV_LAYER_SLIDING ? kv_config_number(reader, "sliding_window", 0, 1u << 30) : 0;
}

/* Gemma 4: global layers have their own head size, and with attention_k_eq_v their own head count.
 */
static void widen_global(struct kv_config_reader *reader, struct kv_model_layer *layer)
{
    if (strncmp(reader->family->model_type, "gemma4", 6) != 0) return;
    layer->key_dim = layer->value_dim =
        kv_config_number(reader, "global_head_dim", 0, MOST_HEAD_COLUMNS);
    if (kv_config_truth(reader, "attention_k_eq_v"))
        layer->kv_heads =
            kv_config_number(reader, "num_global_key_value_heads", layer->kv_heads, MOST_HEADS);
}

/* Mamba 1: d_inner * (d_state + d_conv). */
static uint64_t mamba_state(struct kv_config_reader *reader)
{
    const bool jamba = reader->family->body == JAMBA;
    const uint64_t expand = kv_config_number(reader, jamba ? "mamba_expand" : "expand", 2, 64);
    const uint64_t inner =
        jamba ? expand * reader->model->hidden
              : kv_config_number(reader, "intermediate_size",
                                 (uint32_t)(expand * reader->model->hidden), MOST_COLUMNS);
    return inner *
           (kv_config_number(reader, jamba ? "mamba_d_state" : "state_size", 0, MOST_COLUMNS) +
            kv_config_number(reader, jamba ? "mamba_d_conv" : "conv_kernel", 0, 1024));
}

/* Mamba 2: heads * head_dim * d_state + d_conv * (d_inner + 2 * groups * d_state). */
static uint64_t mamba2_state(struct kv_config_reader *reader)
{
    static const char *const names[][5] = {
        {"num_heads", "head_dim", "state_size", "conv_kernel", "n_groups"},
        {"mamba_num_heads", "mamba_head_dim", "ssm_state_size", "conv_kernel", "n_groups"},
        {"mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_d_conv", "mamba_n_groups"}};
    const enum kv_body body = reader->family->body;
    const char *const *name = names[body == MAMBA2 ? 0 : body == NEMOTRON ? 1 : 2];
    const uint64_t inner = (uint64_t)kv_config_number(reader, name[0], 0, MOST_HEADS) *
                           kv_config_number(reader, name[1], 0, MOST_HEAD_COLUMNS);
    if (body == MAMBA2 && kv_config_field(reader, "expand") &&
        inner != (uint64_t)kv_config_number(reader, "expand", 2, 64) * reader->model->hidden)
        kv_config_complain(reader, name[0], "expand * hidden_size / head_dim of them",
                           "another number");
    const uint64_t state = kv_config_number(reader, name[2], 0, MOST_HEAD_COLUMNS);
    return inner * state + kv_config_number(reader, name[3], 0, 1024) *
                               (inner + 2 * kv_config_number(reader, name[4], 0, 1024) * state);
}

/* Gated delta rule: heads * d_k * d_v, and the convolution over queries, keys and values. */
static uint64_t delta_state(struct kv_config_reader *reader)
{
    const uint64_t keys = kv_config_number(reader, "linear_num_key_heads", 0, MOST_HEADS);
    const uint64_t key_dim = kv_config_number(reader, "linear_key_head_dim", 0, MOST_HEAD_COLUMNS);
    const uint64_t values = kv_config_number(reader, "linear_num_value_heads", 0, MOST_HEADS);
    const uint64_t value_dim =
        kv_config_number(reader, "linear_value_head_dim", 0, MOST_HEAD_COLUMNS);
    return values * key_dim * value_dim +
           kv_config_number(reader, "linear_conv_kernel_dim", 0, 1024) *
               (2 * keys * key_dim + values * value_dim);
}

/* Kimi's delta attention: heads * d * d, and three convolutions. */
static uint64_t kimi_state(struct kv_config_reader *reader)
{
    struct kv_config_reader linear = *reader;
    linear.config = kv_config_field(reader, "linear_attn_config");
    const uint64_t heads = kv_config_number(&linear, "num_heads", 0, MOST_HEADS);
    const uint64_t dim = kv_config_number(&linear, "head_dim", 0, MOST_HEAD_COLUMNS);
    const uint64_t kernel = kv_config_number(&linear, "short_conv_kernel_size", 0, 1024);
    reader->status = linear.status;
    return heads * dim * (dim + 3 * kernel);
}

static uint64_t state_of(struct kv_config_reader *reader)
{
    switch (reader->family->body) {
    case MAMBA:
    case JAMBA:
        return mamba_state(reader);
    case DELTA:
        return delta_state(reader);
    case KIMI:
        return kimi_state(reader);
    case ATTENTION:
    case LATENT:
        kv_config_complain(reader, "layer_types", "attention of this model_type",
                           "a layer with a state");
        return 0;
    default:
        return mamba2_state(reader);
    }
}

void kv_config_fill_layer(struct kv_config_reader *reader, struct kv_model_layer *layer,
                          uint32_t index, enum kv_layer_kind kind, bool state)
{
    *layer = kind == KV_LAYER_NONE  ? (struct kv_model_layer){0}
             : kind == KV_LAYER_MLA ? latent_layer(reader)
                                    : attention_layer(reader);
    layer->kind = kind;
    layer->source = index;
    layer->window = window_of(reader, kind);
    if (kind == KV_LAYER_FULL) widen_global(reader, layer);
    if (state) layer->state_elements = state_of(reader);
}
