/* The registry: every method, from the name lists of methods/{codecs,policies,answers}/meson.build.
 */
#include <string.h>

#include "methods/answer.h"
#include "methods/spec/spec.h"

#define KV_CODEC(name) extern const struct kv_codec kv_codec_##name;
#define KV_POLICY(name) extern const struct kv_policy kv_policy_##name;
#define KV_ANSWER(name) extern const struct kv_answer kv_answer_##name;
#include "registry_list.h"
#undef KV_CODEC
#undef KV_POLICY
#undef KV_ANSWER

const struct kv_codec *const kv_codecs[] = {
#define KV_CODEC(name) &kv_codec_##name,
#define KV_POLICY(name)
#define KV_ANSWER(name)
#include "registry_list.h"
#undef KV_CODEC
#undef KV_POLICY
#undef KV_ANSWER
    NULL};

const struct kv_policy *const kv_policies[] = {
#define KV_CODEC(name)
#define KV_POLICY(name) &kv_policy_##name,
#define KV_ANSWER(name)
#include "registry_list.h"
#undef KV_CODEC
#undef KV_POLICY
#undef KV_ANSWER
    NULL};

const struct kv_answer *const kv_answers[] = {
#define KV_CODEC(name)
#define KV_POLICY(name)
#define KV_ANSWER(name) &kv_answer_##name,
#include "registry_list.h"
#undef KV_CODEC
#undef KV_POLICY
#undef KV_ANSWER
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

const struct kv_preset *kv_preset_find(const char *name)
{
    for (const struct kv_preset *preset = kv_presets; preset->name; preset++)
        if (strcmp(preset->name, name) == 0) return preset;
    return NULL;
}

const struct kv_answer *kv_answer_find(const char *name)
{
    for (int i = 0; kv_answers[i]; i++)
        if (strcmp(kv_answers[i]->name, name) == 0) return kv_answers[i];
    return NULL;
}
