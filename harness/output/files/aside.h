/* A file is written aside, checked and renamed, so that none is ever half there. */
#ifndef KVBENCH_HARNESS_ASIDE_H
#define KVBENCH_HARNESS_ASIDE_H

#include <stdbool.h>
#include <stdio.h>

#include "harness/base/status.h"

/* Writes DIR/NAME through write(file, what): aside, checked, renamed. A full disk or a
 * read-only folder is KV_EENVIRONMENT, naming file and cause. */
int kv_write_aside(const char *dir, const char *name, int (*write)(FILE *, const void *),
                   const void *what, struct kv_error *err);

/* Whether both names are of one file that is there: what reads one must not write the other. */
bool kv_same_file(const char *a, const char *b);

#endif
