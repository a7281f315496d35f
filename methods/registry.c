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

const struct kv_preset kv_presets[] = {
    {"kivi2", "kivi:bits=2", "KIVI as published, 2 bits"},
    {"kivi4", "kivi:bits=4", "KIVI as published, 4 bits"},
    {"int8", "int:bits=8", "round to nearest, 8 bits"},
    {"int4", "int:bits=4", "round to nearest, 4 bits"},
    {"int3", "int:bits=3", "round to nearest, 3 bits"},
    {"int2", "int:bits=2", "round to nearest, 2 bits"},
    {"tq2", "turboquant:bits=2", "TurboQuant, 2 bits"},
    {"tq3", "turboquant:bits=3", "TurboQuant, 3 bits"},
    {"tq4", "turboquant:bits=4", "TurboQuant, 4 bits"},
    {"tq2.5", "turboquant:bits=2.5", "TurboQuant, a quarter of the channels at 3 bits, the others at 2"},
    {"tq3.5", "turboquant:bits=3.5", "TurboQuant, half of the channels at 4 bits, the others at 3"},
    {"streamingllm", "streaming:budget=0.2:sinks=4", "StreamingLLM, four sinks"},
    {NULL, NULL, NULL}};

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
