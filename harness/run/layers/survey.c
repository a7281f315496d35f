/* The survey; see survey.h. */
#include "harness/run/layers/survey.h"

#include <stdlib.h>

#include "harness/replay/prompt_statistics.h"
#include "harness/replay/layout.h"

static const struct kv_stage *asking_stage(const struct kv_spec *spec)
{
    for (uint32_t p = 0; p < spec->caches[0].n_policies; p++)
        if (spec->caches[0].policies[p]->trim.layer_budget == KV_LAYERS_CAKE) return spec->caches[0].policies[p];
    return NULL;
}

bool kv_survey_wanted(const struct kv_spec *spec) { return asking_stage(spec) != NULL; }

static double ask(const struct kv_stage *stage, const struct kv_geometry *geometry,
                  const struct kv_prompt *prompts, struct kv_lane *lanes)
{
    const struct kv_chooser self = {.type = stage->policy, .config = stage->config[0], .trim = stage->trim};
    for (uint32_t h = 0; h < geometry->kv_heads; h++)
        lanes[h] = (struct kv_lane){.head = h, .group = geometry->group, .key_dim = geometry->key_dim,
                                    .value_dim = geometry->value_dim, .n = prompts[h].n,
                                    .prompt = &prompts[h]};
    return stage->policy->survey(&self, lanes, geometry->kv_heads);
}

int kv_survey_layer(double *preference, const struct kv_spec *spec, const struct kv_layer *layer,
                    const struct kv_kernels *kernels, struct kv_error *err)
{
    const struct kv_stage *stage = asking_stage(spec);
    const struct kv_geometry *geometry = &layer->info->geometry;
    struct kv_wants wants = {0};
    if (!stage->policy->survey)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: layer_budget=cake: it has no opinion on layers, only policies"
                       " that vote have", stage->policy->name);
    stage->policy->wants(stage->config[0], &wants);
    struct kv_pool *pool = kv_pool_create(0);
    struct kv_prompt *prompts = calloc(geometry->kv_heads, sizeof *prompts);
    struct kv_lane *lanes = calloc(geometry->kv_heads, sizeof *lanes);
    int status = pool && prompts && lanes ? KV_OK : kv_fail(err, KV_EMEMORY, "out of memory for a survey");
    for (uint32_t h = 0; status == KV_OK && h < geometry->kv_heads; h++)
        status = kv_prompt_compute(&prompts[h], layer, h, &wants, kernels, pool, err);
    if (status == KV_OK) *preference = ask(stage, geometry, prompts, lanes);
    kv_pool_destroy(pool);
    free(prompts);
    free(lanes);
    return status;
}

int kv_survey_take(struct kv_layer_survey *survey, const struct kv_spec *spec, const struct kv_trace *trace,
                   const uint32_t *layers, uint32_t n_layers, const struct kv_kernels *kernels,
                   struct kv_error *err)
{
    *survey = (struct kv_layer_survey){.layer = calloc(n_layers, sizeof *survey->layer),
                                       .preference = calloc(n_layers, sizeof *survey->preference)};
    if (!survey->layer || !survey->preference) return kv_fail(err, KV_EMEMORY, "out of memory for a survey");
    int status = KV_OK;
    for (uint32_t i = 0; status == KV_OK && i < n_layers; i++) {
        const struct kv_trace_layer *info = &trace->layers[layers[i]];
        struct kv_layer *layer = NULL;
        struct kv_trace_layer shown;
        if (info->kv_source != info->index ||
            kv_spec_is_exact_layer(spec, info->index, info->geometry.model_layers))
            continue;
        status = kv_trace_read_layer(&layer, trace, layers[i], 0, err);
        if (status == KV_OK) kv_layer_show(spec, layer, &shown);
        if (status == KV_OK)
            status = kv_survey_layer(&survey->preference[survey->n], spec, layer, kernels, err);
        survey->layer[survey->n++] = info->index;
        kv_layer_free(layer);
    }
    return status;
}

void kv_survey_free(struct kv_layer_survey *survey)
{
    free(survey->layer);
    free(survey->preference);
    *survey = (struct kv_layer_survey){0};
}

struct kv_survey kv_survey_at(const struct kv_layer_survey *survey, uint32_t layer)
{
    struct kv_survey seen = {.n = survey->n, .preference = survey->preference};
    while (seen.here < survey->n && survey->layer[seen.here] != layer) seen.here++;
    return seen;
}
