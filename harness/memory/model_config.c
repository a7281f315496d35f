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
#include "harness/memory/model.h"

enum { MOST_LAYERS = 1024, MOST_HEADS = 1 << 16, MOST_COLUMNS = 1 << 20, MOST_HEAD_COLUMNS = 4096 };

/* How layers without a list of kinds become global or local. */
enum windows {
    NEVER,     /* global, whatever sliding_window says */
    ALWAYS,    /* local where sliding_window is a number */
    WHEN_USED, /* use_sliding_window: layers from max_window_layers on */
    EVERY,     /* every `period`-th layer is global, the others local */
    CHUNKS     /* every `period`-th layer is global, the others see chunks */
};

enum body { ATTENTION, LATENT, MAMBA, MAMBA2, JAMBA, NEMOTRON, BOTH, DELTA, KIMI };

struct family {
    const char *model_type;
    enum windows windows;
    enum body body;
    uint32_t period;
};

static const struct family families[] = {{"llama", NEVER},
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

/* -- fields: the first failure is kept, later ones are not reached ---------------------------- */

struct reader {
    const cJSON *config;
    const char *where;
    const struct family *family;
    struct kv_model *model;
    int status;
    struct kv_error *err;
};

static const cJSON *field(const struct reader *reader, const char *name)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(reader->config, name);
    return cJSON_IsNull(value) ? NULL : value;
}

static void complain(struct reader *reader, const char *name, const char *expected,
                     const char *found)
{
    if (reader->status == KV_OK)
        reader->status = kv_fail(reader->err, KV_EINPUT, "%s: %s: expected %s, found %s",
                                 reader->where, name, expected, found);
}

/* A whole number from 1 to most; `otherwise` when it is absent, 0 = it must be there. */
static uint32_t number(struct reader *reader, const char *name, uint32_t otherwise, double most)
{
    const cJSON *value = field(reader, name);
    char found[64] = "nothing", expected[64];
    if (!value && otherwise) return otherwise;
    if (cJSON_IsNumber(value)) {
        const double x = value->valuedouble;
        if (x >= 1 && x <= most && x == (double)(uint32_t)x) return (uint32_t)x;
        snprintf(found, sizeof found, "%.12g", x);
    } else if (value) {
        snprintf(found, sizeof found, "something else");
    }
    snprintf(expected, sizeof expected, "a whole number from 1 to %.0f", most);
    complain(reader, name, expected, found);
    return 1;
}

/* The same field under the names that families give it. */
static uint32_t named(struct reader *reader, const char *name, const char *other,
                      uint32_t otherwise, double most)
{
    return number(reader, !field(reader, name) && field(reader, other) ? other : name, otherwise,
                  most);
}

static bool truth(const struct reader *reader, const char *name)
{
    return cJSON_IsTrue(field(reader, name));
}

/* Like number, but 0 and absence are 0. */
static uint32_t count(struct reader *reader, const char *name, double most)
{
    const cJSON *value = field(reader, name);
    if (!value || (cJSON_IsNumber(value) && value->valuedouble == 0)) return 0;
    return number(reader, name, 0, most);
}

/* -- kinds of layers -------------------------------------------------------------------------- */

/* What a word of layer_types or layers_block_type says. */
static const struct word {
    const char *word;
    enum kv_layer_kind kind;
    bool state;
} words[] = {{"full_attention", KV_LAYER_FULL, false},
             {"attention", KV_LAYER_FULL, false},
             {"sliding_attention", KV_LAYER_SLIDING, false},
             {"chunked_attention", KV_LAYER_CHUNKED, false},
             {"linear_attention", KV_LAYER_NONE, true},
             {"mamba", KV_LAYER_NONE, true},
             {"moe", KV_LAYER_NONE, false},
             {"mlp", KV_LAYER_NONE, false},
             {NULL}};

struct plan {
    enum kv_layer_kind kind[MOST_LAYERS];
    bool state[MOST_LAYERS];
};

static void plan_words(struct reader *reader, const char *name, const cJSON *list,
                       struct plan *plan)
{
    char found[64];
    uint32_t i = 0;
    const cJSON *item;
    snprintf(found, sizeof found, "%d", cJSON_IsArray(list) ? cJSON_GetArraySize(list) : -1);
    if (cJSON_GetArraySize(list) != (int)reader->model->n_layers) {
        complain(reader, name, "one word a hidden layer", found);
        return;
    }
    cJSON_ArrayForEach(item, list)
    {
        const char *text = cJSON_GetStringValue(item);
        const struct word *word = words;
        while (word->word && (!text || strcmp(word->word, text) != 0)) word++;
        if (!word->word) {
            complain(reader, name, "kinds of layers that are known",
                     text ? text : "something else");
            return;
        }
        plan->kind[i] = word->kind, plan->state[i++] = word->state;
    }
}

