/* Rows of `memory` and their four forms; see memory_rows.h. */
#include "harness/memory/memory_rows.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/files/json.h"
#include "harness/output/files/writers.h"

static const char *const part_names[] = {"chain", "method", "serving"};

static const char *const columns[KV_MEMORY_COLUMNS] = {"context",
                                                          "batch",
                                                          "bytes",
                                                          "least_bytes",
                                                          "payload_bytes",
                                                          "metadata_bytes",
                                                          "residual_bytes",
                                                          "basis_bytes",
                                                          "state_bytes",
                                                          "index_bytes",
                                                          "parameters",
                                                          "weights_bytes",
                                                          "break_even_tokens",
                                                          "fit_context",
                                                          "fit_batch",
                                                          "block",
                                                          "allocated_bytes",
                                                          "waste_bytes",
                                                          "device_bytes",
                                                          "ring_device_bytes",
                                                          "users_bytes",
                                                          "users_shared_bytes",
                                                          "offloaded_bytes"};

struct kv_memory_row *kv_memory_add(struct kv_memory_rows *rows, const char *model,
                                    enum kv_memory_part part)
{
    struct kv_memory_row *more = realloc(rows->row, (rows->n + 1) * sizeof *more);
    if (!more) return NULL;
    rows->row = more;
    struct kv_memory_row *row = &rows->row[rows->n++];
    *row = (struct kv_memory_row){.part = part,
                                  .status = "ok",
                                  .bytes_per_token = NAN,
                                  .bits_per_element = NAN,
                                  .compression_ratio = NAN,
                                  .of_weights = NAN};
    snprintf(row->model, sizeof row->model, "%s", model);
    for (int c = 0; c < KV_MEMORY_COLUMNS; c++) row->value[c] = KV_MEMORY_NOTHING;
    return row;
}

void kv_memory_rows_free(struct kv_memory_rows *rows)
{
    free(rows->row);
    free(rows->model);
    *rows = (struct kv_memory_rows){0};
}

const char *kv_memory_human(int64_t bytes, char *text)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    int unit = 0;
    while (value >= 1024 && unit < 5) value /= 1024, unit++;
    if (unit == 0)
        snprintf(text, 16, "%" PRId64 " B", bytes);
    else
        snprintf(text, 16,
                 value < 10    ? "%.2f %s"
                 : value < 100 ? "%.1f %s"
                               : "%.0f %s",
                 value, units[unit]);
    return text;
}

/* -- CSV and JSON: one row a row -------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t offset;
} reals[] = {{"bytes_per_token", offsetof(struct kv_memory_row, bytes_per_token)},
             {"bits_per_element", offsetof(struct kv_memory_row, bits_per_element)},
             {"compression_ratio", offsetof(struct kv_memory_row, compression_ratio)},
             {"of_weights", offsetof(struct kv_memory_row, of_weights)}};

enum { N_REALS = sizeof reals / sizeof *reals };

static double real_of(const struct kv_memory_row *row, int i)
{
    double value;
    memcpy(&value, (const char *)row + reals[i].offset, sizeof value);
    return value;
}

static void write_csv(FILE *file, const struct kv_memory_rows *rows)
{
    fputs("model,part,item,status", file);
    for (int c = 0; c < KV_MEMORY_COLUMNS; c++) fprintf(file, ",%s", columns[c]);
    for (int i = 0; i < N_REALS; i++) fprintf(file, ",%s", reals[i].name);
    fputs(",note\n", file);
    for (uint32_t r = 0; r < rows->n; r++) {
        const struct kv_memory_row *row = &rows->row[r];
        kv_csv_field(file, row->model);
        fprintf(file, ",%s,", part_names[row->part]);
        kv_csv_field(file, row->item);
        fprintf(file, ",%s", row->status);
        for (int c = 0; c < KV_MEMORY_COLUMNS; c++)
            if (row->value[c] == KV_MEMORY_NOTHING)
                fputc(',', file);
            else
                fprintf(file, ",%" PRId64, row->value[c]);
        for (int i = 0; i < N_REALS; i++)
            if (isnan(real_of(row, i)))
                fputc(',', file);
            else
                fprintf(file, ",%.9g", real_of(row, i));
        fputc(',', file);
        kv_csv_field(file, row->note);
        fputc('\n', file);
    }
}

static bool add_text(cJSON *object, const char *name, const char *text)
{
    return kv_json_add(object, name, cJSON_CreateString(text));
}

static bool add_row(cJSON *array, const struct kv_memory_row *row)
{
    cJSON *object = cJSON_CreateObject();
    bool whole = object && cJSON_AddItemToArray(array, object) &&
                 add_text(object, "model", row->model) &&
                 add_text(object, "part", part_names[row->part]) &&
                 add_text(object, "item", row->item) && add_text(object, "status", row->status);
    for (int c = 0; whole && c < KV_MEMORY_COLUMNS; c++) {
        char digits[32];
        snprintf(digits, sizeof digits, "%" PRId64, row->value[c]);
        whole = kv_json_add(object, columns[c],
                            row->value[c] == KV_MEMORY_NOTHING ? cJSON_CreateNull()
                                                               : cJSON_CreateRaw(digits));
    }
    for (int i = 0; whole && i < N_REALS; i++)
        whole = kv_json_add(object, reals[i].name, kv_real_to_json(real_of(row, i), 9));
    return whole && add_text(object, "note", row->note);
}

static int write_json(FILE *file, const struct kv_memory_rows *rows, struct kv_error *err)
{
    cJSON *array = cJSON_CreateArray();
    bool whole = array != NULL;
    for (uint32_t r = 0; whole && r < rows->n; r++) whole = add_row(array, &rows->row[r]);
    char *text = whole ? cJSON_Print(array) : NULL;
    if (text) fprintf(file, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(array);
    return text ? KV_OK : kv_fail(err, KV_EMEMORY, "memory: out of memory");
}

/* -- tables: a grid of cells, right-justified but for the first column ------------------------ */

