/* Which recorded layers a spec's codecs serve together (kv_codec.layer_group). Groups are formed of
 * neighbours among the layers that are run, in the model's order, of one shape and kind: a trace
 * may hold a subset of the model's layers, and a full layer does not join a sliding one. The K and
 * V of a whole group are in memory at once. */
#ifndef KVBENCH_HARNESS_LAYER_GROUPS_H
#define KVBENCH_HARNESS_LAYER_GROUPS_H

#include "methods/spec/spec.h"
#include "traces/trace.h"

struct kv_layer_group {
    uint32_t n, *layers; /* indices into the list of layers that are run, ascending */
    /* A layer that reads the K and V of another stands in its owner's place: the only one answered.
     */
    bool reads_shared;
    uint32_t reader; /* its place in the group */
};

struct kv_layer_groups {
    uint32_t n;
    struct kv_layer_group *groups;
};

/* layers [n]: indices into trace->layers. KV_EUNSUPPORTED as kv_cache_layer_group says. */
int kv_layer_groups_form(struct kv_layer_groups *out, const struct kv_trace *trace,
                         const uint32_t *layers, uint32_t n, const struct kv_spec *spec,
                         struct kv_error *err);
void kv_layer_groups_free(struct kv_layer_groups *groups);
bool kv_layer_groups_same(const struct kv_layer_groups *a, const struct kv_layer_groups *b);

#endif