/* Nemotron-H: M a Mamba-2 layer, * attention, - and E feed-forward. */
static void plan_letters(struct reader *reader, const char *letters, struct plan *plan)
{
    if (strlen(letters) != reader->model->n_layers)
        complain(reader, "hybrid_override_pattern", "one letter a hidden layer", letters);
    for (uint32_t i = 0; reader->status == KV_OK && letters[i]; i++) {
        if (!strchr("M*-E", letters[i]))
            complain(reader, "hybrid_override_pattern", "letters of M, *, - and E", letters);
        plan->kind[i] = letters[i] == '*' ? KV_LAYER_FULL : KV_LAYER_NONE;
        plan->state[i] = letters[i] == 'M';
    }
}

/* Layers 1-based in two lists of linear_attn_config. */
static void plan_kimi(struct reader *reader, struct plan *plan)
{
    const cJSON *linear = field(reader, "linear_attn_config");
    const cJSON *full = cJSON_GetObjectItemCaseSensitive(linear, "full_attn_layers"), *item;
    if (!cJSON_IsArray(full))
        complain(reader, "linear_attn_config.full_attn_layers", "a list", "nothing");
    for (uint32_t i = 0; i < reader->model->n_layers; i++)
        plan->kind[i] = KV_LAYER_NONE, plan->state[i] = true;
    cJSON_ArrayForEach(item, full)
    {
        const double layer = cJSON_IsNumber(item) ? item->valuedouble : 0;
        if (layer < 1 || layer > reader->model->n_layers) {
            complain(reader, "linear_attn_config.full_attn_layers", "layers of the model",
                     "another");
            return;
        }
        plan->kind[(uint32_t)layer - 1] = KV_LAYER_MLA, plan->state[(uint32_t)layer - 1] = false;
    }
}

static void plan_windows(struct reader *reader, struct plan *plan)
{
    const struct family *family = reader->family;
    const uint32_t n = reader->model->n_layers;
    const uint32_t period =
        family->windows == CHUNKS
            ? number(reader, "no_rope_layer_interval", family->period, MOST_LAYERS)
            : number(reader, "sliding_window_pattern", family->period ? family->period : 1,
                     MOST_LAYERS);
    const uint32_t first = family->windows == WHEN_USED && truth(reader, "use_sliding_window")
                               ? count(reader, "max_window_layers", MOST_LAYERS)
                               : n;
    for (uint32_t i = 0; i < n; i++) {
        const bool local = family->windows == ALWAYS      ? field(reader, "sliding_window") != NULL
                           : family->windows == WHEN_USED ? i >= first
                           : family->windows == NEVER     ? false
                                                          : (i + 1) % period != 0;
        plan->kind[i] = !local                      ? KV_LAYER_FULL
                        : family->windows == CHUNKS ? KV_LAYER_CHUNKED
                                                    : KV_LAYER_SLIDING;
    }
    if (strncmp(family->model_type, "gemma4", 6) == 0) plan->kind[n - 1] = KV_LAYER_FULL;
}

/* Layers with a state where the config has periods and no list. */
static void plan_states(struct reader *reader, struct plan *plan)
{
    const enum body body = reader->family->body;
    const uint32_t n = reader->model->n_layers;
    const uint32_t period = body == JAMBA   ? number(reader, "attn_layer_period", 0, MOST_LAYERS)
                            : body == DELTA ? number(reader, "full_attention_interval",
                                                     reader->family->period, MOST_LAYERS)
                                            : 1;
    const uint32_t offset =
        body == JAMBA ? count(reader, "attn_layer_offset", MOST_LAYERS) : period - 1;
    for (uint32_t i = 0; i < n; i++) {
        const bool full =
            body == BOTH || ((body == JAMBA || body == DELTA) && i % period == offset);
        plan->kind[i] = full ? KV_LAYER_FULL : KV_LAYER_NONE;
        plan->state[i] = body == BOTH || !full;
    }
}

