/* Reading one layer; see trace.h. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/half.h"
#include "harness/base/large.h"
#include "traces/trace_private.h"

enum { ALIGNMENT = 64 };

struct block {                    /* all memory of a layer hangs on one list */
    struct block *next;
    uint64_t bytes;
    char padding[ALIGNMENT - sizeof(struct block *) - sizeof(uint64_t)];
};

/* Blocks of freed layers: the next layer is as a rule of the same shape, and memory that the system
 * has to hand out afresh page by page costs three times what reading into it does. */
static struct block *spare;
static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;   /* a layer may be read ahead */

struct reading {
    struct kv_layer *layer;
    const struct kv_trace *trace;
    const struct kv_h5 *file;
    struct kv_error *err;
};

static struct block *take_spare(uint64_t bytes)
{
    struct block *block = NULL;
    pthread_mutex_lock(&spare_lock);
    for (struct block **link = &spare; *link; link = &(*link)->next) {
        if ((*link)->bytes != bytes) continue;
        block = *link;
        *link = block->next;
        break;
    }
    pthread_mutex_unlock(&spare_lock);
    return block;
}

void kv_layers_release(void)
{
    pthread_mutex_lock(&spare_lock);
    struct block *all = spare;
    spare = NULL;
    pthread_mutex_unlock(&spare_lock);
    for (struct block *next; all; all = next) {
        next = all->next;
        free(all);
    }
}

/* Never more spare memory than one set of blocks: what does not fit goes before new memory comes.
 */
static struct block *new_block(uint64_t bytes)
{
    kv_layers_release();
    struct block *block = bytes < SIZE_MAX / 2 ? kv_large_alloc(bytes) : NULL;
    if (block) block->bytes = bytes;
    return block;
}

