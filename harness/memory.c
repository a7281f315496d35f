/* Memory of a model; see memory.h. */
#include "harness/memory.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_CONTEXT = 1 << 30 };

struct kv_memory {
    const struct kv_model *model;
    const struct kv_spec *spec;
    struct kv_memory_setting setting;
    struct kv_memory_law *
        *laws;       /* [n_layers] NULL: keeps nothing; direct: shared by layers alike */
    uint32_t *first; /* [n_layers] the first layer of this one's shape */
};

static bool keeps_rows(const struct kv_model *model, uint32_t i)
{
    return model->layers[i].kind != KV_LAYER_NONE && model->layers[i].source == i;
}

static uint32_t rows_of(const struct kv_memory *memory, const struct kv_model_layer *layer,
                        uint32_t context)
{
    const bool local = layer->kind == KV_LAYER_SLIDING || layer->kind == KV_LAYER_CHUNKED;
    return local && !memory->setting.all_rows && layer->window < context ? layer->window : context;
}

/* Layers of the same shape, as far as a method is told. */
static bool same_shape(const struct kv_memory *memory, uint32_t a, uint32_t b)
{
    const struct kv_model_layer *x = &memory->model->layers[a], *y = &memory->model->layers[b];
    const uint32_t n = memory->model->n_layers;
    const bool here = kv_spec_is_exact_layer(memory->spec, a, n);
    const bool there = kv_spec_is_exact_layer(memory->spec, b, n);
    return here == there && x->kind == y->kind && x->q_heads == y->q_heads &&
           x->kv_heads == y->kv_heads && x->key_dim == y->key_dim && x->value_dim == y->value_dim &&
           x->window == y->window;
}

static int open_law(struct kv_memory *memory, uint32_t i, const struct kv_kernels *kernels,
                    struct kv_error *err)
{
    const struct kv_model_layer *layer = &memory->model->layers[i];
    uint32_t first = 0;
    while (first < i && !(memory->laws[first] && same_shape(memory, first, i))) first++;
    memory->first[i] = first;
    if (first < i && kv_memory_is_direct(memory->spec)) {
        memory->laws[i] = memory->laws[first];
        return KV_OK;
    }
    const struct kv_memory_shape shape = {.layer = i,
                                          .model_layers = memory->model->n_layers,
                                          .q_heads = layer->q_heads,
                                          .kv_heads = layer->kv_heads,
                                          .key_dim = layer->key_dim,
                                          .value_dim = layer->value_dim,
                                          .element_bits = memory->setting.element_bits};
    return kv_memory_law_create(&memory->laws[i], memory->spec, &shape, kernels, err);
}

int kv_memory_open(struct kv_memory **out, const struct kv_model *model, const struct kv_spec *spec,
                   const struct kv_memory_setting *setting, const struct kv_kernels *kernels,
                   struct kv_error *err)
{
    struct kv_memory *memory = calloc(1, sizeof *memory);
    if (!memory) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    *memory = (struct kv_memory){.model = model, .spec = spec, .setting = *setting};
    memory->laws = calloc(model->n_layers, sizeof *memory->laws);
    memory->first = calloc(model->n_layers, sizeof *memory->first);
    int status =
        memory->laws && memory->first ? KV_OK : kv_fail(err, KV_EMEMORY, "memory: out of memory");
    for (uint32_t i = 0; status == KV_OK && i < model->n_layers; i++)
        if (keeps_rows(model, i)) status = open_law(memory, i, kernels, err);
    if (status == KV_OK)
        *out = memory;
    else
        kv_memory_close(memory);
    return status;
}

void kv_memory_close(struct kv_memory *memory)
{
    if (!memory) return;
    for (uint32_t i = 0; memory->laws && memory->first && i < memory->model->n_layers; i++)
        if (memory->first[i] == i || !kv_memory_is_direct(memory->spec))
            kv_memory_law_free(memory->laws[i]);
    free(memory->laws);
    free(memory->first);
    free(memory);
}

static void add_bytes(struct kv_memory_bytes *sum, const struct kv_memory_bytes *one)
{
    sum->payload += one->payload, sum->metadata += one->metadata, sum->residual += one->residual;
    sum->basis += one->basis, sum->total += one->total, sum->least += one->least;
    sum->varies |= one->varies;
}

/* The layers of one shape: how many, and the last and the middle one. */
struct alike {
    uint32_t n, middle, last;
};

static struct alike alike_of(const struct kv_memory *memory, uint32_t first)
{
    struct alike alike = {0};
    for (uint32_t i = first; i < memory->model->n_layers; i++)
        if (memory->laws[i] && memory->first[i] == first) alike.n++, alike.last = i;
    for (uint32_t i = first, n = 0; i < memory->model->n_layers && n <= alike.n / 2; i++)
        if (memory->laws[i] && memory->first[i] == first) alike.middle = i, n++;
    return alike;
}

/* A run through all rows is dear, and few policies tell layers apart: when the first, the middle
 * and the last layer of a shape keep the same bytes, all of them do. */
