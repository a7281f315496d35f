/* Fields of a config.json; see config_reader.h. */
#include "harness/models/config_reader.h"

#include <stdio.h>

const cJSON *kv_config_field(const struct kv_config_reader *reader, const char *name)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(reader->config, name);
    return cJSON_IsNull(value) ? NULL : value;
}

bool kv_config_is_null(const struct kv_config_reader *reader, const char *name)
{
    return cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(reader->config, name));
}

void kv_config_complain(struct kv_config_reader *reader, const char *name, const char *expected,
                        const char *found)
{
    if (reader->status == KV_OK)
        reader->status = kv_fail(reader->err, KV_EINPUT, "%s: %s: expected %s, found %s",
                                 reader->where, name, expected, found);
}

uint32_t kv_config_number(struct kv_config_reader *reader, const char *name, uint32_t otherwise,
                          double most)
{
    const cJSON *value = kv_config_field(reader, name);
    char found[64] = "nothing", expected[64];
    if (!value && otherwise) return otherwise;
    if (cJSON_IsNumber(value)) {
        const double x = value->valuedouble;
        if (x >= 1 && x <= most && x == (double)(uint32_t)x) return (uint32_t)x;
        snprintf(found, sizeof found, "%.12g", x);
    } else if (value) {
        snprintf(found, sizeof found, "something else");
    }
    snprintf(expected, sizeof expected, "a whole number from 1 to %.0f", most);
    kv_config_complain(reader, name, expected, found);
    return 1;
}

uint32_t kv_config_named(struct kv_config_reader *reader, const char *name, const char *other,
                         uint32_t otherwise, double most)
{
    return kv_config_number(
        reader, !kv_config_field(reader, name) && kv_config_field(reader, other) ? other : name,
        otherwise, most);
}

bool kv_config_truth(const struct kv_config_reader *reader, const char *name)
{
    return cJSON_IsTrue(kv_config_field(reader, name));
}

uint32_t kv_config_count(struct kv_config_reader *reader, const char *name, uint32_t otherwise,
                         double most)
{
    const cJSON *value = kv_config_field(reader, name);
    if (!value) return otherwise;
    if (cJSON_IsNumber(value) && value->valuedouble == 0) return 0;
    return kv_config_number(reader, name, 0, most);
}