static void *reserve(const struct reading *reading, uint64_t bytes)
{
    const uint64_t rounded = (bytes + sizeof(struct block) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct block *block = take_spare(rounded);
    if (!block) block = new_block(rounded);
    if (!block) {
        kv_fail(reading->err, KV_EMEMORY, "%s: layer %u: out of memory", reading->trace->path,
                reading->layer->info->index);
        return NULL;
    }
    block->next = reading->layer->memory;
    reading->layer->memory = block;
    return block + 1;
}

/* The file's words of a dataset. */
static int read_words(void **out, struct kv_h5_data *data, const struct reading *reading,
                      const char *object)
{
    const int status = kv_h5_describe(data, reading->file, object, reading->err);
    if (status != KV_OK) return status;
    *out = reserve(reading, data->bytes);
    if (!*out) return KV_EMEMORY;
    return kv_h5_read(*out, reading->file, object, data, 0, data->dims[0], reading->err);
}

static int read_tensor(struct kv_tensor *out, const struct reading *reading, const char *object)
{
    struct kv_h5_data data;
    void *words;
    const int status = read_words(&words, &data, reading, object);
    if (status != KV_OK) return status;
    *out = (struct kv_tensor){
        .dtype = kv_dtype_of(data.type), .heads = (uint32_t)data.dims[0],
        .tokens = (uint32_t)data.dims[1], .dim = (uint32_t)data.dims[2],
        .stride = (uint32_t)data.dims[2], .data = words};
    return KV_OK;
}

static int read_attention(const struct reading *reading)
{
    struct kv_layer *layer = reading->layer;
    const struct kv_trace_layer *info = layer->info;
    char object[48];
    snprintf(object, sizeof object, "layers/%03u/q", info->index);
    int status = read_tensor(&layer->q, reading, object);
    snprintf(object, sizeof object, "layers/%03u/k", info->kv_source);
    if (status == KV_OK) status = read_tensor(&layer->k, reading, object);
    if (info->v_is_k_prefix) {
        layer->v = layer->k;
        layer->v.dim = info->geometry.value_dim;
        return status;
    }
    snprintf(object, sizeof object, "layers/%03u/v", info->kv_source);
    return status == KV_OK ? read_tensor(&layer->v, reading, object) : status;
}

static void widen(float *out, const void *words, uint64_t n, enum kv_h5_type type)
{
    const uint16_t *halves = words;
    for (uint64_t i = 0; i < n; i++)
        out[i] = type == KV_H5_BF16 ? kv_bfloat_to_float(halves[i]) : kv_half_to_float(halves[i]);
}

static int read_projection(const struct reading *reading)
{
    struct kv_layer *layer = reading->layer;
    char object[48];
    struct kv_h5_data data;
    void *words;
    if (!layer->info->has_w_o) return KV_OK;
    snprintf(object, sizeof object, "layers/%03u/w_o", layer->info->index);
    const int status = read_words(&words, &data, reading, object);
    if (status != KV_OK) return status;
    layer->hidden = (uint32_t)data.dims[0];
    layer->w_o = words;
    if (data.type == KV_H5_F32) return KV_OK;
    const uint64_t n = data.bytes / 2;
    layer->w_o = reserve(reading, n * sizeof *layer->w_o);
    if (!layer->w_o) return KV_EMEMORY;
    widen(layer->w_o, words, n, data.type);
    return KV_OK;
}

static int read_x2(const struct reading *reading)
{
    char object[48];
    struct kv_h5_data data;
    void *words;
    if (!reading->layer->info->has_x2) return KV_OK;
    snprintf(object, sizeof object, "layers/%03u/x2", reading->layer->info->index);
    const int status = read_words(&words, &data, reading, object);
    if (status == KV_OK) reading->layer->x2 = words;
    return status;
}

static int read_gradient(struct kv_gradient *out, const struct reading *reading, const char *probe,
                         uint32_t number)
{
    char object[64];
    snprintf(object, sizeof object, "grad/%s/%03u", probe, reading->layer->info->index);
    out->unit = reading->layer->info->units[number];
    return read_tensor(&out->tensor, reading, object);
}

static int read_gradients(const struct reading *reading)
{
    struct kv_layer *layer = reading->layer;
    const struct kv_trace *trace = reading->trace;
    int status = KV_OK;
    if (!layer->info->has_gradients) return KV_OK;
    if (trace->has_label) status = read_gradient(&layer->label, reading, "label", 0);
    if (status != KV_OK || trace->n_fisher == 0) return status;
    layer->fisher = reserve(reading, trace->n_fisher * sizeof *layer->fisher);
    if (!layer->fisher) return KV_EMEMORY;
    for (uint32_t i = 0; i < trace->n_fisher && status == KV_OK; i++) {
        char probe[24];
        snprintf(probe, sizeof probe, "fisher/%u", i);
        status = read_gradient(&layer->fisher[i], reading, probe, trace->has_label + i);
    }
    return status;
}

int kv_trace_read_layer(struct kv_layer **out, const struct kv_trace *trace, uint32_t i,
                        unsigned what, struct kv_error *err)
{
    *out = NULL;
    struct kv_layer *layer = calloc(1, sizeof *layer);
    if (!layer) return kv_fail(err, KV_EMEMORY, "%s: out of memory", trace->path);
    layer->info = &trace->layers[i];
    const struct reading reading = {layer, trace, trace->file, err};
    int status = read_attention(&reading);
    if (status == KV_OK && what & KV_READ_PROJECTION) status = read_projection(&reading);
    if (status == KV_OK && what & KV_READ_PROJECTION) status = read_x2(&reading);
    if (status == KV_OK && what & KV_READ_GRADIENTS) {
        status = read_gradients(&reading);
        layer->n_windows = trace->n_windows, layer->windows = (const uint32_t(*)[2])trace->windows;
        layer->n_fisher = layer->fisher ? trace->n_fisher : 0;
    }
    if (status != KV_OK) kv_layer_free(layer);
    else *out = layer;
    return status;
}

void kv_layer_free(struct kv_layer *layer)
{
    if (!layer) return;
    pthread_mutex_lock(&spare_lock);
    for (struct block *block = layer->memory, *next; block; block = next) {
        next = block->next;
        block->next = spare;
        spare = block;
    }
    pthread_mutex_unlock(&spare_lock);
    free(layer);
}
