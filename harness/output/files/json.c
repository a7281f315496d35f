/* Rows as cJSON objects. Numbers go through text, so that digits are ours and not cJSON's. */
#include "harness/output/files/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/row.h"

cJSON *kv_real_to_json(double value, int digits)
{
    char text[40];
    if (isnan(value)) return cJSON_CreateNull();
    if (isinf(value)) return cJSON_CreateString(value > 0 ? "inf" : "-inf");
    snprintf(text, sizeof text, "%.*g", digits, value);
    return cJSON_CreateRaw(text);
}

double kv_json_to_real(const cJSON *value)
{
    if (cJSON_IsNumber(value)) return value->valuedouble;
    if (cJSON_IsString(value) && strcmp(value->valuestring, "inf") == 0) return INFINITY;
    if (cJSON_IsString(value) && strcmp(value->valuestring, "-inf") == 0) return -INFINITY;
    return NAN;
}

bool kv_json_add(cJSON *object, const char *name, cJSON *item)
{
    if (item && cJSON_AddItemToObject(object, name, item)) return true;
    cJSON_Delete(item);
    return false;
}

static cJSON *column_to_json(const struct kv_row *row, const struct kv_column *column, int digits)
{
    char scratch[40];
    const char *text = kv_row_text(row, column, scratch);
    if (column->kind == KV_COLUMN_REAL) {
        double value;
        memcpy(&value, (const char *)row + column->offset, sizeof value);
        return kv_real_to_json(value, digits);
    }
    if (!text[0]) return cJSON_CreateNull();
    return column->kind == KV_COLUMN_COUNT ? cJSON_CreateRaw(text) : cJSON_CreateString(text);
}

cJSON *kv_row_to_json(const struct kv_row *row, int digits)
{
    cJSON *object = cJSON_CreateObject();
    for (size_t i = 0; object && i < KV_N_COLUMNS; i++) {
        if (!kv_json_add(object, kv_columns[i].name, column_to_json(row, &kv_columns[i], digits))) {
            cJSON_Delete(object);
            object = NULL;
        }
    }
    return object;
}

static int column_from_json(struct kv_row *row, const struct kv_column *column, const cJSON *value)
{
    void *field = (char *)row + column->offset;
    if (!value || cJSON_IsNull(value)) return KV_OK;
    if (column->kind == KV_COLUMN_TEXT) {
        return cJSON_IsString(value) ? kv_text_set(field, "%s", value->valuestring) : KV_EINPUT;
    }
    const double number = kv_json_to_real(value);
    if (isnan(number)) return KV_EINPUT;
    if (column->kind == KV_COLUMN_COUNT) *(int64_t *)field = (int64_t)number;
    else *(double *)field = number;
    return KV_OK;
}

int kv_row_from_json(struct kv_row *row, const cJSON *object)
{
    int status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < KV_N_COLUMNS; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, kv_columns[i].name);
        status = column_from_json(row, &kv_columns[i], value);
    }
    return status;
}

cJSON *kv_reals_to_json(const double *values, size_t n, int digits)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; array && i < n; i++) {
        cJSON *item = kv_real_to_json(values[i], digits);
        if (item && cJSON_AddItemToArray(array, item)) continue;
        cJSON_Delete(item);
        cJSON_Delete(array);
        return NULL;
    }
    return array;
}
