/* See copy.h. */
#include "traces/copy.h"

#include <stdlib.h>
#include <string.h>

int kv_copy_attribute(const struct kv_copy *copy, const char *object, const char *name)
{
    struct kv_h5_value value;
    if (!kv_h5_has_attribute(copy->from, object, name)) return KV_OK;
    const int status = kv_h5_value(&value, copy->from, object, name, copy->err);
    if (status != KV_OK) return status;
    kv_trace_writer_value(copy->writer, object, name, &value);
    free(value.data);
    return KV_OK;
}

static uint64_t source_index(const struct kv_cut *cut, uint64_t i)
{
    return cut->index ? cut->index[i] : i;
}

/* Moves the chosen elements of words [from[0]][from[1]][from[2]] to the front, in order: an element
 * never moves back, since the indices of a cut ascend. */
static void compact(char *words, const uint64_t from[3], const struct kv_cut cuts[3],
                    const uint64_t to[3], size_t element)
{
    char *out = words;
    for (uint64_t i = 0; i < to[0]; i++) {
        for (uint64_t j = 0; j < to[1]; j++) {
            const char *row =
                words + (source_index(&cuts[0], i) * from[1] + source_index(&cuts[1], j)) *
                            from[2] * element;
            for (uint64_t k = 0; k < (cuts[2].index ? to[2] : 1); k++) {
                const size_t run = cuts[2].index ? element : to[2] * element;
                memmove(out, row + source_index(&cuts[2], k) * element, run);
                out += run;
            }
        }
    }
}

static int read_whole(void **out, const struct kv_copy *copy, const char *object,
                      struct kv_h5_data *data)
{
    *out = malloc(data->bytes + 1);
    if (!*out) return kv_fail(copy->err, KV_EMEMORY, "%s: out of memory", kv_h5_path(copy->from));
    if (data->type != KV_H5_INTEGER)
        return kv_h5_read(*out, copy->from, object, data, 0, data->rank ? data->dims[0] : 1,
                          copy->err);
    /* Of another width: written as i32, which is what the hash takes it for. */
    free(*out);
    *out = malloc((data->bytes / data->element_bytes + 1) * sizeof(int32_t));
    if (!*out) return kv_fail(copy->err, KV_EMEMORY, "%s: out of memory", kv_h5_path(copy->from));
    const int status = kv_h5_read_i32(*out, copy->from, object, data, copy->err);
    data->type = KV_H5_I32;
    data->element_bytes = sizeof(int32_t);
    return status;
}

int kv_copy_dataset(const struct kv_copy *copy, const char *object, const struct kv_cut *cuts)
{
    struct kv_h5_data data;
    void *words = NULL;
    if (!kv_h5_exists(copy->from, object)) return KV_OK;
    int status = kv_h5_describe(&data, copy->from, object, copy->err);
    if (status == KV_OK) status = read_whole(&words, copy, object, &data);
    if (status == KV_OK) {
        uint64_t from[3] = {1, 1, 1}, to[3] = {1, 1, 1};
        struct kv_cut all[3] = {{0}};
        for (uint32_t i = 0; i < data.rank; i++) {
            if (cuts) all[i] = cuts[i];
            from[i] = data.dims[i];
            to[i] = all[i].index ? all[i].n : from[i];
        }
        compact(words, from, all, to, data.element_bytes);
        if (*data.filters)
            kv_trace_writer_deflated(copy->writer, object, data.type, data.rank, to, words);
        else kv_trace_writer_data(copy->writer, object, data.type, data.rank, to, words);
    }
    free(words);
    return status;
}
