/* Words of chunks, from where they lie in the file; see h5_private.h. */
#include <string.h>

#include "traces/h5_private.h"

/* Of each chunk's dimensions from the first on that is longer than 1, all but that one are the dataset's own:
 * its words are one run of the dataset's. */
static bool are_runs(const hsize_t *chunk, const struct kv_h5_data *data)
{
    uint32_t i = 0;
    while (i < data->rank && chunk[i] == 1) i++;
    for (i++; i < data->rank; i++)
        if (chunk[i] != data->dims[i]) return false;
    return true;
}

void kv_h5_find_runs(struct kv_h5_data *data, const struct kv_h5 *file, hid_t dataset_list)
{
    hsize_t chunk[H5S_MAX_RANK] = {0}, front = 0;
    const hid_t list = H5Fget_create_plist(file->id);
    const bool at_front = list >= 0 && H5Pget_userblock(list, &front) >= 0 && !front;
    if (list >= 0) H5Pclose(list);
    if (!at_front || H5Pget_nfilters(dataset_list) || H5Pget_chunk(dataset_list, H5S_MAX_RANK, chunk) != (int)data->rank)
        return;
    for (uint32_t i = 0; i < data->rank && are_runs(chunk, data); i++) data->run[i] = chunk[i];
}

/* Rows first .. end - 1 of the first dimension, and the chunk of them that is read. */
struct rows {
    const struct kv_h5 *file;
    const char *object;
    const struct kv_h5_data *data;
    hid_t dataset;
    uint64_t first, end;
    hsize_t at[KV_H5_RANK];
};

/* The dimension along which the runs go on. */
static uint32_t run_axis(const struct kv_h5_data *data)
{
    uint32_t i = 0;
    while (i + 1 < data->rank && data->run[i] == 1) i++;
    return i;
}

/* Words of the chunk's run that are wanted, into their place in out; 1: the file does not hold the chunk. */
static int read_run(const struct rows *rows, void *out, struct kv_error *err)
{
    const struct kv_h5_data *data = rows->data;
    const uint32_t axis = run_axis(data);
    const uint64_t low = axis ? 0 : rows->first, high = axis ? data->dims[axis] : rows->end;
    const uint64_t at = rows->at[axis], last = at + data->run[axis];
    const uint64_t begin = at > low ? at : low, end = last < high ? last : high;
    unsigned mask;
    haddr_t address;
    hsize_t size;
    if (H5Dget_chunk_info_by_coord(rows->dataset, rows->at, &mask, &address, &size) < 0 || address == HADDR_UNDEF)
        return 1;
    uint64_t place = 0, step = data->element_bytes;
    for (uint32_t i = 0; i < data->rank; i++)
        place = place * data->dims[i] + (i == axis ? begin : rows->at[i]) - (i ? 0 : rows->first);
    for (uint32_t i = axis + 1; i < data->rank; i++) step *= data->dims[i];
    return kv_h5_read_at((char *)out + place * data->element_bytes, rows->file, rows->object, (end - begin) * step,
                         address + (begin - at) * step, err);
}

/* The chunk after this one, the last dimension first; false: it was the last of these rows. */
static bool next_chunk(struct rows *rows)
{
    for (uint32_t i = rows->data->rank; i-- > 0;) {
        rows->at[i] += rows->data->run[i];
        if (rows->at[i] < (i ? rows->data->dims[i] : rows->end)) return true;
        rows->at[i] = 0;
    }
    return false;
}

int kv_h5_read_runs(void *out, const struct kv_h5 *file, const char *object, const struct kv_h5_data *data,
                    uint64_t first, uint64_t n, struct kv_error *err)
{
    struct rows rows = {.file = file, .object = object, .data = data, .first = first, .end = first + n,
                        .at = {first / data->run[0] * data->run[0]},
                        .dataset = H5Dopen2(file->id, object, H5P_DEFAULT)};
    if (rows.dataset < 0) return kv_h5_damaged(file, object, "a dataset", err);
    int status;
    do status = read_run(&rows, out, err);
    while (status == KV_OK && next_chunk(&rows));
    H5Dclose(rows.dataset);
    return status;
}