static int add_alike(struct kv_memory *memory, uint32_t first, uint32_t rows,
                     struct kv_memory_bytes *sum, struct kv_error *err)
{
    const struct alike alike = alike_of(memory, first);
    const uint32_t probes[3] = {first, alike.middle, alike.last};
    const uint32_t decode = memory->setting.decode, n = alike.n < 3 ? alike.n : 3;
    struct kv_memory_bytes bytes[3];
    bool same = true;
    int status = KV_OK;
    for (uint32_t p = 0; status == KV_OK && same && p < n; p++) {
        const uint32_t i = p + 1 == n ? alike.last : probes[p];
        status = kv_memory_law_bytes(memory->laws[i], rows, decode, &bytes[p], err);
        same = status == KV_OK && memcmp(&bytes[p], &bytes[0], sizeof *bytes) == 0;
    }
    for (uint32_t i = first; status == KV_OK && i < memory->model->n_layers; i++) {
        if (!memory->laws[i] || memory->first[i] != first) continue;
        if (!same) status = kv_memory_law_bytes(memory->laws[i], rows, decode, &bytes[0], err);
        if (status == KV_OK) add_bytes(sum, &bytes[0]);
    }
    return status;
}

static int add_layer(struct kv_memory *memory, uint32_t i, uint32_t rows,
                     struct kv_memory_bytes *sum, struct kv_error *err)
{
    struct kv_memory_bytes bytes;
    if (!kv_memory_is_direct(memory->spec))
        return memory->first[i] == i ? add_alike(memory, i, rows, sum, err) : KV_OK;
    const int status =
        kv_memory_law_bytes(memory->laws[i], rows, memory->setting.decode, &bytes, err);
    if (status == KV_OK) add_bytes(sum, &bytes);
    return status;
}

int kv_memory_at(struct kv_memory *memory, uint32_t context, struct kv_memory_total *total,
                 struct kv_error *err)
{
    *total = (struct kv_memory_total){{0}};
    for (uint32_t i = 0; i < memory->model->n_layers; i++) {
        const struct kv_model_layer *layer = &memory->model->layers[i];
        const uint32_t rows = rows_of(memory, layer, context);
        total->state += (int64_t)layer->state_elements * memory->setting.state_bits / 8;
        if (!keeps_rows(memory->model, i)) continue;
        const int status = add_layer(memory, i, rows, &total->cache, err);
        if (status != KV_OK) return status;
        total->elements += (int64_t)rows * layer->kv_heads * (layer->key_dim + layer->value_dim);
        total->index += (int64_t)rows * layer->index_dim * memory->setting.element_bits / 8;
    }
    total->total = total->cache.total + total->state + total->index;
    return KV_OK;
}

bool kv_memory_is_counted_directly(const struct kv_memory *memory)
{
    return kv_memory_is_direct(memory->spec);
}

/* The first context from 1 on with at least `bytes`; bytes never fall with the context. */
int64_t kv_memory_reach(struct kv_memory *memory, int64_t bytes)
{
    struct kv_memory_total total;
    uint32_t low = 0, high = MOST_CONTEXT;
    if (!kv_memory_is_direct(memory->spec)) return -1;
    if (kv_memory_at(memory, high, &total, NULL) != KV_OK || total.total < bytes) return -1;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (kv_memory_at(memory, middle, &total, NULL) != KV_OK) return -1;
        if (total.total >= bytes)
            high = middle;
        else
            low = middle;
    }
    return high;
}

int64_t kv_memory_most_context(struct kv_memory *memory, int64_t limit)
{
    const int64_t reach = limit < 0 ? 1 : kv_memory_reach(memory, limit + 1);
    return reach < 0 ? -1 : reach - 1;
}

/* -- the chain ----------------------------------------------------------------------------------
 */

const char *const kv_saving_names[KV_SAVINGS] = {
    "a key and a value for every query head, in every layer, of every token", "grouped heads",
    "layers that share", "windows", "a latent in place of heads"};

/* Takes a saving out of one layer; true when the layer had it. */
static bool undo(struct kv_model_layer *layer, uint32_t index, enum kv_saving saving)
{
    const struct kv_model_layer before = *layer;
    switch (saving) {
    case KV_SAVING_HEADS:
        if (layer->kind != KV_LAYER_MLA) layer->kv_heads = layer->q_heads;
        break;
    case KV_SAVING_SHARING:
        layer->source = index;
        break;
    case KV_SAVING_WINDOWS:
        if (layer->window) layer->kind = KV_LAYER_FULL, layer->window = 0;
        break;
    case KV_SAVING_LATENT:
        if (layer->kind != KV_LAYER_MLA) break;
        layer->kind = KV_LAYER_FULL, layer->kv_heads = layer->q_heads, layer->index_dim = 0;
        layer->key_dim = layer->twin_key_dim, layer->value_dim = layer->twin_value_dim;
        break;
    default:
        break;
    }
    return memcmp(&before, layer, sizeof before) != 0;
}

int kv_model_with_savings(struct kv_model *out, const struct kv_model *model, enum kv_saving until,
                          bool *applies, struct kv_error *err)
{
    *out = *model;
    *applies = until == KV_SAVING_NONE;
    out->layers = malloc(model->n_layers * sizeof *out->layers);
    if (!out->layers) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    memcpy(out->layers, model->layers, model->n_layers * sizeof *out->layers);
    for (uint32_t i = 0; i < model->n_layers; i++) {
        struct kv_model_layer alone = model->layers[i];
        if (alone.kind == KV_LAYER_NONE) continue;
        *applies |= undo(&alone, i, until);
        for (int saving = until + 1; saving < KV_SAVINGS; saving++)
            undo(&out->layers[i], i, saving);
    }
    return KV_OK;
}
