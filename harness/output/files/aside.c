/* Files that are never half there; see aside.h. */
#include "harness/output/files/aside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/output/row.h"

static int cannot_write(struct kv_error *err, const char *path, int cause)
{
    return kv_fail(err, KV_EENVIRONMENT, "%s: expected to write it, found: %s", path,
                   strerror(cause ? cause : EIO));
}

/* Closes file in any case. The first cause wins: a later call may overwrite errno. */
static int finish_file(FILE *file, int status)
{
    errno = 0;
    int cause = 0;
    if (fflush(file) != 0 || ferror(file)) cause = errno ? errno : EIO;
    if (fclose(file) != 0 && !cause) cause = errno;
    return status != KV_OK ? ENOMEM : cause;
}

int kv_write_aside(const char *dir, const char *name, int (*write)(FILE *, const void *),
                   const void *what, struct kv_error *err)
{
    char *path = NULL, *aside = NULL;
    int status = kv_text_set(&path, "%s/%s", dir, name);
    if (status == KV_OK) status = kv_text_set(&aside, "%s/.%s.%ld", dir, name, (long)getpid());
    if (status != KV_OK) goto out;

    FILE *file = fopen(aside, "w");
    int cause = file ? finish_file(file, write(file, what)) : errno;
    if (!cause && rename(aside, path) != 0) cause = errno;
    if (cause) {
        status = cannot_write(err, path, cause);
        if (file) unlink(aside);
    }
out:
    free(path);
    free(aside);
    return status;
}

bool kv_same_file(const char *a, const char *b)
{
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev
        && first.st_ino == second.st_ino;
}
