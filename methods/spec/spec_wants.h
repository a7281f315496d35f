/* What a spec asks for, known before anything exists. */
#ifndef KVBENCH_METHODS_SPEC_WANTS_H
#define KVBENCH_METHODS_SPEC_WANTS_H

#include "methods/policy.h"
#include "methods/spec/spec.h"

/* Of one policy of a spec, with its trim. */
struct kv_wants kv_policy_wants(const struct kv_stage *stage);
/* What the policies of a spec want known of the prompt, merged. */
struct kv_wants kv_cache_wants(const struct kv_cache_spec *spec);
/* Of all caches of a spec. */
struct kv_wants kv_spec_wants(const struct kv_spec *spec);
/* Merges what another spec wants into all. */
void kv_wants_merge(struct kv_wants *all, const struct kv_wants *one);
/* True when all heads of a layer must be one unit (a span or a policy joins them). */
bool kv_cache_joins_heads(const struct kv_cache_spec *spec);
/* A codec whose rows are those of several heads together, or NULL. */
const struct kv_codec *kv_cache_codec_over_heads(const struct kv_cache_spec *spec);
/* True when answers feed back into the policy, or differ per query: token by token (slow road). */
bool kv_cache_feeds_back(const struct kv_cache_spec *spec);
bool kv_cache_selects(const struct kv_cache_spec *spec);
/* True when answers number rows by their slots. */
bool kv_cache_renumbers(const struct kv_cache_spec *spec);

/* The most layers that a codec of the spec may serve with one object, this layer being one of them;
 * 1 when none spans layers. KV_EUNSUPPORTED when its sides want different groups. */
int kv_cache_layer_group(uint32_t *most, const struct kv_cache_spec *spec,
                         const struct kv_geometry *layer, struct kv_error *err);

/* Whether rows may be read otherwise than recorded: false only where nothing codes, merges or hands them down. */
bool kv_spec_may_code(const struct kv_spec *spec);

/* Sides that a policy of the spec merges rows on: KV_MERGES_KEYS, KV_MERGES_VALUES. */
uint32_t kv_merged_sides(const struct kv_cache_spec *spec);

#endif