static void plan_layers(struct reader *reader, struct plan *plan)
{
    const cJSON *types = field(reader, "layer_types"), *blocks = field(reader, "layers_block_type");
    const cJSON *letters = field(reader, "hybrid_override_pattern");
    const enum body body = reader->family->body;
    if (types)
        plan_words(reader, "layer_types", types, plan);
    else if (blocks)
        plan_words(reader, "layers_block_type", blocks, plan);
    else if (body == NEMOTRON && cJSON_IsString(letters))
        plan_letters(reader, letters->valuestring, plan);
    else if (body == NEMOTRON)
        complain(reader, "layers_block_type", "a list", "nothing");
    else if (body == KIMI)
        plan_kimi(reader, plan);
    else if (body == ATTENTION || body == LATENT)
        plan_windows(reader, plan);
    else
        plan_states(reader, plan);
    for (uint32_t i = 0; i < reader->model->n_layers; i++)
        if ((body == LATENT || body == KIMI) && plan->kind[i] == KV_LAYER_FULL)
            plan->kind[i] = KV_LAYER_MLA;
}

/* -- what a layer keeps ----------------------------------------------------------------------- */

static uint32_t kv_heads_of(struct reader *reader, uint32_t q_heads)
{
    if (strcmp(reader->family->model_type, "falcon") == 0) {
        /* The old decoder has one head whatever the other fields say (Falcon-7B: 71 heads,
         * multi_query). */
        if (!truth(reader, "new_decoder_architecture"))
            return cJSON_IsFalse(field(reader, "multi_query")) ? q_heads : 1;
        return named(reader, "num_kv_heads", "n_head_kv", q_heads, MOST_HEADS);
    }
    return number(reader, "num_key_value_heads", q_heads, MOST_HEADS);
}

static uint32_t head_dim_of(struct reader *reader, uint32_t q_heads)
{
    const char *name = field(reader, "attention_head_dim") ? "attention_head_dim" : "head_dim";
    const uint32_t hidden = reader->model->hidden;
    char found[96];
    if (field(reader, name)) return number(reader, name, 0, MOST_HEAD_COLUMNS);
    if (hidden % q_heads == 0 && hidden / q_heads <= MOST_HEAD_COLUMNS) return hidden / q_heads;
    snprintf(found, sizeof found,
             "nothing, and hidden_size %u is no multiple of %u heads, or too large", hidden,
             q_heads);
    complain(reader, "head_dim", "a whole number", found);
    return 1;
}

static struct kv_model_layer attention_layer(struct reader *reader)
{
    struct kv_model_layer layer = {0};
    char found[96];
    layer.q_heads = named(reader, "num_attention_heads", "n_head", 0, MOST_HEADS);
    layer.kv_heads = kv_heads_of(reader, layer.q_heads);
    layer.key_dim = head_dim_of(reader, layer.q_heads);
    layer.value_dim = number(reader, "v_head_dim", layer.key_dim, MOST_HEAD_COLUMNS);
    if (layer.q_heads % layer.kv_heads) {
        snprintf(found, sizeof found, "%u for %u query heads", layer.kv_heads, layer.q_heads);
        complain(reader, "num_key_value_heads", "a divisor of num_attention_heads", found);
    }
    return layer;
}

static struct kv_model_layer latent_layer(struct reader *reader)
{
    const uint32_t rope = number(reader, "qk_rope_head_dim", 0, MOST_HEAD_COLUMNS);
    struct kv_model_layer layer = {.kind = KV_LAYER_MLA, .kv_heads = 1};
    layer.q_heads = number(reader, "num_attention_heads", 0, MOST_HEADS);
    layer.key_dim = number(reader, "kv_lora_rank", 0, MOST_HEAD_COLUMNS) + rope;
    layer.twin_key_dim = number(reader, "qk_nope_head_dim", 0, MOST_HEAD_COLUMNS) + rope;
    layer.twin_value_dim = number(reader, "v_head_dim", 0, MOST_HEAD_COLUMNS);
    layer.index_dim = count(reader, "index_head_dim", MOST_HEAD_COLUMNS);
    return layer;
}

static uint32_t window_of(struct reader *reader, enum kv_layer_kind kind)
{
    if (kind == KV_LAYER_CHUNKED) return number(reader, "attention_chunk_size", 0, 1u << 30);
    return kind == KV_LAYER_SLIDING ? number(reader, "sliding_window", 0, 1u << 30) : 0;
}

/* Gemma 4: global layers have their own head size, and with attention_k_eq_v their own head count.
 */
static void widen_global(struct reader *reader, struct kv_model_layer *layer)
{
    if (strncmp(reader->family->model_type, "gemma4", 6) != 0) return;
    layer->key_dim = layer->value_dim = number(reader, "global_head_dim", 0, MOST_HEAD_COLUMNS);
    if (truth(reader, "attention_k_eq_v"))
        layer->kv_heads = number(reader, "num_global_key_value_heads", layer->kv_heads, MOST_HEADS);
}

