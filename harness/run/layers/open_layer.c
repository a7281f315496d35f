/* A layer in memory; see open_layer.h. */
#include "harness/run/layers/open_layer.h"

#include "harness/base/clock.h"
#include "harness/output/files/provenance.h"
#include "harness/replay/layout.h"
#include "harness/run/layers/calibration.h"
#include "harness/run/layers/read_ahead.h"

/* Bytes of the next layer, for each method that shares this one: above them it is not read ahead. Work grows
 * faster than bytes do, and with the methods: 96 MiB from the page cache, where the content hash left them,
 * are 16 ms, the cheapest method over them takes two threads 0.7 s. */
#define AHEAD_BYTES (UINT64_C(64) << 20)
enum { WHOLE_LAYER = KV_READ_GRADIENTS | KV_READ_PROJECTION };

/* Its rows and exact answers stay for the batch after this, which has them for nothing. */
static void hold_layer(struct kv_open_layer *layer)
{
    struct kv_trace_run *run = layer->run;
    kv_trace_run_drop_held(run);
    run->held = layer->reader, run->held_reference = layer->reference, run->held_layer = layer->l;
    run->held->info = &run->trace->layers[run->layers[layer->l]];
    run->held_reference->seconds = run->held_reference->audit_seconds = 0;
    layer->owner = layer->reader = NULL, layer->reference = NULL;
}

void kv_open_layer_close(struct kv_open_layer *layer)
{
    if (layer->reference && layer->stays) hold_layer(layer);
    kv_reference_free(layer->reference);
    kv_fit_layer_free(&layer->fit);
    if (layer->owner != layer->reader) kv_layer_free(layer->owner);
    kv_layer_free(layer->reader);
}

uint64_t kv_layer_bytes(const struct kv_trace_layer *layer)
{
    const struct kv_geometry *geometry = &layer->geometry;
    const uint64_t kv_heads = kv_recorded_heads(geometry);
    const uint64_t columns = (geometry->q_heads + kv_heads) * geometry->key_dim + kv_heads * geometry->value_dim;
    return geometry->tokens * columns * kv_dtype_bytes(layer->dtype);
}

uint64_t kv_open_layer_ahead(const struct kv_open_layer *at)
{
    const struct kv_trace_run *run = at->run;
    if (run->next_layer == KV_NO_LAYER || at->stays) return 0;
    const uint64_t bytes = kv_layer_bytes(&run->trace->layers[run->layers[run->next_layer]]);
    return bytes * run->n_together > AHEAD_BYTES ? 0 : bytes;
}

static void read_on(const struct kv_open_layer *at)
{
    struct kv_trace_run *run = at->run;
    if (kv_open_layer_ahead(at))
        kv_read_ahead_layer(run->ahead, run->trace, run->layers[run->next_layer], WHOLE_LAYER);
    else if (run->next_layer == KV_NO_LAYER && run->next_path)
        kv_read_ahead_trace(run->ahead, run->next_path, kv_trace_run_flags(run));
}

/* The held one, or read by now, or read here. */
static int take_layer(struct kv_open_layer *layer, struct kv_error *err)
{
    struct kv_trace_run *run = layer->run;
    if (run->held && run->held_layer == layer->l) {
        layer->reader = run->held, layer->reference = run->held_reference;
        run->held = NULL, run->held_reference = NULL;
        return KV_OK;
    }
    kv_trace_run_drop_held(run);
    return kv_read_ahead_take_layer(run->ahead, &layer->reader, run->trace, run->layers[layer->l],
                                    WHOLE_LAYER, err);
}

/* The exact answers of the layer as recorded, in the order of the heads that it shows. */
static int take_reference(struct kv_open_layer *layer, const struct kv_layer *recorded, struct kv_error *err)
{
    struct kv_trace_run *run = layer->run;
    const struct kv_reference_input input = {
        .layer = recorded, .kernels = run->kernels, .n_scored = run->n_scored,
        .scored = run->scored, .spans = kv_trace_run_spans(run),
        .content_hash = run->trace->verified ? run->trace->content_hash : NULL,
        .version = kv_code_version(), .threads = run->threads, .audited = run->audited[layer->l]};
    int status = KV_OK;
    if (!layer->reference) status = kv_reference_get(&layer->reference, &input, err);
    if (status == KV_OK && layer->reader->info->geometry.copies)
        status = kv_layout_part_reference(layer->reference, &recorded->info->geometry, run->n_scored,
                                          run->n_spans, err);
    return status;
}

/* `spec` stands for all that run together: they see the layer alike. */
int kv_open_layer_open(struct kv_open_layer *layer, struct kv_trace_run *run, uint32_t l,
                      const struct kv_spec *spec, const struct kv_wants *wants, struct kv_error *err)
{
    const uint32_t i = run->layers[l];
    const struct kv_trace_layer *info = &run->trace->layers[i];
    double start = kv_clock_seconds();
    *layer = (struct kv_open_layer){.run = run, .l = l, .answered = true};
    layer->stays = run->next_layer == l && info->kv_source == info->index && !kv_layout_repeats(spec, info);
    int status = take_layer(layer, err);
    if (status != KV_OK) return status;
    layer->owner = layer->reader;
    if (info->kv_source != info->index) {
        layer->owner = NULL;
        status = kv_trace_read_layer(&layer->owner, run->trace, kv_trace_find_layer(run->trace, info->kv_source),
                                     KV_READ_GRADIENTS | (wants->output_norms ? KV_READ_PROJECTION : 0), err);
        if (status != KV_OK) return status;
    }
    const struct kv_layer recorded = *layer->reader;
    kv_layer_show(spec, layer->reader, &layer->shown[0]);
    if (layer->owner != layer->reader) kv_layer_show(spec, layer->owner, &layer->shown[1]);
    if (run->calibration) {
        status = kv_calibration_read(&layer->fit, run->calibration, layer->owner, spec, err);
        if (status != KV_OK) return status;
    }
    read_on(layer);
    kv_trace_run_spend(run, KV_STAGE_READ, &start);
    layer->scored = (struct kv_scored){layer->reader, run->kernels, run->n_scored, run->scored};
    status = take_reference(layer, &recorded, err);
    kv_trace_run_spend(run, KV_STAGE_REFERENCE, &start);
    if (status != KV_OK) return status;
    run->audited[l] = true;
    run->profile->seconds[KV_STAGE_REFERENCE] -= layer->reference->audit_seconds;
    run->profile->seconds[KV_STAGE_AUDIT] += layer->reference->audit_seconds;
    return KV_OK;
}
