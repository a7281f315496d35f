/* The file of `dump`; see dump_file.h. */
#include "harness/output/files/dump_file.h"

#include <errno.h>
#include <hdf5.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "traces/h5_reason.h"

struct kv_dump_file {
    hid_t file;
    char *path, *aside;
};

/* Right after the call that failed: the next one forgets its reason. */
static int failed(const struct kv_dump_file *file, const char *name, struct kv_error *err)
{
    char reason[128];
    kv_h5_reason(reason);
    return kv_fail(err, KV_EENVIRONMENT, "%s: /%s: expected to write it, found: %s", file->path, name, reason);
}

int kv_dump_create(struct kv_dump_file **out, const char *path, struct kv_error *err)
{
    struct kv_dump_file *file = calloc(1, sizeof *file);
    if (!file) return kv_fail(err, KV_EMEMORY, "out of memory");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    file->file = H5I_INVALID_HID;
    file->path = strdup(path);
    errno = 0;
    if (file->path && asprintf(&file->aside, "%s.partial", path) > 0)
        file->file = H5Fcreate(file->aside, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    *out = file;
    if (file->file >= 0) return KV_OK;
    kv_fail(err, KV_EENVIRONMENT, "%s: expected to write it, found: %s", path, strerror(errno ? errno : EIO));
    kv_dump_close(file, 0, NULL);
    *out = NULL;
    return KV_EENVIRONMENT;
}

static int put(struct kv_dump_file *file, const char *name, uint32_t rank, const uint64_t *dims,
               hid_t type, const void *data, struct kv_error *err)
{
    hsize_t size[8];
    for (uint32_t i = 0; i < rank; i++) size[i] = dims[i];
    const hid_t groups = H5Pcreate(H5P_LINK_CREATE), space = H5Screate_simple((int)rank, size, NULL);
    H5Pset_create_intermediate_group(groups, 1);
    const hid_t set = H5Dcreate2(file->file, name, type, space, groups, H5P_DEFAULT, H5P_DEFAULT);
    const bool done = set >= 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    const int status = done ? KV_OK : failed(file, name, err);
    if (set >= 0) H5Dclose(set);
    H5Sclose(space);
    H5Pclose(groups);
    return status;
}

int kv_dump_floats(struct kv_dump_file *file, const char *name, uint32_t rank, const uint64_t *dims,
                   const float *data, struct kv_error *err)
{
    return put(file, name, rank, dims, H5T_NATIVE_FLOAT, data, err);
}

int kv_dump_integers(struct kv_dump_file *file, const char *name, uint64_t n, const int64_t *data,
                     struct kv_error *err)
{
    return put(file, name, 1, &n, H5T_NATIVE_INT64, data, err);
}

static int attribute(struct kv_dump_file *file, const char *name, hid_t type, const void *data,
                     struct kv_error *err)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t made = H5Acreate2(file->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool done = made >= 0 && H5Awrite(made, type, data) >= 0;
    const int status = done ? KV_OK : failed(file, name, err);
    if (made >= 0) H5Aclose(made);
    H5Sclose(space);
    return status;
}

int kv_dump_attribute(struct kv_dump_file *file, const char *name, int64_t value, struct kv_error *err)
{
    return attribute(file, name, H5T_NATIVE_INT64, &value, err);
}

int kv_dump_text(struct kv_dump_file *file, const char *name, const char *value, struct kv_error *err)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(value) + 1);
    const int status = attribute(file, name, type, value, err);
    H5Tclose(type);
    return status;
}

int kv_dump_close(struct kv_dump_file *file, int keep, struct kv_error *err)
{
    if (!file) return KV_OK;
    int status = KV_OK;
    if (file->file >= 0 && H5Fclose(file->file) < 0) keep = 0, status = failed(file, "", err);
    if (keep && rename(file->aside, file->path) != 0)
        keep = 0, status = kv_fail(err, KV_EENVIRONMENT, "%s: expected to write it, found: %s", file->path,
                                   strerror(errno));
    if (!keep && file->aside) unlink(file->aside);
    free(file->path);
    free(file->aside);
    free(file);
    return status;
}
