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

static uint32_t period_of(struct kv_config_reader *reader)
{
    const struct kv_family *family = reader->family;
    const uint32_t period = family->period ? family->period : 1;
    return family->period_field
               ? kv_config_number(reader, family->period_field, period, MOST_LAYERS)
               : period;
}

/* Whose keys turn: a number a layer; where there is no list, or an empty one, all but every
 * period-th. */
static void find_turns(struct kv_config_reader *reader, bool *turns)
{
    const cJSON *list = kv_config_field(reader, "no_rope_layers"), *item;
    const enum kv_windows windows = reader->family->windows;
    const uint32_t n = reader->model->n_layers, period = period_of(reader);
    const int listed = cJSON_GetArraySize(list);
    uint32_t i = 0;
    for (; i < n; i++) turns[i] = (i + 1) % period != 0;
    if (listed == 0 || (windows != CHUNKS && windows != USED_STILL)) return;
    if ((uint32_t)listed != n) {
        kv_config_complain(reader, "no_rope_layers", "one number a hidden layer", "another length");
        return;
    }
    i = 0;
    cJSON_ArrayForEach(item, list) turns[i++] = item->valuedouble != 0;
}

/* A window is there: its number, and (of those who ask for it) that it is used. */
static bool has_window(const struct kv_config_reader *reader)
{
    const enum kv_windows windows = reader->family->windows;
    return windows == ALWAYS ? kv_config_field(reader, "sliding_window") != NULL
                             : kv_config_truth(reader, "use_sliding_window") &&
                                   !kv_config_is_null(reader, "sliding_window");
}

static bool is_local(enum kv_windows windows, uint32_t i, bool window, uint32_t most, bool turns)
{
    switch (windows) {
    case ALWAYS:
    case USED_ALL:
        return window;
    case WHEN_USED:
        return window && i >= most;
    case USED_EVEN:
        return window && i < most && i % 2 == 0;
    case USED_STILL:
        return window && !turns;
    case EVERY:
    case CHUNKS:
        return turns;
    default:
        return false;
    }
}

static void plan_windows(struct kv_config_reader *reader, struct kv_layer_plan *plan)
{
    enum { MOST_WINDOW_LAYERS = 28 }; /* where max_window_layers is absent */
    const enum kv_windows windows = reader->family->windows;
    const enum kv_layer_kind local = windows == CHUNKS ? KV_LAYER_CHUNKED : KV_LAYER_SLIDING;
    const uint32_t most =
        kv_config_count(reader, "max_window_layers", MOST_WINDOW_LAYERS, MOST_LAYERS);
    const bool window = has_window(reader);
    bool turns[MOST_LAYERS];
    find_turns(reader, turns);
    for (uint32_t i = 0; i < reader->model->n_layers; i++)
        plan->kind[i] = is_local(windows, i, window, most, turns[i]) ? local : KV_LAYER_FULL;
}

/* Layers with a state where the config has periods and no list. */
static void plan_states(struct kv_config_reader *reader, struct kv_layer_plan *plan)
{
    const enum kv_body body = reader->family->body;
    const uint32_t n = reader->model->n_layers;
    const uint32_t period = body == JAMBA
                                ? kv_config_number(reader, "attn_layer_period", 0, MOST_LAYERS)
                            : body == DELTA ? period_of(reader)
                                            : 1;
    const uint32_t offset =
        body == JAMBA ? kv_config_count(reader, "attn_layer_offset", 0, MOST_LAYERS) : period - 1;
    if (body == JAMBA && offset >= period) /* no layer would attend */
        kv_config_complain(reader, "attn_layer_offset", "less than attn_layer_period",
                           "as much or more");
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
    if (strncmp(reader->family->model_type, "gemma4", 6) == 0)
        plan->kind[reader->model->n_layers - 1] = KV_LAYER_FULL;
    for (uint32_t i = 0; i < reader->model->n_layers; i++)
        if ((body == LATENT || body == KIMI) && plan->kind[i] == KV_LAYER_FULL)
            plan->kind[i] = KV_LAYER_MLA;
}
