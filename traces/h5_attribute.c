/* Attributes; see h5.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "traces/h5_private.h"

static const char *or_dot(const char *object) { return *object ? object : "."; }

bool kv_h5_has_attribute(const struct kv_h5 *file, const char *object, const char *name)
{
    return H5Aexists_by_name(file->id, or_dot(object), name, H5P_DEFAULT) > 0;
}

static char *copy_of(const char *bytes, size_t length)
{
    char *copy = malloc(length + 1);
    if (!copy) return NULL;
    memcpy(copy, bytes, length);
    copy[length] = '\0';
    return copy;
}

static int read_variable_string(struct kv_h5_value *out, hid_t attribute, hid_t type)
{
    char *text = NULL;
    if (H5Aread(attribute, type, &text) < 0) return -1;
    out->bytes = text ? strlen(text) : 0;
    out->data = copy_of(text ? text : "", out->bytes);
    H5free_memory(text);
    return out->data ? 0 : -1;
}

/* Fixed length: up to the first NUL, or without the blanks that pad it. */
static int read_fixed_string(struct kv_h5_value *out, hid_t attribute, hid_t type)
{
    const size_t size = H5Tget_size(type);
    char *text = size > 0 && size <= 1u << 26 ? calloc(1, size + 1) : NULL;
    if (!text) return -1;
    if (H5Aread(attribute, type, text) < 0) {
        free(text);
        return -1;
    }
    out->bytes = strnlen(text, size);
    if (H5Tget_strpad(type) == H5T_STR_SPACEPAD)
        while (out->bytes > 0 && text[out->bytes - 1] == ' ') out->bytes--;
    text[out->bytes] = '\0';
    out->data = text;
    return 0;
}

static int read_string(struct kv_h5_value *out, hid_t attribute, hid_t type)
{
    if (out->n != 1 || out->rank != 0) return -1;
    return H5Tis_variable_str(type) > 0 ? read_variable_string(out, attribute, type)
                                        : read_fixed_string(out, attribute, type);
}

static int read_numbers(struct kv_h5_value *out, hid_t attribute, hid_t type)
{
    const bool odd = out->type == KV_H5_INTEGER;
    const size_t element = odd ? sizeof(int64_t) : H5Tget_size(type);
    if (element == 0 || out->n > (1u << 26) / element) return -1;
    out->bytes = out->n * element;
    out->data = calloc(out->bytes + 1, 1);
    if (!out->data) return -1;
    if (odd) out->type = KV_H5_I64;
    /* A u64 above the largest i64 is clamped by the library, which no field's range allows. */
    return out->n == 0 || H5Aread(attribute, odd ? H5T_NATIVE_INT64 : type, out->data) >= 0 ? 0
                                                                                            : -1;
}

static int read_value(struct kv_h5_value *out, hid_t attribute)
{
    const hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    int failed = type < 0 || space < 0 || kv_h5_dims(out->dims, &out->rank, &out->n, space) != 0;
    if (!failed) {
        out->type = kv_h5_classify(type);
        if (out->type == KV_H5_STRING) failed = read_string(out, attribute, type);
        else if (out->type != KV_H5_OTHER) failed = read_numbers(out, attribute, type);
    }
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    return failed;
}

int kv_h5_value(struct kv_h5_value *out, const struct kv_h5 *file, const char *object,
                const char *name, struct kv_error *err)
{
    *out = (struct kv_h5_value){.type = KV_H5_OTHER};
    const hid_t attribute =
        H5Aopen_by_name(file->id, or_dot(object), name, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0)
        return kv_fail(err, KV_EINPUT, "%s: /%s@%s: expected an attribute, found nothing",
                       file->path, object, name);
    const int failed = read_value(out, attribute);
    H5Aclose(attribute);
    if (!failed) return KV_OK;
    free(out->data);
    out->data = NULL;
    return kv_fail(err, KV_EINPUT,
                   "%s: /%s@%s: expected a string or numbers, found an attribute that"
                   " cannot be read",
                   file->path, object, name);
}

