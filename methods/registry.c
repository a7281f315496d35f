/* The registry: every method, from the name lists of methods/{codecs,policies}/meson.build. */
#include <string.h>

#include "methods/spec.h"

#define KV_CODEC(name) extern const struct kv_codec kv_codec_##name;
#define KV_POLICY(name) extern const struct kv_policy kv_policy_##name;
#include "registry_list.h"
#undef KV_CODEC
#undef KV_POLICY

const struct kv_codec *const kv_codecs[] = {
#define KV_CODEC(name) &kv_codec_##name,
#define KV_POLICY(name)
#include "registry_list.h"
#undef KV_CODEC
#undef KV_POLICY
    NULL};

const struct kv_policy *const kv_policies[] = {
#define KV_CODEC(name)
#define KV_POLICY(name) &kv_policy_##name,
#include "registry_list.h"
#undef KV_CODEC
#undef KV_POLICY
    NULL};

const struct kv_codec *kv_codec_find(const char *name)
{
    for (int i = 0; kv_codecs[i]; i++)
        if (strcmp(kv_codecs[i]->name, name) == 0) return kv_codecs[i];
    return NULL;
}

const struct kv_policy *kv_policy_find(const char *name)
{
    for (int i = 0; kv_policies[i]; i++)
        if (strcmp(kv_policies[i]->name, name) == 0) return kv_policies[i];
    return NULL;
}
