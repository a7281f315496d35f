/* One row of rows.csv in memory, and the column list that every writer and reader shares: all of
 * it is expanded from harness/output/columns.h. Empty is NULL (text), -1 (count), NaN (real). */
#ifndef KVBENCH_HARNESS_ROW_H
#define KVBENCH_HARNESS_ROW_H

#include <stddef.h>

#include "harness/base/status.h"
#include "harness/run/journal/results.h"

enum kv_column_kind { KV_COLUMN_TEXT, KV_COLUMN_COUNT, KV_COLUMN_REAL };

struct kv_column {
    const char *name, *unit, *meaning;
    enum kv_column_kind kind;
    size_t offset;                      /* of the field in struct kv_row */
};

enum {
#define KV_COLUMN(kind, name, unit, meaning) KV_INDEX_##name,
#include "harness/output/columns.h"
#undef KV_COLUMN
    KV_N_COLUMNS
};

extern const struct kv_column kv_columns[KV_N_COLUMNS];

/* The column of that name, or NULL. */
const struct kv_column *kv_column_find(const char *name);

/* All fields empty. A row must be initialised before anything is set, and freed at the end. */
void kv_row_init(struct kv_row *row);
void kv_row_free(struct kv_row *row);    /* leaves an empty row */

/* Replaces a text (a field of a row, or any owned string). KV_OK, or KV_EMEMORY with the old
 * text kept. */
int kv_text_set(char **field, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The value as rows.csv prints it, before quoting: "" when empty, reals as %.9g. Points to the
 * row's own text or to scratch. */
const char *kv_row_text(const struct kv_row *row, const struct kv_column *column, char scratch[40]);

/* The reverse. KV_OK, KV_EMEMORY, or KV_EINPUT when the text is no number of the column's kind. */
int kv_row_parse(struct kv_row *row, const struct kv_column *column, const char *text);

/* Cells and results are zeroed memory plus their rows; these free what they own. */
void kv_cell_init(struct kv_cell *cell);
void kv_cell_free(struct kv_cell *cell);
void kv_results_free(struct kv_results *results);   /* traces, cells, specs, command, options */

#endif