/* Mamba 1: d_inner * (d_state + d_conv). */
static uint64_t mamba_state(struct reader *reader)
{
    const bool jamba = reader->family->body == JAMBA;
    const uint64_t expand = number(reader, jamba ? "mamba_expand" : "expand", 2, 64);
    const uint64_t inner = jamba ? expand * reader->model->hidden
                                 : number(reader, "intermediate_size",
                                          (uint32_t)(expand * reader->model->hidden), MOST_COLUMNS);
    return inner * (number(reader, jamba ? "mamba_d_state" : "state_size", 0, MOST_COLUMNS) +
                    number(reader, jamba ? "mamba_d_conv" : "conv_kernel", 0, 1024));
}

/* Mamba 2: heads * head_dim * d_state + d_conv * (d_inner + 2 * groups * d_state). */
static uint64_t mamba2_state(struct reader *reader)
{
    static const char *const names[][5] = {
        {"num_heads", "head_dim", "state_size", "conv_kernel", "n_groups"},
        {"mamba_num_heads", "mamba_head_dim", "ssm_state_size", "conv_kernel", "n_groups"},
        {"mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_d_conv", "mamba_n_groups"}};
    const enum body body = reader->family->body;
    const char *const *name = names[body == MAMBA2 ? 0 : body == NEMOTRON ? 1 : 2];
    const uint64_t inner = (uint64_t)number(reader, name[0], 0, MOST_HEADS) *
                           number(reader, name[1], 0, MOST_HEAD_COLUMNS);
    const uint64_t state = number(reader, name[2], 0, MOST_HEAD_COLUMNS);
    return inner * state + number(reader, name[3], 0, 1024) *
                               (inner + 2 * number(reader, name[4], 0, 1024) * state);
}

/* Gated delta rule: heads * d_k * d_v, and the convolution over queries, keys and values. */
static uint64_t delta_state(struct reader *reader)
{
    const uint64_t keys = number(reader, "linear_num_key_heads", 0, MOST_HEADS);
    const uint64_t key_dim = number(reader, "linear_key_head_dim", 0, MOST_HEAD_COLUMNS);
    const uint64_t values = number(reader, "linear_num_value_heads", 0, MOST_HEADS);
    const uint64_t value_dim = number(reader, "linear_value_head_dim", 0, MOST_HEAD_COLUMNS);
    return values * key_dim * value_dim + number(reader, "linear_conv_kernel_dim", 0, 1024) *
                                              (2 * keys * key_dim + values * value_dim);
}

/* Kimi's delta attention: heads * d * d, and three convolutions. */
static uint64_t kimi_state(struct reader *reader)
{
    struct reader linear = *reader;
    linear.config = field(reader, "linear_attn_config");
    const uint64_t heads = number(&linear, "num_heads", 0, MOST_HEADS);
    const uint64_t dim = number(&linear, "head_dim", 0, MOST_HEAD_COLUMNS);
    const uint64_t kernel = number(&linear, "short_conv_kernel_size", 0, 1024);
    reader->status = linear.status;
    return heads * dim * (dim + 3 * kernel);
}

static uint64_t state_of(struct reader *reader)
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
        complain(reader, "layer_types", "attention of this model_type", "a layer with a state");
        return 0;
    default:
        return mamba2_state(reader);
    }
}

static void fill_layer(struct reader *reader, struct kv_model_layer *layer, uint32_t index,
                       enum kv_layer_kind kind, bool state)
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

/* -- sharing between layers ------------------------------------------------------------------- */

static bool same_cache(const struct kv_model_layer *a, const struct kv_model_layer *b)
{
    return a->kind == b->kind && a->kv_heads == b->kv_heads && a->key_dim == b->key_dim &&
           a->value_dim == b->value_dim && a->window == b->window;
}

/* The last num_kv_shared_layers read the last layer before them that is of their kind. */
static void share_last(struct reader *reader)
{
    struct kv_model *model = reader->model;
    const uint32_t shared = count(reader, "num_kv_shared_layers", MOST_LAYERS);
    char found[32];
    snprintf(found, sizeof found, "%u", shared);
    if (shared >= model->n_layers) {
        complain(reader, "num_kv_shared_layers", "fewer than the hidden layers", found);
        return;
    }
    for (uint32_t i = model->n_layers - shared; i < model->n_layers; i++) {
        uint32_t owner = model->n_layers - shared;
        while (owner > 0 && !same_cache(&model->layers[owner - 1], &model->layers[i])) owner--;
        if (owner == 0) {
            complain(reader, "num_kv_shared_layers", "an earlier layer of every shared kind",
                     found);
            return;
        }
        model->layers[i].source = owner - 1;
    }
}