static int mistyped(const struct kv_h5 *file, const char *object, const char *name,
                    const char *expected, const struct kv_h5_value *value, struct kv_error *err)
{
    struct kv_h5_data shape = {.type = value->type, .rank = value->rank};
    memcpy(shape.dims, value->dims, sizeof shape.dims);
    char found[96];
    kv_h5_print_shape(found, sizeof found, &shape);
    return kv_fail(err, KV_EINPUT, "%s: /%s@%s: expected %s, found %s", file->path, object, name,
                   expected, value->rank ? found : kv_h5_type_name(value->type));
}

/* Reads a scalar attribute that must be there. */
static int scalar(struct kv_h5_value *out, const struct kv_h5 *file, const char *object,
                  const char *name, const char *expected, struct kv_error *err)
{
    if (!kv_h5_has_attribute(file, object, name))
        return kv_fail(err, KV_EINPUT, "%s: /%s@%s: expected %s, found nothing", file->path, object,
                       name, expected);
    const int status = kv_h5_value(out, file, object, name, err);
    if (status != KV_OK || out->rank == 0) return status;
    free(out->data);
    return mistyped(file, object, name, expected, out, err);
}

/* Well-formed by its bytes: no stray or missing continuation, no longer form than needed, no surrogate. */
static bool is_utf8(const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        const int more = *at < 0x80 ? 0 : *at >= 0xc2 && *at < 0xe0 ? 1 : *at >= 0xe0 && *at < 0xf0 ? 2
                       : *at >= 0xf0 && *at < 0xf5 ? 3 : -1;
        if (more < 0 || (*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] > 0x9f)
            || (*at == 0xf0 && at[1] < 0x90) || (*at == 0xf4 && at[1] > 0x8f)) return false;
        at++;
        for (int i = 0; i < more; i++, at++)
            if ((*at & 0xc0) != 0x80) return false;
    }
    return true;
}

int kv_h5_text(char **out, const struct kv_h5 *file, const char *object, const char *name,
               struct kv_error *err)
{
    struct kv_h5_value value;
    const int status = scalar(&value, file, object, name, "a string", err);
    *out = NULL;
    if (status != KV_OK) return status;
    if (value.type == KV_H5_STRING && !is_utf8(value.data)) {
        free(value.data);
        return kv_fail(err, KV_EINPUT, "%s: /%s@%s: expected UTF-8, found other bytes", file->path, object, name);
    }
    if (value.type == KV_H5_STRING) {
        *out = value.data;
        return KV_OK;
    }
    free(value.data);
    return mistyped(file, object, name, "a string", &value, err);
}

int kv_h5_int(int64_t *out, const struct kv_h5 *file, const char *object, const char *name,
              struct kv_error *err)
{
    struct kv_h5_value value;
    int status = scalar(&value, file, object, name, "an integer", err);
    if (status != KV_OK) return status;
    if (value.type == KV_H5_I64) memcpy(out, value.data, sizeof *out);
    else if (value.type == KV_H5_I32) *out = *(int32_t *)value.data;
    else if (value.type == KV_H5_U16) *out = *(uint16_t *)value.data;
    else status = mistyped(file, object, name, "an integer", &value, err);
    free(value.data);
    return status;
}

int kv_h5_real(double *out, const struct kv_h5 *file, const char *object, const char *name,
               struct kv_error *err)
{
    struct kv_h5_value value;
    int status = scalar(&value, file, object, name, "a floating-point number", err);
    if (status != KV_OK) return status;
    if (value.type == KV_H5_F64) memcpy(out, value.data, sizeof *out);
    else if (value.type == KV_H5_F32) *out = (double)*(float *)value.data;
    else status = mistyped(file, object, name, "a floating-point number", &value, err);
    free(value.data);
    return status;
}
