/* One self-contained HTML page from result directories. */
#ifndef KVBENCH_HARNESS_REPORT_H
#define KVBENCH_HARNESS_REPORT_H

#include "harness/base/status.h"

/* Writes OUT/NAME from the manifest.json, rows.csv and plots of n result directories: tables
 * that sort on a click, figures inline, nothing loaded from elsewhere. KV_OK, KV_EINPUT (a
 * directory is none), KV_EENVIRONMENT, KV_EMEMORY. */
int kv_report_write(const char *out, char *const *dirs, int n, const char *name,
                    struct kv_error *err);

#endif
