/* Memory of a model; see memory.h. */
#include "harness/memory/memory.h"

#include <stdlib.h>
#include <string.h>

#include "harness/run/layers/layer_groups.h"

enum { MOST_CONTEXT = 1 << 30 };

/* A layer, or layers that the method stores together; alike: of the same shape, and as many. */
struct part {
    uint32_t n, *layers;       /* of the model */
    uint32_t alike;            /* the first part that is alike */
    struct kv_memory_law *law; /* without a policy: that of the first; else made when it is asked */
};

struct kv_memory {
    const struct kv_model *model;
    const struct kv_spec *spec;
    struct kv_memory_setting setting;
    const struct kv_kernels *kernels;
    bool only_counts; /* rows are not gone through one by one: for questions of many contexts */
    uint32_t n_parts;
    struct part *parts;
    uint32_t *indices; /* what parts' layers point into */
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

/* The same as far as a method is told, but for the layers' numbers. */
static bool is_alike(const struct kv_memory *memory, const struct part *a, const struct part *b)
{
    const struct kv_model_layer *x = &memory->model->layers[a->layers[0]];
    const struct kv_model_layer *y = &memory->model->layers[b->layers[0]];
    const uint32_t n = memory->model->n_layers;
    const bool here = kv_spec_is_exact_layer(memory->spec, a->layers[0], n);
    const bool there = kv_spec_is_exact_layer(memory->spec, b->layers[0], n);
    return a->n == b->n && here == there && x->kind == y->kind && x->q_heads == y->q_heads &&
           x->kv_heads == y->kv_heads && x->key_dim == y->key_dim && x->value_dim == y->value_dim &&
           x->latent_dim == y->latent_dim && x->window == y->window;
}

/* The law of a part, which is made now unless it was before. */
static int law_of(struct kv_memory *memory, uint32_t p, struct kv_memory_law **law,
                  struct kv_error *err)
{
    struct part *part = &memory->parts[p];
    const struct kv_model_layer *layer = &memory->model->layers[part->layers[0]];
    const struct kv_memory_shape shape = {.layers = part->layers,
                                          .n_layers = part->n,
                                          .model_layers = memory->model->n_layers,
                                          .q_heads = layer->q_heads,
                                          .kv_heads = layer->kv_heads,
                                          .key_dim = layer->key_dim,
                                          .value_dim = layer->value_dim,
                                          .latent_dim = layer->latent_dim,
                                          .element_bits = memory->setting.element_bits};
    const int status =
        part->law ? KV_OK
                  : kv_memory_law_create(&part->law, memory->spec, &shape, memory->kernels, err);
    *law = part->law;
    return status;
}

/* What a method cannot do shows in the first part of each shape. */
static int open_part(struct kv_memory *memory, uint32_t p, struct kv_error *err)
{
    struct part *part = &memory->parts[p];
    struct kv_memory_law *law;
    while (part->alike < p && !is_alike(memory, &memory->parts[part->alike], part)) part->alike++;
    if (part->alike == p) return law_of(memory, p, &law, err);
    if (kv_memory_is_direct(memory->spec)) part->law = memory->parts[part->alike].law;
    return KV_OK;
}

static int bytes_of(struct kv_memory *memory, uint32_t p, uint32_t rows,
                    struct kv_memory_bytes *bytes, struct kv_error *err)
{
    struct kv_memory_law *law;
    const int status = law_of(memory, p, &law, err);
    if (status != KV_OK) return status;
    return (memory->only_counts ? kv_memory_law_count : kv_memory_law_bytes)(
        law, rows, memory->setting.decode, bytes, err);
}

/* The model's layers that keep rows, as a recording of all of them would list them. */
static void describe_layers(const struct kv_model *model, struct kv_trace *trace, uint32_t *indices)
{
    for (uint32_t i = 0; i < model->n_layers; i++) {
        const struct kv_model_layer *layer = &model->layers[i];
        if (!keeps_rows(model, i)) continue;
        indices[trace->n_layers] = trace->n_layers;
        trace->layers[trace->n_layers++] = (struct kv_trace_layer){
            .index = i,
            .kv_source = i,
            .v_is_k_prefix = layer->kind == KV_LAYER_MLA,
            .geometry = {.layer = i,
                         .model_layers = model->n_layers,
                         .q_heads = layer->q_heads,
                         .kv_heads = layer->kv_heads,
                         .group = layer->q_heads / layer->kv_heads,
                         .key_dim = layer->key_dim,
                         .value_dim = layer->value_dim ? layer->value_dim : layer->latent_dim,
                         .values_in_keys = !layer->value_dim,
                         .window = layer->window,
                         .element_bits = 16}};
    }
}

/* Takes over who is stored with whom. */
static void take_groups(struct kv_memory *memory, const struct kv_layer_groups *groups,
                        const struct kv_trace *trace)
{
    uint32_t *next = memory->indices;
    for (uint32_t g = 0; g < groups->n; g++) {
        const struct kv_layer_group *group = &groups->groups[g];
        struct part *part = &memory->parts[memory->n_parts++];
        *part = (struct part){.n = group->n, .layers = next};
        for (uint32_t m = 0; m < group->n; m++) *next++ = trace->layers[group->layers[m]].index;
    }
}

/* The same groups as `run` forms on a recording of all layers. */
static int form_parts(struct kv_memory *memory, struct kv_error *err)
{
    const uint32_t n = memory->model->n_layers;
    struct kv_trace trace = {.layers = calloc(n, sizeof *trace.layers), .model_layers = n};
    uint32_t *indices = calloc(n, sizeof *indices);
    struct kv_layer_groups groups = {0};
    memory->parts = calloc(n, sizeof *memory->parts);
    memory->indices = calloc(n, sizeof *memory->indices);
    int status = trace.layers && indices && memory->parts && memory->indices
                     ? KV_OK
                     : kv_fail(err, KV_EMEMORY, "memory: out of memory");
    if (status == KV_OK) describe_layers(memory->model, &trace, indices);
    if (status == KV_OK && trace.n_layers)
        status = kv_layer_groups_form(&groups, &trace, indices, trace.n_layers, memory->spec, err);
    if (status == KV_OK) take_groups(memory, &groups, &trace);
    kv_layer_groups_free(&groups);
    free(trace.layers);
    free(indices);
    return status;
}

int kv_memory_open(struct kv_memory **out, const struct kv_model *model, const struct kv_spec *spec,
                   const struct kv_memory_setting *setting, const struct kv_kernels *kernels,
                   struct kv_error *err)
{
    struct kv_memory *memory = calloc(1, sizeof *memory);
    if (!memory) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    *memory =
        (struct kv_memory){.model = model, .spec = spec, .setting = *setting, .kernels = kernels};
    int status = form_parts(memory, err);
    for (uint32_t p = 0; status == KV_OK && p < memory->n_parts; p++)
        status = open_part(memory, p, err);
    if (status == KV_OK)
        *out = memory;
    else
        kv_memory_close(memory);
    return status;
}

void kv_memory_close(struct kv_memory *memory)
{
    if (!memory) return;
    for (uint32_t p = 0; p < memory->n_parts; p++)
        if (memory->parts[p].alike == p || !kv_memory_is_direct(memory->spec))
            kv_memory_law_free(memory->parts[p].law);
    free(memory->parts);
    free(memory->indices);
    free(memory);
}

static void add_bytes(struct kv_memory_bytes *sum, const struct kv_memory_bytes *one)
{
    sum->payload += one->payload, sum->metadata += one->metadata, sum->residual += one->residual;
    sum->basis += one->basis, sum->total += one->total, sum->least += one->least;
    sum->smaller += one->smaller, sum->larger += one->larger;
    sum->offloaded += one->offloaded;
    sum->offloaded_least += one->offloaded_least, sum->offloaded_most += one->offloaded_most;
    sum->varies |= one->varies, sum->sampled |= one->sampled;
}

/* The parts that are alike: how many, and the middle and the last one. */
struct alike {
    uint32_t n, middle, last;
};

static struct alike alike_of(const struct kv_memory *memory, uint32_t first)
{
    struct alike alike = {0};
    for (uint32_t p = first; p < memory->n_parts; p++)
        if (memory->parts[p].alike == first) alike.n++, alike.last = p;
    for (uint32_t p = first, n = 0; p < memory->n_parts && n <= alike.n / 2; p++)
        if (memory->parts[p].alike == first) alike.middle = p, n++;
    return alike;
}

/* A run through all rows is dear, and few policies tell layers apart: when the first, the middle
 * and the last part of a shape keep the same bytes, all of them do. */
static int add_alike(struct kv_memory *memory, uint32_t first, uint32_t rows,
                     struct kv_memory_bytes *sum, struct kv_error *err)
{
    const struct alike alike = alike_of(memory, first);
    const uint32_t probes[3] = {first, alike.middle, alike.last};
    struct kv_memory_bytes bytes[3];
    bool same = true;
    int status = KV_OK;
    for (uint32_t i = 0; status == KV_OK && same && i < 3; i++) {
        if (i > 0 && probes[i] == probes[i - 1]) {
            bytes[i] = bytes[i - 1];
            continue;
        }
        status = bytes_of(memory, probes[i], rows, &bytes[i], err);
        same = status == KV_OK && memcmp(&bytes[i], &bytes[0], sizeof *bytes) == 0;
    }
    for (uint32_t p = first; status == KV_OK && p < memory->n_parts; p++) {
        if (memory->parts[p].alike != first) continue;
        if (!same) status = bytes_of(memory, p, rows, &bytes[0], err);
        if (status == KV_OK) add_bytes(sum, &bytes[0]);
    }
    return status;
}

static int add_part(struct kv_memory *memory, uint32_t p, uint32_t rows,
                    struct kv_memory_bytes *sum, struct kv_error *err)
{
    const struct part *part = &memory->parts[p];
    struct kv_memory_bytes bytes;
    if (!kv_memory_is_direct(memory->spec))
        return part->alike == p ? add_alike(memory, p, rows, sum, err) : KV_OK;
    const int status = bytes_of(memory, p, rows, &bytes, err);
    if (status == KV_OK) add_bytes(sum, &bytes);
    return status;
}

int kv_memory_at(struct kv_memory *memory, uint32_t context, struct kv_memory_total *total,
                 struct kv_error *err)
{
    const struct kv_model *model = memory->model;
    *total = (struct kv_memory_total){{0}};
    for (uint32_t p = 0; p < memory->n_parts; p++) {
        const uint32_t rows = rows_of(memory, &model->layers[memory->parts[p].layers[0]], context);
        const int status = add_part(memory, p, rows, &total->cache, err);
        if (status != KV_OK) return status;
    }
    for (uint32_t i = 0; i < model->n_layers; i++) {
        const struct kv_model_layer *layer = &model->layers[i];
        const int64_t rows = keeps_rows(model, i) ? rows_of(memory, layer, context) : 0;
        total->state += (int64_t)layer->state_elements * memory->setting.state_bits / 8;
        total->elements += rows * layer->kv_heads * (layer->key_dim + layer->value_dim);
        total->index += rows * layer->index_dim * memory->setting.element_bits / 8;
    }
    total->total = total->cache.total + total->state + total->index;
    return KV_OK;
}

bool kv_memory_is_counted(struct kv_memory *memory, uint32_t context)
{
    struct kv_memory_total total;
    memory->only_counts = true;
    const int status = kv_memory_at(memory, context, &total, NULL);
    memory->only_counts = false;
    return status == KV_OK;
}

/* Bytes rise with the context, but for the moments when a block is encoded: one of the contexts
 * from 1 on that has at least `bytes` behind one that has fewer. They nearly rise in a line: from
 * where it crosses, in growing steps until the crossing is passed, then by halves. */
static int64_t reach(struct kv_memory *memory, int64_t bytes)
{
    struct kv_memory_total total;
    int64_t low = 0, high = MOST_CONTEXT;
    if (kv_memory_at(memory, MOST_CONTEXT, &total, NULL) != KV_OK) return -1;
    if (total.total < bytes) return KV_NO_CONTEXT;
    int64_t next = (int64_t)((double)bytes / (double)total.total * MOST_CONTEXT);
    for (int64_t step = 1; high - low > 1; step *= 2) {
        const int64_t at = next > low && next < high ? next : low + (high - low) / 2;
        if (kv_memory_at(memory, (uint32_t)at, &total, NULL) != KV_OK) return -1;
        if (total.total >= bytes)
            high = at, next = at - step;
        else
            low = at, next = at + step;
    }
    return high;
}

int64_t kv_memory_reach(struct kv_memory *memory, int64_t bytes)
{
    memory->only_counts = true;
    const int64_t context = reach(memory, bytes);
    memory->only_counts = false;
    return context;
}

int64_t kv_memory_most_context(struct kv_memory *memory, int64_t limit)
{
    const int64_t first = limit < 0 ? 1 : kv_memory_reach(memory, limit + 1);
    return first == KV_NO_CONTEXT ? MOST_CONTEXT : first < 0 ? first : first - 1;
}

/* -- the chain -------------------------------------------------------------------------------- */

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
        layer->latent_dim = 0, layer->key_dim = layer->twin_key_dim,
        layer->value_dim = layer->twin_value_dim;
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
