/* Kinds of a model's layers; see config_reader.h. */
#include "harness/models/config_reader.h"

#include <stdio.h>
#include <string.h>

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

static void plan_words(struct kv_config_reader *reader, const char *name, const cJSON *list,
                       struct kv_layer_plan *plan)
{
    char found[64];
    uint32_t i = 0;
    const cJSON *item;
    snprintf(found, sizeof found, "%d", cJSON_IsArray(list) ? cJSON_GetArraySize(list) : -1);
    if (cJSON_GetArraySize(list) != (int)reader->model->n_layers) {
        kv_config_complain(reader, name, "one word a hidden layer", found);
        return;
    }
    cJSON_ArrayForEach(item, list)
    {
        const char *text = cJSON_GetStringValue(item);
        const struct word *word = words;
        while (word->word && (!text || strcmp(word->word, text) != 0)) word++;
        if (!word->word) {
            kv_config_complain(reader, name, "kinds of layers that are known",
                               text ? text : "something else");
            return;
        }
        plan->kind[i] = word->kind, plan->state[i++] = word->state;
    }
}

/* Nemotron-H: M a Mamba-2 layer, * attention, - and E feed-forward. */
static void plan_letters(struct kv_config_reader *reader, const char *letters,
                         struct kv_layer_plan *plan)
{
    if (strlen(letters) != reader->model->n_layers)
        kv_config_complain(reader, "hybrid_override_pattern", "one letter a hidden layer", letters);
    for (uint32_t i = 0; reader->status == KV_OK && letters[i]; i++) {
        if (!strchr("M*-E", letters[i]))
            kv_config_complain(reader, "hybrid_override_pattern", "letters of M, *, - and E",
                               letters);
        plan->kind[i] = letters[i] == '*' ? KV_LAYER_FULL : KV_LAYER_NONE;
        plan->state[i] = letters[i] == 'M';
    }
}

/* Layers 1-based in two lists of linear_attn_config. */
static void plan_kimi(struct kv_config_reader *reader, struct kv_layer_plan *plan)
{
    const cJSON *linear = kv_config_field(reader, "linear_attn_config");
    const cJSON *full = cJSON_GetObjectItemCaseSensitive(linear, "full_attn_layers"), *item;
    if (!cJSON_IsArray(full))
        kv_config_complain(reader, "linear_attn_config.full_attn_layers", "a list", "nothing");
    for (uint32_t i = 0; i < reader->model->n_layers; i++)
        plan->kind[i] = KV_LAYER_NONE, plan->state[i] = true;
    cJSON_ArrayForEach(item, full)
    {
        const double layer = cJSON_IsNumber(item) ? item->valuedouble : 0;
        if (layer < 1 || layer > reader->model->n_layers) {
            kv_config_complain(reader, "linear_attn_config.full_attn_layers", "layers of the model",
                               "another");
            return;
        }
        plan->kind[(uint32_t)layer - 1] = KV_LAYER_MLA, plan->state[(uint32_t)layer - 1] = false;
    }
}

/* Llama 4: a word a layer, 1 where keys turn and attention is in chunks; none or empty: the interval's. */
static void plan_rope_layers(struct kv_config_reader *reader, struct kv_layer_plan *plan)
{
    const cJSON *turns = kv_config_field(reader, "no_rope_layers"), *item;
    const int n = cJSON_GetArraySize(turns);
    uint32_t i = 0;
    if (n == 0) return;
    if ((uint32_t)n != reader->model->n_layers) {
        kv_config_complain(reader, "no_rope_layers", "one number a hidden layer", "another length");
        return;
    }
    cJSON_ArrayForEach(item, turns)
        plan->kind[i++] = item->valuedouble != 0 ? KV_LAYER_CHUNKED : KV_LAYER_FULL;
}

static void plan_windows(struct kv_config_reader *reader, struct kv_layer_plan *plan)
{
    const struct kv_family *family = reader->family;
    const uint32_t n = reader->model->n_layers;
    const uint32_t period =
        family->windows == CHUNKS
            ? kv_config_number(reader, "no_rope_layer_interval", family->period, MOST_LAYERS)
            : kv_config_number(reader, "sliding_window_pattern",
                               family->period ? family->period : 1, MOST_LAYERS);
    const uint32_t first =
        family->windows == WHEN_USED && kv_config_truth(reader, "use_sliding_window")
            ? kv_config_count(reader, "max_window_layers", MOST_LAYERS)
            : n;
    for (uint32_t i = 0; i < n; i++) {
        const bool local = family->windows == ALWAYS
                               ? kv_config_field(reader, "sliding_window") != NULL
                           : family->windows == WHEN_USED ? i >= first
                           : family->windows == NEVER     ? false
                                                          : (i + 1) % period != 0;
        plan->kind[i] = !local                      ? KV_LAYER_FULL
                        : family->windows == CHUNKS ? KV_LAYER_CHUNKED
                                                    : KV_LAYER_SLIDING;
    }
    if (family->windows == CHUNKS) plan_rope_layers(reader, plan);
    if (strncmp(family->model_type, "gemma4", 6) == 0) plan->kind[n - 1] = KV_LAYER_FULL;
}

/* Layers with a state where the config has periods and no list. */
static void plan_states(struct kv_config_reader *reader, struct kv_layer_plan *plan)
{
    const enum kv_body body = reader->family->body;
    const uint32_t n = reader->model->n_layers;
    const uint32_t period = body == JAMBA
                                ? kv_config_number(reader, "attn_layer_period", 0, MOST_LAYERS)
                            : body == DELTA ? kv_config_number(reader, "full_attention_interval",
                                                               reader->family->period, MOST_LAYERS)
                                            : 1;
    const uint32_t offset =
        body == JAMBA ? kv_config_count(reader, "attn_layer_offset", MOST_LAYERS) : period - 1;
    if (body == JAMBA && offset >= period) /* no layer would attend */
        kv_config_complain(reader, "attn_layer_offset", "less than attn_layer_period", "as much or more");
    for (uint32_t i = 0; i < n; i++) {
        const bool full =
            body == BOTH || ((body == JAMBA || body == DELTA) && i % period == offset);
        plan->kind[i] = full ? KV_LAYER_FULL : KV_LAYER_NONE;
        plan->state[i] = body == BOTH || !full;
    }
}

void kv_config_plan_layers(struct kv_config_reader *reader, struct kv_layer_plan *plan)
{
    const cJSON *types = kv_config_field(reader, "layer_types"),
                *blocks = kv_config_field(reader, "layers_block_type");
    const cJSON *letters = kv_config_field(reader, "hybrid_override_pattern");
    const enum kv_body body = reader->family->body;
    if (types)
        plan_words(reader, "layer_types", types, plan);
    else if (blocks)
        plan_words(reader, "layers_block_type", blocks, plan);
    else if (body == NEMOTRON && cJSON_IsString(letters))
        plan_letters(reader, letters->valuestring, plan);
    else if (body == NEMOTRON)
        kv_config_complain(reader, "layers_block_type", "a list", "nothing");
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
