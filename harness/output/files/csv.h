/* Reading CSV (RFC 4180): a header, then rows of as many fields. Lines may end in LF or CR LF. */
#ifndef KVBENCH_HARNESS_CSV_H
#define KVBENCH_HARNESS_CSV_H

#include <stdint.h>

#include "harness/base/status.h"

struct kv_csv {
    char *path;
    uint32_t n_columns, n_rows;
    char **cells;             /* [n_rows + 1][n_columns]: the header, then the rows; unquoted */
    uint32_t *lines;          /* [n_rows + 1] line of the file where each begins */
    char *memory;             /* what cells point into */
};

/* Reads a whole file. KV_EINPUT names file, line, expected and found; KV_EMEMORY. */
int kv_csv_read(struct kv_csv **out, const char *path, struct kv_error *err);
void kv_csv_free(struct kv_csv *csv);

static inline const char *kv_csv_cell(const struct kv_csv *csv, uint32_t row, uint32_t column)
{
    return csv->cells[((uint64_t)row + 1) * csv->n_columns + column];
}

/* Number of the column with that name; KV_EINPUT naming the file when there is none. */
int kv_csv_column(const struct kv_csv *csv, const char *name, uint32_t *column,
                  struct kv_error *err);

#endif
