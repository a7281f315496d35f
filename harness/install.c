/* The program's own files; see install.h. */
#include "harness/install.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "version.h"

/* The folder that holds the running binary, 0 when the system does not say. */
static int binary_folder(char *folder, size_t capacity)
{
    const ssize_t length = readlink("/proc/self/exe", folder, capacity - 1);
    if (length <= 0) return 0;
    folder[length] = 0;
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0;
    return slash != NULL;
}

char *kv_install_path(const char *relative)
{
    char folder[4000], *path = NULL;
    if (binary_folder(folder, sizeof folder)) {
        if (asprintf(&path, "%s/../../%s", folder, relative) < 0) return NULL;
        if (access(path, R_OK) == 0) {
            char *real = realpath(path, NULL);
            if (real) free(path), path = real;
            return path;
        }
        free(path);
    }
    return asprintf(&path, "%s/%s", KV_SOURCE, relative) < 0 ? NULL : path;
}