/* kv_source: for every layer the layer whose keys and values it reads, itself for an owner. */
static void share_listed(struct reader *reader, const cJSON *list)
{
    struct kv_model *model = reader->model;
    uint32_t i = 0;
    const cJSON *item;
    if (cJSON_GetArraySize(list) != (int)model->n_layers)
        complain(reader, "kv_source", "one layer a hidden layer", "another number");
    cJSON_ArrayForEach(item, list)
    {
        const double source = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (reader->status != KV_OK) return;
        if (source < 0 || source >= model->n_layers || source != (double)(uint32_t)source)
            complain(reader, "kv_source", "layers of the model", "another");
        else
            model->layers[i++].source = (uint32_t)source;
    }
    for (i = 0; reader->status == KV_OK && i < model->n_layers; i++) {
        const struct kv_model_layer *source = &model->layers[model->layers[i].source];
        if (source->source != model->layers[i].source)
            complain(reader, "kv_source", "layers that read their own keys and values",
                     "a chain or a cycle");
        else if (!same_cache(source, &model->layers[i]))
            complain(reader, "kv_source", "a layer of the same shape", "another");
    }
}

/* Sparse attention: some layers take over the choice of another and keep no index. */
static void share_index(struct reader *reader)
{
    const cJSON *types = field(reader, "indexer_types"), *item;
    uint32_t i = 0;
    if (!types) return;
    if (cJSON_GetArraySize(types) != (int)reader->model->n_layers) {
        complain(reader, "indexer_types", "one word a hidden layer", "another number");
        return;
    }
    cJSON_ArrayForEach(item, types)
    {
        const char *text = cJSON_GetStringValue(item);
        if (!text || strcmp(text, "full") != 0) reader->model->layers[i].index_dim = 0;
        i++;
    }
}

/* -- the whole -------------------------------------------------------------------------------- */

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

static void find_family(struct reader *reader)
{
    const cJSON *type = field(reader, "model_type");
    const char *known[sizeof families / sizeof *families] = {NULL};
    for (int i = 0; families[i].model_type; i++) known[i] = families[i].model_type;
    if (!cJSON_IsString(type)) {
        complain(reader, "model_type", "a name", type ? "something else" : "nothing");
        return;
    }
    for (const struct family *family = families; family->model_type; family++)
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
static void read_sizes(struct reader *reader)
{
    struct kv_model *model = reader->model;
    const cJSON *blocks = field(reader, "layers_block_type");
    const uint32_t listed = cJSON_IsArray(blocks) ? (uint32_t)cJSON_GetArraySize(blocks) : 0;
    model->n_layers = named(reader, "num_hidden_layers", "n_layer", listed, MOST_LAYERS);
    model->hidden = named(reader, "hidden_size", "n_embd", 0, MOST_COLUMNS);
    model->max_context = named(reader, "max_position_embeddings", "n_positions", UINT32_MAX, 4e9);
    if (model->max_context == UINT32_MAX) model->max_context = 0;
}

/* With 2^30 tokens and a method that needs several times more, bytes stay below 2^63. */
static void check_size(struct reader *reader)
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
    if (bytes > 1u << 30) complain(reader, "layers", "at most 2^30 bytes a token", found);
}

static int read_layers(struct reader *reader)
{
    struct kv_model *model = reader->model;
    struct plan *plan = calloc(1, sizeof *plan);
    model->layers = calloc(model->n_layers, sizeof *model->layers);
    if (!plan || !model->layers) {
        free(plan);
        return kv_fail(reader->err, KV_EMEMORY, "%s: out of memory", reader->where);
    }
    plan_layers(reader, plan);
    for (uint32_t i = 0; reader->status == KV_OK && i < model->n_layers; i++)
        fill_layer(reader, &model->layers[i], i, plan->kind[i], plan->state[i]);
    free(plan);
    const cJSON *sources = field(reader, "kv_source");
    if (reader->status == KV_OK) share_last(reader);
    if (reader->status == KV_OK && sources) share_listed(reader, sources);
    if (reader->status == KV_OK) share_index(reader);
    if (reader->status == KV_OK) check_size(reader);
    return reader->status;
}

int kv_model_from_config(struct kv_model *model, const cJSON *config, const char *where,
                         struct kv_error *err)
{
    struct reader reader = {
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
