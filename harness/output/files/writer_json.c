/* The rows as JSON: the columns' names are the keys, numbers are spelled as in rows.csv, empty
 * is null; an infinite value (ppl_est can be) is the string "inf", since JSON has no such
 * number. */
#include "harness/output/files/json.h"
#include "harness/output/files/writers.h"
#include "harness/output/row.h"

#include <stdlib.h>

static int write_row(FILE *file, const struct kv_row *row, const char *before)
{
    cJSON *object = kv_row_to_json(row, 9);
    char *text = object ? cJSON_PrintUnformatted(object) : NULL;
    cJSON_Delete(object);
    if (!text) return KV_EMEMORY;
    fprintf(file, "%s%s", before, text);
    free(text);
    return KV_OK;
}

static int write_cell(FILE *file, const struct kv_cell *cell, bool layers, bool first)
{
    int status = write_row(file, &cell->row, first ? "\n  " : ",\n  ");
    for (uint32_t l = 0; status == KV_OK && layers && cell->layers && l < cell->n_layers; l++) {
        status = write_row(file, &cell->layers[l], ",\n  ");
    }
    return status;
}

int kv_write_json(FILE *file, const struct kv_results *results)
{
    fputs("{\"schema\": 1, \"rows\": [", file);
    for (uint32_t c = 0; c < results->n_cells; c++) {
        if (write_cell(file, &results->cells[c], results->per_layer, c == 0) != KV_OK) {
            return KV_EMEMORY;
        }
    }
    fputs("\n]}\n", file);
    return KV_OK;
}
