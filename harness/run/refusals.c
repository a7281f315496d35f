/* Refusals of a recording; see refusals.h. */
#include "harness/run/refusals.h"

#include <stdlib.h>

#include "harness/replay/layout.h"
#include "harness/replay/replay.h"
#include "harness/run/layers/layer_groups.h"
#include "methods/cache/byte_law.h"
#include "methods/cache/cache.h"
#include "methods/layer_budget.h"
#include "methods/spec/spec_wants.h"

struct asking {
    const struct kv_trace *trace;
    const struct kv_spec *spec;
    struct kv_kernels kernels;
    struct kv_pool *pool;
};

/* Rows of zeros, all of them one row. */
static struct kv_tensor *make_tensor(struct asking *asking, const struct kv_geometry *geometry,
                                     uint32_t dim)
{
    struct kv_tensor *tensor = kv_pool_take(asking->pool, sizeof *tensor);
    void *row = kv_pool_take(asking->pool, (size_t)dim * 4);
    if (!tensor || !row) return NULL;
    *tensor = (struct kv_tensor){.dtype = KV_F32,
                                 .heads = geometry->kv_heads,
                                 .tokens = geometry->tokens,
                                 .dim = dim,
                                 .data = row};
    return tensor;
}

/* What the layer has beside its rows, as far as somebody refuses to do without. */
static struct kv_prompt *make_prompts(struct asking *asking, const struct kv_trace_layer *layer)
{
    const struct kv_geometry *geometry = &layer->geometry;
    struct kv_prompt *prompts = kv_pool_take(asking->pool, geometry->kv_heads * sizeof *prompts);
    static const float some[1];
    const float *squares = layer->has_gradients && asking->trace->n_fisher ? some : NULL;
    for (uint32_t h = 0; prompts && h < geometry->kv_heads; h++)
        prompts[h] = (struct kv_prompt){.n = geometry->prefill,
                                        .output_norms = layer->has_w_o ? some : NULL,
                                        .fisher = {squares, squares, squares}};
    return prompts;
}

static bool fill_plan(struct asking *asking, const struct kv_trace_layer *layer,
                      struct kv_cache_plan *plan)
{
    struct kv_trace_layer *shown = kv_pool_take(asking->pool, sizeof *shown);
    if (!shown) return false;
    *shown = *layer;
    if (kv_layout_repeats(asking->spec, layer)) kv_geometry_part_heads(&shown->geometry);
    const struct kv_geometry *geometry = &shown->geometry;
    *plan = (struct kv_cache_plan){
        .source = {.geometry = geometry,
                   .keys = make_tensor(asking, geometry, geometry->key_dim),
                   .values = make_tensor(asking, geometry, geometry->value_dim)},
        .spec = &asking->spec->caches[0],
        .kernels = &asking->kernels,
        .pool = asking->pool,
        .prompts = make_prompts(asking, shown),
        .n_heads = kv_replay_unit_heads(asking->spec, geometry),
        .seed = 1,
        .survey = kv_survey_alike(asking->pool, asking->trace->n_layers, 0),
        .counts_only = true,
        .knows_trace = true};
    return plan->source.keys && plan->source.values && plan->prompts && plan->survey;
}

static int ask_group(struct asking *asking, const struct kv_layer_group *group,
                     struct kv_error *why)
{
    struct kv_cache_plan *plans = kv_pool_take(asking->pool, group->n * sizeof *plans);
    struct kv_cache **caches = kv_pool_take(asking->pool, group->n * sizeof *caches);
    bool filled = plans && caches;
    for (uint32_t m = 0; filled && m < group->n; m++)
        filled = fill_plan(asking, &asking->trace->layers[group->layers[m]], &plans[m]);
    if (!filled) return kv_fail(why, KV_EMEMORY, "out of memory");
    int status = kv_cache_create_group(caches, plans, group->n, why);
    for (uint32_t m = 0; status == KV_OK && m < group->n; m++)
        status = kv_cache_settle_budgets(caches[m], why);
    return status;
}

static int ask_groups(struct asking *asking, struct kv_error *why)
{
    const uint32_t n = asking->trace->n_layers;
    struct kv_layer_groups groups;
    uint32_t *layers = calloc(n, sizeof *layers);
    if (!layers) return kv_fail(why, KV_EMEMORY, "out of memory");
    for (uint32_t i = 0; i < n; i++) layers[i] = i;
    int status = kv_layout_check_layers(asking->spec, asking->trace, layers, n, why);
    if (status == KV_OK)
        status = kv_layer_groups_form(&groups, asking->trace, layers, n, asking->spec, why);
    free(layers);
    if (status != KV_OK) return status;
    for (uint32_t g = 0; status == KV_OK && g < groups.n; g++) {
        if (groups.groups[g].reads_shared) continue;
        asking->pool = kv_pool_create(0);
        status = asking->pool ? ask_group(asking, &groups.groups[g], why)
                              : kv_fail(why, KV_EMEMORY, "out of memory");
        kv_pool_destroy(asking->pool);
    }
    kv_layer_groups_free(&groups);
    return status;
}

bool kv_run_refuses(const struct kv_trace *trace, const char *method, struct kv_error *why)
{
    struct asking asking = {.trace = trace};
    struct kv_spec_list specs;
    int status = kv_kernels_fill(&asking.kernels, "generic", why);
    if (status != KV_OK || kv_spec_parse(&specs, method, why) != KV_OK) return false;
    asking.spec = &specs.specs[0];
    status = asking.spec->caches[0].answer ? KV_OK : ask_groups(&asking, why);
    kv_spec_free(&specs);
    return status == KV_EUNSUPPORTED || status == KV_ESKIPPED;
}
