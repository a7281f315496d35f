/* rows.csv (cli.md section 4): RFC 4180 with a header and CRLF-free lines, reals as %.9g, empty
 * cells where a measure is not defined. Rows in command-line order, the pooled row before its
 * layers. */
#include "harness/output/files/writers.h"
#include "harness/output/row.h"

#include <string.h>

void kv_csv_field(FILE *file, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static void write_row(FILE *file, const struct kv_row *row)
{
    char scratch[40];
    for (size_t i = 0; i < KV_N_COLUMNS; i++) {
        if (i) fputc(',', file);
        kv_csv_field(file, kv_row_text(row, &kv_columns[i], scratch));
    }
    fputc('\n', file);
}

int kv_write_csv(FILE *file, const struct kv_results *results)
{
    for (size_t i = 0; i < KV_N_COLUMNS; i++) {
        fprintf(file, "%s%c", kv_columns[i].name, i + 1 < KV_N_COLUMNS ? ',' : '\n');
    }
    for (uint32_t c = 0; c < results->n_cells; c++) {
        const struct kv_cell *cell = &results->cells[c];
        write_row(file, &cell->row);
        for (uint32_t l = 0; results->per_layer && cell->layers && l < cell->n_layers; l++) {
            write_row(file, &cell->layers[l]);
        }
    }
    return KV_OK;
}