enum { MOST_CELLS = 12, CELL = 512, LONGEST_NAME = 95 }; /* CELL: an item of a row, whole */

struct grid {
    FILE *file;
    bool markdown;
    uint32_t n_columns, n_rows;
    const char *head[MOST_CELLS];
    char (*cell)[MOST_CELLS][CELL];
};

/* Columns on a terminal: bytes of UTF-8 that do not continue a letter. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++) width += (*text & 0xc0) != 0x80;
    return width;
}

static void print_cells(const struct grid *grid, const int *width, char (*cell)[CELL], bool head)
{
    for (uint32_t c = 0; c < grid->n_columns; c++) {
        const char *text = head ? grid->head[c] : cell[c];
        const int blanks = width[c] - width_of(text);
        if (grid->markdown)
            fprintf(grid->file, "%s %s ", "|", text);
        else if (c == 0)
            fprintf(grid->file, "  %s%*s", text, blanks, "");
        else
            fprintf(grid->file, "  %*s%s", blanks, "", text);
    }
    fputs(grid->markdown ? "|\n" : "\n", grid->file);
}

/* A spec in full is for markdown, which wraps it. */
static void shorten_names(const struct grid *grid)
{
    for (uint32_t r = 0; !grid->markdown && r < grid->n_rows; r++)
        if (strlen(grid->cell[r][0]) > LONGEST_NAME)
            strcpy(grid->cell[r][0] + LONGEST_NAME - 3, "...");
}

static void print_grid(const struct grid *grid)
{
    int width[MOST_CELLS];
    shorten_names(grid);
    for (uint32_t c = 0; c < grid->n_columns; c++) {
        width[c] = width_of(grid->head[c]);
        for (uint32_t r = 0; r < grid->n_rows; r++)
            if (width_of(grid->cell[r][c]) > width[c]) width[c] = width_of(grid->cell[r][c]);
    }
    print_cells(grid, width, NULL, true);
    for (uint32_t c = 0; grid->markdown && c < grid->n_columns; c++)
        fputs(c ? "|---:" : "|---", grid->file);
    if (grid->markdown) fputs("|\n", grid->file);
    for (uint32_t r = 0; r < grid->n_rows; r++) print_cells(grid, width, grid->cell[r], false);
    fputc('\n', grid->file);
}

static void put_count(char *cell, int64_t value)
{
    if (value == KV_MEMORY_NOTHING)
        snprintf(cell, CELL, "-");
    else
        snprintf(cell, CELL, "%" PRId64, value);
}

static void put_human(char *cell, int64_t value)
{
    char text[16];
    snprintf(cell, CELL, "%s", value == KV_MEMORY_NOTHING ? "-" : kv_memory_human(value, text));
}

static void put_real(char *cell, const char *format, double value)
{
    if (isnan(value))
        snprintf(cell, CELL, "-");
    else
        snprintf(cell, CELL, format, value);
}

static void fill_chain(char (*cell)[CELL], const struct kv_memory_row *row)
{
    snprintf(cell[0], CELL, "%s", row->item);
    put_count(cell[1], row->value[KV_MC_BYTES]);
    put_human(cell[2], row->value[KV_MC_BYTES]);
    put_real(cell[3], "%.4g", row->compression_ratio);
}

static void fill_method(char (*cell)[CELL], const struct kv_memory_row *row)
{
    snprintf(cell[0], CELL, "%s", row->item);
    put_count(cell[1], row->value[KV_MC_BYTES]);
    put_human(cell[2], row->value[KV_MC_BYTES]);
    put_real(cell[3], "%.8g", row->bytes_per_token);
    put_real(cell[4], "%.2f", row->bits_per_element);
    put_real(cell[5], "%.2f", row->compression_ratio);
    put_real(cell[6], "%.3g", row->of_weights);
    put_count(cell[7], row->value[KV_MC_BREAK_EVEN]);
    put_count(cell[8], row->value[KV_MC_FIT_CONTEXT]);
    put_count(cell[9], row->value[KV_MC_FIT_BATCH]);
    put_human(cell[10], row->value[KV_MC_OFFLOADED]);
}

