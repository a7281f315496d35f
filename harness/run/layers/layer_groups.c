/* Layer groups; see layer_groups.h. */
#include "harness/run/layers/layer_groups.h"

#include <stdlib.h>
#include <string.h>

#include "methods/cache/cache.h"
#include "methods/spec/spec_wants.h"

static bool same_rope(const struct kv_rope *a, const struct kv_rope *b)
{
    if (a->layout != b->layout || a->dims != b->dims || a->scale != b->scale) return false;
    for (uint32_t i = 0; i < a->dims / 2; i++)
        if (a->inv_freq[i] != b->inv_freq[i]) return false;
    return true;
}

/* Rows of these layers can lie side by side, and keys of one stand in for those of the other. */
static bool same_kind(const struct kv_trace_layer *a, const struct kv_trace_layer *b)
{
    const struct kv_geometry *x = &a->geometry, *y = &b->geometry;
    return a->dtype == b->dtype && a->v_is_k_prefix == b->v_is_k_prefix &&
           x->kv_heads == y->kv_heads && x->group == y->group && x->key_dim == y->key_dim &&
           x->value_dim == y->value_dim && x->window == y->window && same_rope(&x->rope, &y->rope);
}

struct forming { /* groups under way */
    struct kv_layer_groups *out;
    const struct kv_trace *trace;
    const uint32_t *layers;
    uint32_t n;
    const struct kv_spec *spec;
    uint32_t *most; /* [groups] how many layers each may have */
};

static const struct kv_trace_layer *layer_at(const struct forming *forming, uint32_t i)
{
    return &forming->trace->layers[forming->layers[i]];
}

static struct kv_layer_group *add_group(struct forming *forming, uint32_t most)
{
    struct kv_layer_group *group = &forming->out->groups[forming->out->n];
    group->layers = calloc(forming->n, sizeof *group->layers);
    if (!group->layers) return NULL;
    forming->most[forming->out->n++] = most;
    return group;
}

/* The newest group of this kind, when it has room. */
static struct kv_layer_group *open_group(const struct forming *forming, uint32_t i, uint32_t most)
{
    for (uint32_t g = forming->out->n; g-- > 0;) {
        struct kv_layer_group *group = &forming->out->groups[g];
        if (forming->most[g] < 2 ||
            !same_kind(layer_at(forming, group->layers[0]), layer_at(forming, i)))
            continue;
        return group->n < forming->most[g] && most > 1 ? group : NULL;
    }
    return NULL;
}

static int place_owner(struct forming *forming, uint32_t i, struct kv_error *err)
{
    const struct kv_trace_layer *layer = layer_at(forming, i);
    uint32_t most = 1;
    if (!kv_spec_is_exact_layer(forming->spec, layer->index, layer->geometry.model_layers)) {
        const int status =
            kv_cache_layer_group(&most, &forming->spec->caches[0], &layer->geometry, err);
        if (status != KV_OK) return status;
    }
    struct kv_layer_group *group = most > 1 ? open_group(forming, i, most) : NULL;
    if (!group) group = add_group(forming, most);
    if (!group) return kv_fail(err, KV_EMEMORY, "out of memory for layer groups");
    group->layers[group->n++] = i;
    return KV_OK;
}

/* The group of its owner, with this layer in the owner's place. */
static int place_reader(struct forming *forming, uint32_t i, struct kv_error *err)
{
    const uint32_t owner = layer_at(forming, i)->kv_source, n = forming->out->n;
    struct kv_layer_group *group = add_group(forming, 1);
    if (!group) return kv_fail(err, KV_EMEMORY, "out of memory for layer groups");
    group->reads_shared = true;
    group->layers[0] = i, group->n = 1;
    for (uint32_t g = 0; g < n; g++) {
        const struct kv_layer_group *from = &forming->out->groups[g];
        for (uint32_t m = 0; m < from->n && !from->reads_shared; m++)
            if (layer_at(forming, from->layers[m])->index == owner) {
                memcpy(group->layers, from->layers, from->n * sizeof *group->layers);
                group->n = from->n, group->reader = m, group->layers[m] = i;
            }
    }
    return KV_OK;
}

int kv_layer_groups_form(struct kv_layer_groups *out, const struct kv_trace *trace,
                         const uint32_t *layers, uint32_t n, const struct kv_spec *spec,
                         struct kv_error *err)
{
    *out = (struct kv_layer_groups){.groups = calloc(n, sizeof *out->groups)};
    struct forming forming = {.out = out,
                              .trace = trace,
                              .layers = layers,
                              .n = n,
                              .spec = spec,
                              .most = calloc(n, sizeof *forming.most)};
    int status = KV_OK;
    if (!out->groups || !forming.most)
        status = kv_fail(err, KV_EMEMORY, "out of memory for layer groups");
    for (int readers = 0; readers < 2; readers++)
        for (uint32_t i = 0; status == KV_OK && i < n; i++) {
            const struct kv_trace_layer *layer = layer_at(&forming, i);
            if ((layer->kv_source != layer->index) != readers) continue;
            status = readers ? place_reader(&forming, i, err) : place_owner(&forming, i, err);
        }
    free(forming.most);
    if (status != KV_OK) kv_layer_groups_free(out);
    return status;
}

void kv_layer_groups_free(struct kv_layer_groups *groups)
{
    for (uint32_t g = 0; g < groups->n; g++) free(groups->groups[g].layers);
    free(groups->groups);
    *groups = (struct kv_layer_groups){0};
}

bool kv_layer_groups_same(const struct kv_layer_groups *a, const struct kv_layer_groups *b)
{
    if (a->n != b->n) return false;
    for (uint32_t g = 0; g < a->n; g++) {
        const struct kv_layer_group *x = &a->groups[g], *y = &b->groups[g];
        if (x->n != y->n || memcmp(x->layers, y->layers, x->n * sizeof *x->layers) != 0)
            return false;
    }
    return true;
}
