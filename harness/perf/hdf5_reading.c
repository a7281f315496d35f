/* Reading by the library; see hdf5_reading.h. */
#include "harness/perf/hdf5_reading.h"

#include <hdf5.h>
#include <stdlib.h>

#include "harness/base/large.h"
#include "traces/h5_access.h"

enum { RANK = 3 };

static hid_t open_file(const char *path, unsigned how)
{
    const hid_t list = kv_h5_access_list();
    const hid_t file = H5Fopen(path, how, list);
    H5Pclose(list);
    return file;
}

static void describe(struct kv_hdf5_reading *reading)
{
    const hsize_t origin[RANK] = {0};
    hsize_t dims[RANK] = {0};
    reading->space = H5Dget_space(reading->dataset);
    if (H5Sget_simple_extent_ndims(reading->space) != RANK) return;
    H5Sget_simple_extent_dims(reading->space, dims, NULL);
    dims[0] = 1;
    H5Sselect_hyperslab(reading->space, H5S_SELECT_SET, origin, NULL, dims, NULL);
    reading->memory = H5Screate_simple(RANK, dims, NULL);
    reading->type = H5Tcopy(H5T_NATIVE_FLOAT);
    reading->bytes = (size_t)(dims[1] * dims[2]) * 2;
    reading->buffer = kv_large_alloc(2 * reading->bytes);
}

int kv_hdf5_reading_open(struct kv_hdf5_reading *reading, const char *path, const char *object,
                         struct kv_error *err)
{
    *reading = (struct kv_hdf5_reading){-1, -1, -1, -1, -1, NULL, 0};
    reading->file = open_file(path, H5F_ACC_RDONLY);
    if (reading->file >= 0) reading->dataset = H5Dopen2(reading->file, object, H5P_DEFAULT);
    if (reading->dataset >= 0) describe(reading);
    if (reading->buffer) return KV_OK;
    return kv_fail(err, KV_EENVIRONMENT, "perf io: %.200s: /%s could not be opened", path, object);
}

void kv_hdf5_reading_close(struct kv_hdf5_reading *reading)
{
    free(reading->buffer);
    if (reading->type >= 0) H5Tclose(reading->type);
    if (reading->memory >= 0) H5Sclose(reading->memory);
    if (reading->space >= 0) H5Sclose(reading->space);
    if (reading->dataset >= 0) H5Dclose(reading->dataset);
    if (reading->file >= 0) H5Fclose(reading->file);
}

double kv_hdf5_reading_run(void *context)
{
    const struct kv_hdf5_reading *reading = context;
    H5Dread(reading->dataset, reading->type, reading->memory, reading->space, H5P_DEFAULT,
            reading->buffer);
    return (double)reading->bytes;
}

/* Words of the whole dataset, in the file's type. */
static void *read_words(hid_t dataset, hid_t type, hid_t space)
{
    const hssize_t n = H5Sget_simple_extent_npoints(space);
    void *words = n > 0 ? malloc((size_t)n * H5Tget_size(type)) : NULL;
    if (words && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, words) >= 0) return words;
    free(words);
    return NULL;
}

static int store_chunked(hid_t file, const char *object, hid_t type, hid_t space, const void *words)
{
    hsize_t dims[RANK], chunk[RANK];
    if (H5Sget_simple_extent_dims(space, dims, NULL) != RANK) return 0;
    chunk[0] = 1, chunk[1] = dims[1] < 1024 ? dims[1] : 1024, chunk[2] = dims[2];
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    int done = H5Pset_chunk(list, RANK, chunk) >= 0 && H5Ldelete(file, object, H5P_DEFAULT) >= 0;
    const hid_t dataset =
        done ? H5Dcreate2(file, object, type, space, H5P_DEFAULT, list, H5P_DEFAULT) : -1;
    done = dataset >= 0 && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, words) >= 0;
    if (dataset >= 0) H5Dclose(dataset);
    H5Pclose(list);
    return done;
}

static int chunk_dataset(hid_t file, const char *object)
{
    const hid_t dataset = H5Dopen2(file, object, H5P_DEFAULT);
    if (dataset < 0) return 0;
    const hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    void *words = read_words(dataset, type, space);
    H5Dclose(dataset);
    const int done = words && store_chunked(file, object, type, space, words);
    free(words);
    H5Tclose(type);
    H5Sclose(space);
    return done;
}

int kv_hdf5_chunk_layer(const char *path, struct kv_error *err)
{
    static const char *const objects[] = {"layers/000/q", "layers/000/k", "layers/000/v"};
    const hid_t file = open_file(path, H5F_ACC_RDWR);
    int done = file >= 0;
    for (size_t i = 0; done && i < sizeof objects / sizeof *objects; i++)
        done = chunk_dataset(file, objects[i]);
    if (file >= 0 && H5Fclose(file) < 0) done = 0;
    return done ? KV_OK
                : kv_fail(err, KV_EENVIRONMENT, "perf io: %.200s could not be stored in chunks",
                          path);
}
