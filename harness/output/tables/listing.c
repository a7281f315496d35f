/* Lists of named things; see listing.h. */
#include "harness/output/tables/listing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/files/json.h"

bool kv_listing_text(cJSON *object, const char *name, const char *text)
{
    return kv_json_add(object, name, cJSON_CreateString(text ? text : ""));
}

cJSON *kv_listing_object(cJSON *list)
{
    cJSON *object = cJSON_CreateObject();
    if (object && cJSON_AddItemToArray(list, object)) return object;
    cJSON_Delete(object);
    return NULL;
}

const char *kv_listing_get(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(object, key));
    return text ? text : "";
}

int kv_listing_width(const cJSON *list, const char *key)
{
    size_t width = 0;
    for (const cJSON *object = list->child; object; object = object->next)
        if (strlen(kv_listing_get(object, key)) > width)
            width = strlen(kv_listing_get(object, key));
    return (int)width;
}

void kv_listing_print(const cJSON *list, const char *const keys[3])
{
    const char *kind = "";
    for (const cJSON *object = list->child; object; object = object->next) {
        if (strcmp(kind, kv_listing_get(object, "kind")) != 0) {
            printf("%s%s\n", *kind ? "\n" : "", kv_listing_get(object, "kind"));
            kind = kv_listing_get(object, "kind");
        }
        printf("%s", *kind ? "  " : "");
        for (int k = 0; k < 3 && keys[k]; k++) {
            const bool last = k == 2 || !keys[k + 1];
            printf("%-*s%s", last ? 0 : kv_listing_width(list, keys[k]),
                   kv_listing_get(object, keys[k]), last ? "\n" : "  ");
        }
    }
}

int kv_listing_json(const cJSON *what, struct kv_error *err)
{
    char *text = cJSON_Print(what);
    if (!text) return kv_fail(err, KV_EMEMORY, "list: out of memory");
    puts(text);
    free(text);
    return KV_OK;
}
