/* Reading CSV; see csv.h. The file is unquoted where it lies: a field never grows. */
#include "harness/output/files/csv.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_whole(char **out, size_t *length, const char *path, struct kv_error *err)
{
    char *text = NULL;
    long size = 0;
    int status = KV_OK;
    FILE *file = fopen(path, "rb");
    if (!file)
        return kv_fail(err, KV_EINPUT, "%s: expected a readable CSV file, found: %s", path,
                       strerror(errno));
    if (fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) != 0)
        status = kv_fail(err, KV_EINPUT, "%s: expected a regular file, found: %s", path,
                         strerror(errno));
    if (status == KV_OK && !(text = malloc((size_t)size + 1)))
        status = kv_fail(err, KV_EMEMORY, "%s: no memory for %ld bytes", path, size);
    if (status == KV_OK && fread(text, 1, (size_t)size, file) != (size_t)size)
        status = kv_fail(err, KV_EINPUT, "%s: expected %ld bytes, found fewer", path, size);
    fclose(file);
    if (status != KV_OK) {
        free(text);
        return status;
    }
    text[size] = '\0';
    *out = text, *length = (size_t)size;
    return KV_OK;
}

struct reader {
    struct kv_csv *csv;
    char *at;                 /* next character; the text ends in NUL */
    uint32_t line, n_cells, room, row_room;
};

static int add_cell(struct reader *reader, char *cell, struct kv_error *err)
{
    if (reader->n_cells == reader->room) {
        reader->room = reader->room ? 2 * reader->room : 256;
        char **cells = realloc(reader->csv->cells, reader->room * sizeof *cells);
        if (!cells) return kv_fail(err, KV_EMEMORY, "%s: no memory", reader->csv->path);
        reader->csv->cells = cells;
    }
    reader->csv->cells[reader->n_cells++] = cell;
    return KV_OK;
}

/* Moves over a quoted field, which begins behind its quote, and ends it with NUL. */
static int take_quoted(struct reader *reader, char **end, struct kv_error *err)
{
    const uint32_t first_line = reader->line;
    char *from = reader->at, *to = from;
    for (; *from != '"' || from[1] == '"'; *to++ = *from++) {
        if (*from == '\0')
            return kv_fail(err, KV_EINPUT, "%s: line %u: expected a closing quote, found the end",
                           reader->csv->path, first_line);
        if (*from == '"') from++;
        if (*from == '\n') reader->line++;
    }
    reader->at = from + 1;
    *end = to;
    return KV_OK;
}

/* One field and what follows it; *more tells whether the row goes on. */
static int take_field(struct reader *reader, bool *more, struct kv_error *err)
{
    const bool quoted = *reader->at == '"';
    char *cell = quoted ? ++reader->at : reader->at, *end = cell;
    if (quoted) {
        const int status = take_quoted(reader, &end, err);
        if (status != KV_OK) return status;
    } else {
        reader->at += strcspn(reader->at, ",\r\n");
        end = reader->at;
    }
    if (reader->at[0] == '\r' && reader->at[1] == '\n') reader->at++;
    const char separator = *reader->at;
    if (separator != ',' && separator != '\n' && separator != '\0')
        return kv_fail(err, KV_EINPUT, "%s: line %u: expected a comma after a field, found '%c'",
                       reader->csv->path, reader->line, separator);
    if (separator != '\0') reader->at++;
    if (separator == '\n') reader->line++;
    *end = '\0';
    *more = separator == ',';
    return add_cell(reader, cell, err);
}

static int note_line(struct reader *reader, struct kv_error *err)
{
    struct kv_csv *csv = reader->csv;
    if (csv->n_rows == reader->row_room) {
        reader->row_room = reader->row_room ? 2 * reader->row_room : 64;
        uint32_t *lines = realloc(csv->lines, reader->row_room * sizeof *lines);
        if (!lines) return kv_fail(err, KV_EMEMORY, "%s: no memory", csv->path);
        csv->lines = lines;
    }
    csv->lines[csv->n_rows++] = reader->line;
    return KV_OK;
}

static int take_row(struct reader *reader, struct kv_error *err)
{
    struct kv_csv *csv = reader->csv;
    const uint32_t line = reader->line, first = reader->n_cells;
    bool more = true;
    int status = note_line(reader, err);
    while (status == KV_OK && more) status = take_field(reader, &more, err);
    if (status != KV_OK) return status;
    const uint32_t found = reader->n_cells - first;
    if (csv->n_columns == 0) csv->n_columns = found;
    if (found != csv->n_columns)
        return kv_fail(err, KV_EINPUT, "%s: line %u: expected %u fields, found %u", csv->path, line,
                       csv->n_columns, found);
    return KV_OK;
}

static int parse(struct kv_csv *csv, size_t length, struct kv_error *err)
{
    struct reader reader = {.csv = csv, .at = csv->memory, .line = 1};
    int status = KV_OK;
    if (memchr(csv->memory, '\0', length))
        return kv_fail(err, KV_EINPUT, "%s: expected text, found a zero byte", csv->path);
    if (strncmp(reader.at, "\xef\xbb\xbf", 3) == 0) reader.at += 3;   /* a byte-order mark */
    while (status == KV_OK && *reader.at) status = take_row(&reader, err);
    if (status == KV_OK && csv->n_rows == 0)
        status = kv_fail(err, KV_EINPUT, "%s: expected a header line, found an empty file",
                         csv->path);
    if (status == KV_OK) csv->n_rows--;                               /* the header is no row */
    return status;
}

int kv_csv_read(struct kv_csv **out, const char *path, struct kv_error *err)
{
    size_t length = 0;
    int status = KV_OK;
    *out = NULL;
    struct kv_csv *csv = calloc(1, sizeof *csv);
    if (!csv || !(csv->path = strdup(path)))
        status = kv_fail(err, KV_EMEMORY, "%s: no memory", path);
    if (status == KV_OK) status = read_whole(&csv->memory, &length, path, err);
    if (status == KV_OK) status = parse(csv, length, err);
    if (status == KV_OK) *out = csv;
    else kv_csv_free(csv);
    return status;
}

void kv_csv_free(struct kv_csv *csv)
{
    if (!csv) return;
    free(csv->path);
    free(csv->cells);
    free(csv->lines);
    free(csv->memory);
    free(csv);
}

int kv_csv_column(const struct kv_csv *csv, const char *name, uint32_t *column,
                  struct kv_error *err)
{
    for (*column = 0; *column < csv->n_columns; ++*column)
        if (strcmp(csv->cells[*column], name) == 0) return KV_OK;
    return kv_fail(err, KV_EINPUT, "%s: expected a column %s, found %u others, the first %s",
                   csv->path, name, csv->n_columns, csv->cells[0]);
}
