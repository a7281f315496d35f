/* Rows: fields by name, text in and out. */
#include "harness/output/row.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kv_column kv_columns[KV_N_COLUMNS] = {
#define KV_COLUMN(kind, name, unit, meaning) \
    {#name, unit, meaning, KV_COLUMN_##kind, offsetof(struct kv_row, name)},
#include "harness/output/columns.h"
#undef KV_COLUMN
};

static void *field_of(struct kv_row *row, const struct kv_column *column)
{
    return (char *)row + column->offset;
}

static const void *const_field_of(const struct kv_row *row, const struct kv_column *column)
{
    return (const char *)row + column->offset;
}

const struct kv_column *kv_column_find(const char *name)
{
    for (size_t i = 0; i < KV_N_COLUMNS; i++) {
        if (strcmp(kv_columns[i].name, name) == 0) return &kv_columns[i];
    }
    return NULL;
}

void kv_row_init(struct kv_row *row)
{
    for (size_t i = 0; i < KV_N_COLUMNS; i++) {
        void *field = field_of(row, &kv_columns[i]);
        if (kv_columns[i].kind == KV_COLUMN_TEXT) *(char **)field = NULL;
        else if (kv_columns[i].kind == KV_COLUMN_COUNT) *(int64_t *)field = -1;
        else *(double *)field = NAN;
    }
}

void kv_row_free(struct kv_row *row)
{
    for (size_t i = 0; i < KV_N_COLUMNS; i++) {
        if (kv_columns[i].kind == KV_COLUMN_TEXT) free(*(char **)field_of(row, &kv_columns[i]));
    }
    kv_row_init(row);
}

int kv_text_set(char **field, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0) return KV_EMEMORY;
    free(*field);
    *field = text;
    return KV_OK;
}

const char *kv_row_text(const struct kv_row *row, const struct kv_column *column, char scratch[40])
{
    const void *field = const_field_of(row, column);
    if (column->kind == KV_COLUMN_TEXT) {
        return *(char *const *)field ? *(char *const *)field : "";
    }
    scratch[0] = '\0';
    if (column->kind == KV_COLUMN_COUNT) {
        const int64_t count = *(const int64_t *)field;
        if (count != -1) snprintf(scratch, 40, "%" PRId64, count);
    } else {
        const double value = *(const double *)field;
        if (!isnan(value)) snprintf(scratch, 40, "%.9g", value);
    }
    return scratch;
}

int kv_row_parse(struct kv_row *row, const struct kv_column *column, const char *text)
{
    void *field = field_of(row, column);
    if (column->kind == KV_COLUMN_TEXT) {
        if (text[0]) return kv_text_set(field, "%s", text);
        free(*(char **)field);
        *(char **)field = NULL;
        return KV_OK;
    }
    char *end = NULL;
    errno = 0;
    if (column->kind == KV_COLUMN_COUNT) {
        const int64_t count = text[0] ? strtoll(text, &end, 10) : -1;
        if (text[0] && (*end || errno)) return KV_EINPUT;
        *(int64_t *)field = count;
    } else {
        const double value = text[0] ? strtod(text, &end) : NAN;
        if (text[0] && (*end || end == text)) return KV_EINPUT;
        *(double *)field = value;
    }
    return KV_OK;
}

void kv_cell_init(struct kv_cell *cell)
{
    memset(cell, 0, sizeof *cell);
    kv_row_init(&cell->row);
    for (size_t b = 0; b < KV_DEPTH_BINS; b++) cell->bin_error[b] = NAN;
}

void kv_cell_free(struct kv_cell *cell)
{
    for (uint32_t l = 0; cell->layers && l < cell->n_layers; l++) kv_row_free(&cell->layers[l]);
    free(cell->layers);
    free(cell->head_error);
    kv_row_free(&cell->row);
    kv_cell_init(cell);
}

static void free_trace_summary(struct kv_trace_summary *trace)
{
    free(trace->name);
    free(trace->path);
    free(trace->hash);
    free(trace->model);
    free(trace->text);
}

void kv_results_free(struct kv_results *results)
{
    for (uint32_t t = 0; t < results->n_traces; t++) free_trace_summary(&results->traces[t]);
    for (uint32_t c = 0; c < results->n_cells; c++) kv_cell_free(&results->cells[c]);
    for (uint32_t s = 0; s < results->n_specs; s++) free(results->specs[s]);
    free(results->traces);
    free(results->cells);
    free(results->specs);
    free(results->command);
    free(results->options);
    memset(results, 0, sizeof *results);
}
