/* Query heads with KV heads of their own; see layout.h. */
#include "harness/replay/layout.h"

#include <stdlib.h>
#include <string.h>

#include "harness/replay/question.h"

bool kv_layout_repeats(const struct kv_spec *spec, const struct kv_trace_layer *layer)
{
    return spec->query_heads &&
           !kv_spec_is_exact_layer(spec, layer->kv_source, layer->geometry.model_layers);
}

uint32_t kv_layout_lanes(const struct kv_spec *spec, const struct kv_trace_layer *layer)
{
    return kv_layout_repeats(spec, layer) ? layer->geometry.q_heads : layer->geometry.kv_heads;
}

int kv_layout_refuse_latent(uint32_t layer, struct kv_error *err)
{
    return kv_fail(err, KV_EUNSUPPORTED,
                   "layout=query-heads: layer %u keeps a latent that is no head's own", layer);
}

int kv_layout_check(const struct kv_spec *spec, const struct kv_trace_layer *reader,
                    const struct kv_trace_layer *owner, struct kv_error *err)
{
    if (!kv_layout_repeats(spec, owner)) return KV_OK;
    if (owner->geometry.values_in_keys) return kv_layout_refuse_latent(owner->index, err);
    if (reader->geometry.q_heads != owner->geometry.q_heads)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "layout=query-heads: layer %u reads the rows of layer %u: expected as many"
                       " query heads as it has, %u, found %u",
                       reader->index, owner->index, owner->geometry.q_heads,
                       reader->geometry.q_heads);
    return KV_OK;
}

int kv_layout_check_layers(const struct kv_spec *spec, const struct kv_trace *trace,
                           const uint32_t *layers, uint32_t n, struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t i = 0; status == KV_OK && i < n; i++) {
        const struct kv_trace_layer *reader = &trace->layers[layers[i]];
        const uint32_t owner = kv_trace_find_layer(trace, reader->kv_source);
        status = kv_layout_check(spec, reader, &trace->layers[owner], err);
    }
    return status;
}

void kv_layout_show(const struct kv_spec *spec, struct kv_layer *layer, struct kv_trace_layer *as)
{
    if (!kv_layout_repeats(spec, layer->info)) return;
    if (layer->info != as) *as = *layer->info;
    layer->k.copies = layer->v.copies = as->geometry.group;
    kv_geometry_part_heads(&as->geometry);
    layer->info = as;
}

void kv_layer_show(const struct kv_spec *spec, struct kv_layer *layer, struct kv_trace_layer *as)
{
    kv_question_hide(spec, layer, as);
    kv_layout_show(spec, layer, as);
}

/* [heads][rows][group][width] -> [heads][group][rows][width]; one head's rows pass through spare.
 */
static void part_group(float *array, const struct kv_geometry *recorded, uint32_t rows,
                       size_t width, float *spare)
{
    const uint32_t group = recorded->group;
    const size_t head = (size_t)rows * group * width;
    for (uint32_t h = 0; width && h < recorded->kv_heads; h++, array += head) {
        memcpy(spare, array, head * sizeof *spare);
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t g = 0; g < group; g++)
                memcpy(array + ((size_t)g * rows + r) * width,
                       spare + ((size_t)r * group + g) * width, width * sizeof *array);
    }
}

int kv_layout_part_reference(struct kv_reference *reference, const struct kv_geometry *recorded,
                             uint32_t n_scored, uint32_t n_spans, struct kv_error *err)
{
    const size_t widest = recorded->value_dim > n_spans ? recorded->value_dim : n_spans;
    float *spare = malloc((size_t)n_scored * recorded->group * widest * sizeof *spare);
    if (!spare) return kv_fail(err, KV_EMEMORY, "out of memory for the exact reference");
    part_group(reference->outputs, recorded, n_scored, recorded->value_dim, spare);
    part_group(reference->log_sum_exp, recorded, n_scored, 1, spare);
    part_group(reference->span_mass, recorded, n_scored, n_spans, spare);
    free(spare);
    return KV_OK;
}
