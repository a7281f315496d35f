/* Checks that several parts of the reader make; see trace_private.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "traces/trace_private.h"

enum kv_dtype kv_dtype_of(enum kv_h5_type type)
{
    return type == KV_H5_F32 ? KV_F32 : type == KV_H5_BF16 ? KV_BF16 : KV_F16;
}

static bool matches(const struct kv_h5_data *data, const struct kv_expected *expected)
{
    if (!(expected->types >> data->type & 1) || data->rank != expected->rank) return false;
    for (uint32_t i = 0; i < data->rank; i++) {
        const bool may_be_empty = expected->names[i] && strcmp(expected->names[i], "n") == 0;
        if (expected->dims[i] ? data->dims[i] != expected->dims[i]
                              : data->dims[i] < !may_be_empty || data->dims[i] > INT32_MAX)
            return false;
    }
    return true;
}

/* "[kv_heads, 1024, d_k] f16|f32|bf16" */
static void print_expected(char *text, size_t capacity, const struct kv_expected *expected)
{
    size_t used = (size_t)snprintf(text, capacity, "[");
    for (uint32_t i = 0; i < expected->rank; i++) {
        used += (size_t)snprintf(text + used, capacity - used, i ? ", " : "");
        if (expected->dims[i])
            used += (size_t)snprintf(text + used, capacity - used, "%" PRIu64, expected->dims[i]);
        else used += (size_t)snprintf(text + used, capacity - used, "%s", expected->names[i]);
    }
    used += (size_t)snprintf(text + used, capacity - used, "] ");
    if (expected->types == KV_TYPES_INTEGER) {
        snprintf(text + used, capacity - used, "i32");
        return;
    }
    const char *separator = "";
    for (int type = 0; type < KV_H5_STRING; type++) {
        if (!(expected->types >> type & 1)) continue;
        used += (size_t)snprintf(text + used, capacity - used, "%s%s", separator,
                                 kv_h5_type_name((enum kv_h5_type)type));
        separator = "|";
    }
}

int kv_expect(struct kv_h5_data *out, const struct kv_h5 *file, const char *object,
              const struct kv_expected *expected, struct kv_error *err)
{
    char wanted[128], found[128];
    print_expected(wanted, sizeof wanted, expected);
    if (!kv_h5_exists(file, object))
        return kv_fail(err, KV_EINPUT, "%s: /%s: expected %s, found nothing", kv_h5_path(file),
                       object, wanted);
    const int status = kv_h5_describe(out, file, object, err);
    if (status != KV_OK || matches(out, expected)) return status;
    kv_h5_print_shape(found, sizeof found, out);
    return kv_fail(err, KV_EINPUT, "%s: /%s: expected %s, found %s", kv_h5_path(file), object,
                   wanted, found);
}

int kv_expect_int(int64_t *out, const struct kv_h5 *file, const char *object, const char *name,
                  int64_t low, int64_t high, struct kv_error *err)
{
    const int status = kv_h5_int(out, file, object, name, err);
    if (status != KV_OK || (*out >= low && *out <= high)) return status;
    return kv_fail(err, KV_EINPUT, "%s: /%s@%s: expected %" PRId64 "..%" PRId64 ", found %" PRId64,
                   kv_h5_path(file), object, name, low, high, *out);
}

int kv_expect_real(double *out, const struct kv_h5 *file, const char *object, const char *name,
                   bool positive, struct kv_error *err)
{
    const int status = kv_h5_real(out, file, object, name, err);
    if (status != KV_OK || (isfinite(*out) && (positive ? *out > 0 : *out >= 0))) return status;
    return kv_fail(err, KV_EINPUT, "%s: /%s@%s: expected a finite number %s 0, found %g",
                   kv_h5_path(file), object, name, positive ? "above" : "of at least", *out);
}

static int check_ranges(uint32_t (*out)[2], const int32_t *pairs, uint32_t n,
                        const struct kv_h5 *file, const char *object, uint32_t low, uint32_t high,
                        struct kv_error *err)
{
    for (uint32_t i = 0; i < n; i++) {
        const int64_t first = pairs[2 * i], end = pairs[2 * i + 1];
        if (first < low || first >= end || end > high)
            return kv_fail(err, KV_EINPUT,
                           "%s: /%s: expected a range within %u..%u, found [%" PRId64 ", %" PRId64
                           ") at %u",
                           kv_h5_path(file), object, low, high, first, end, i);
        out[i][0] = (uint32_t)first;
        out[i][1] = (uint32_t)end;
    }
    return KV_OK;
}

int kv_read_ranges(uint32_t (**out)[2], uint32_t *n, const struct kv_h5 *file, const char *object,
                   uint32_t low, uint32_t high, struct kv_error *err)
{
    struct kv_h5_data data;
    const struct kv_expected expected = {KV_TYPES_INTEGER, 2, {0, 2}, {"n", "2"}};
    int status = kv_expect(&data, file, object, &expected, err);
    if (status != KV_OK) return status;
    *n = (uint32_t)data.dims[0];
    *out = calloc(data.dims[0] + 1, sizeof **out);
    int32_t *pairs = calloc(data.dims[0] + 1, 2 * sizeof *pairs);
    if (!*out || !pairs) status = kv_fail(err, KV_EMEMORY, "%s: out of memory", kv_h5_path(file));
    if (status == KV_OK) status = kv_h5_read_i32(pairs, file, object, &data, err);
    if (status == KV_OK) status = check_ranges(*out, pairs, *n, file, object, low, high, err);
    free(pairs);
    return status;
}