static void fill_serving(char (*cell)[CELL], const struct kv_memory_row *row)
{
    snprintf(cell[0], CELL, "%s", row->item);
    put_count(cell[1], row->value[KV_MC_BLOCK]);
    put_count(cell[2], row->value[KV_MC_BYTES]);
    put_count(cell[3], row->value[KV_MC_ALLOCATED]);
    put_count(cell[4], row->value[KV_MC_WASTE]);
    put_human(cell[5], row->value[KV_MC_DEVICE]);
    put_human(cell[6], row->value[KV_MC_RING]);
    put_human(cell[7], row->value[KV_MC_USERS]);
    put_human(cell[8], row->value[KV_MC_USERS_SHARED]);
}

static const struct part {
    uint32_t n_columns;
    const char *head[MOST_CELLS];
    void (*fill)(char (*cell)[CELL], const struct kv_memory_row *row);
} parts[] = {{4, {"saved in this order", "bytes", "", "times less"}, fill_chain},
             {11,
              {"method", "bytes", "", "B/token", "bits", "ratio", "of weights", "break-even",
               "fits ctx", "fits batch", "host"},
              fill_method},
             {9,
              {"engine and type", "block", "bytes", "allocated", "waste", "device", "ring", "users",
               "one prefix"},
              fill_serving}};

static bool is_shown(const struct kv_memory_row *row, const char *model, enum kv_memory_part part)
{
    return row->part == part && strcmp(row->model, model) == 0;
}

/* What methods keep on the host is a column only where one does. */
static bool any_offloaded(const struct kv_memory_rows *rows, const char *model)
{
    bool any = false;
    for (uint32_t r = 0; r < rows->n; r++)
        any |= (!model || is_shown(&rows->row[r], model, KV_PART_METHOD)) &&
               rows->row[r].value[KV_MC_OFFLOADED] > 0;
    return any;
}

static int print_part(FILE *file, const struct kv_memory_rows *rows, const char *model,
                      enum kv_memory_part part, bool markdown, struct kv_error *err)
{
    struct grid grid = {.file = file, .markdown = markdown, .n_columns = parts[part].n_columns};
    memcpy(grid.head, parts[part].head, sizeof grid.head);
    if (part == KV_PART_METHOD && !any_offloaded(rows, model)) grid.n_columns--;
    grid.cell = calloc(rows->n + 1, sizeof *grid.cell);
    if (!grid.cell) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    for (uint32_t r = 0; r < rows->n; r++)
        if (is_shown(&rows->row[r], model, part) && strcmp(rows->row[r].status, "ok") == 0)
            parts[part].fill(grid.cell[grid.n_rows++], &rows->row[r]);
    if (grid.n_rows) print_grid(&grid);
    free(grid.cell);
    return KV_OK;
}

static void print_notes(FILE *file, const struct kv_memory_rows *rows, const char *model)
{
    bool any = false;
    for (uint32_t r = 0; r < rows->n; r++) {
        const struct kv_memory_row *row = &rows->row[r];
        if (strcmp(row->model, model) != 0 || !row->note[0] || row->part == KV_PART_SERVING)
            continue;
        fprintf(file, "  - %s: %s%s%s\n", row->item, strcmp(row->status, "ok") ? row->status : "",
                strcmp(row->status, "ok") ? ": " : "", row->note);
        any = true;
    }
    if (any) fputc('\n', file);
}

/* What the heads of columns do not say of themselves. */
static void print_legend(FILE *file, bool markdown, bool offloaded)
{
    if (offloaded)
        fprintf(file,
                "%shost: where=host keeps so much in host memory; no other column counts it, and "
                "--fit does not\n",
                markdown ? "" : "  ");
    fprintf(file,
            "%sbreak-even: tokens at which the cache is as large as the weights; fits ctx, fits "
            "batch: the longest\n"
            "%scontext at this batch, and the largest batch at this context, within --fit; -: not "
            "known or not asked\n",
            markdown ? "" : "  ", markdown ? "" : "  ");
}

static int write_tables(FILE *file, const struct kv_memory_rows *rows, bool markdown,
                        struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t m = 0; m < rows->n_models; m++) {
        const struct kv_memory_model *model = &rows->model[m];
        fprintf(file, markdown ? "## %s\n\n%s\n\nSource: %s\n\n" : "%s: %s\nsource: %s\n\n",
                model->name, model->heading, model->source);
        for (int part = 0; status == KV_OK && part < 3; part++)
            status = print_part(file, rows, model->name, (enum kv_memory_part)part, markdown, err);
        print_notes(file, rows, model->name);
    }
    if (status == KV_OK && rows->n_models) print_legend(file, markdown, any_offloaded(rows, NULL));
    return status;
}

int kv_memory_write(FILE *file, const struct kv_memory_rows *rows, const char *format,
                    struct kv_error *err)
{
    int status = KV_OK;
    if (strcmp(format, "csv") == 0)
        write_csv(file, rows);
    else if (strcmp(format, "json") == 0)
        status = write_json(file, rows, err);
    else
        status = write_tables(file, rows, strcmp(format, "markdown") == 0, err);
    return status;
}
