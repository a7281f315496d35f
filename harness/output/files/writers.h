/* Everything that prints results, behind one table: --format picks an entry, the result directory
 * writes several. A writer is a pure function of its results and leaves write errors to ferror. */
#ifndef KVBENCH_HARNESS_WRITERS_H
#define KVBENCH_HARNESS_WRITERS_H

#include <stdio.h>

#include "harness/base/status.h"
#include "harness/run/journal/results.h"

/* Writes the results as table, markdown, csv or json. KV_EUSAGE for another format, KV_EENVIRONMENT
 * when the file took less than everything (it is flushed here), KV_EMEMORY. */
int kv_write_rows(FILE *file, const struct kv_results *results, const char *format,
                  struct kv_error *err);

/* KV_OK when format is one that kv_write_rows takes, else KV_EUSAGE naming the four. */
int kv_check_format(const char *format, struct kv_error *err);

/* The single writers: KV_OK or KV_EMEMORY. */
int kv_write_csv(FILE *file, const struct kv_results *results);
int kv_write_json(FILE *file, const struct kv_results *results);
int kv_write_markdown(FILE *file, const struct kv_results *results);
int kv_write_manifest(FILE *file, const struct kv_results *results);
int kv_write_timings(FILE *file, const struct kv_results *results);

/* One CSV field, quoted where RFC 4180 wants it. */
void kv_csv_field(FILE *file, const char *text);

#endif
