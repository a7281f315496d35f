/* table.md: the terminal table's order and notes, with full specs and every headline measure. */
#include "harness/output/row.h"
#include "harness/output/tables/rank.h"
#include "harness/output/tables/short_number.h"
#include "harness/output/tables/table_notes.h"
#include "harness/output/files/writers.h"

#include <string.h>

/* Columns after rank mark, method, flags; what no row of the trace has is left out. */
static const int shown[] = {
    KV_INDEX_bits_per_element, KV_INDEX_compression_ratio, KV_INDEX_dkl, KV_INDEX_dkl_low,
    KV_INDEX_dkl_high, KV_INDEX_dkl_p99, KV_INDEX_dkl_max, KV_INDEX_dnll1, KV_INDEX_ppl_est,
    KV_INDEX_validity, KV_INDEX_output_error, KV_INDEX_output_error_low, KV_INDEX_output_error_high,
    KV_INDEX_residual_error, KV_INDEX_wo_error, KV_INDEX_attention_kl, KV_INDEX_mass_drift,
    KV_INDEX_lost_mass, KV_INDEX_span_retention, KV_INDEX_key_error, KV_INDEX_value_error,
    KV_INDEX_bits_key, KV_INDEX_bits_value, KV_INDEX_resident_bytes, KV_INDEX_payload_bytes,
    KV_INDEX_metadata_bytes, KV_INDEX_residual_bytes, KV_INDEX_basis_bytes,
    KV_INDEX_read_bytes_per_step, KV_INDEX_kept_tokens, KV_INDEX_calibration,
    KV_INDEX_offloaded_bytes, KV_INDEX_offloaded_read_bytes_per_step,
};
enum { N_SHOWN = sizeof shown / sizeof shown[0] };

/* A pipe would end the cell. */
static void write_text(FILE *file, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') fputc('\\', file);
        fputc((unsigned char)*text < 0x20 ? ' ' : *text, file);
    }
}

static bool any_value(const struct kv_ranking *ranking, int column)
{
    char scratch[40];
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        const struct kv_row *row = &ranking->rows[r].cell->row;
        if (kv_row_text(row, &kv_columns[column], scratch)[0]) return true;
    }
    return false;
}

static void write_value(FILE *file, const struct kv_row *row, const struct kv_column *column)
{
    char scratch[40], number[24];
    const char *text = kv_row_text(row, column, scratch);
    if (column->kind == KV_COLUMN_REAL && text[0]) {
        double value;
        memcpy(&value, (const char *)row + column->offset, sizeof value);
        kv_short_real(number, value);
        text = number;
    }
    fputs(" | ", file);
    write_text(file, text);
}

static void write_head(FILE *file, const struct kv_ranking *ranking)
{
    fputs("| | method", file);
    for (size_t i = 0; i < N_SHOWN; i++) {
        if (any_value(ranking, shown[i])) fprintf(file, " | %s", kv_columns[shown[i]].name);
    }
    fputs(" | asked | flags |\n|---|---", file);
    for (size_t i = 0; i < N_SHOWN; i++) {
        if (any_value(ranking, shown[i])) {
            fputs(kv_columns[shown[i]].kind == KV_COLUMN_TEXT ? "|---" : "|--:", file);
        }
    }
    fputs("|---|---|\n", file);
}

static void write_line(FILE *file, const struct kv_ranking *ranking, const struct kv_ranked *row)
{
    static const char *const marks[] = {[KV_ON_FRONT] = "**\\***", [KV_DOMINATED] = "",
                                        [KV_UNDER_FLOOR] = "-", [KV_ORACLE] = "-",
                                        [KV_UNMEASURED] = ""};
    fprintf(file, "| %s | `", marks[row->standing]);
    write_text(file, row->cell->row.method ? row->cell->row.method : "");
    fputc('`', file);
    for (size_t i = 0; i < N_SHOWN; i++) {
        if (any_value(ranking, shown[i])) {
            write_value(file, &row->cell->row, &kv_columns[shown[i]]);
        }
    }
    fputs(" | ", file);
    write_text(file, row->cell->asked_budget);
    fputs(" | ", file);
    write_text(file, row->cell->row.flags ? row->cell->row.flags : "");
    fputs(" |\n", file);
}

int kv_write_markdown(FILE *file, const struct kv_results *results)
{
    fputs("# kvbench results\n", file);
    for (uint32_t t = 0; t < results->n_traces; t++) {
        struct kv_ranking ranking;
        if (kv_rank(&ranking, results, t) != KV_OK) return KV_EMEMORY;
        fprintf(file, "\n## ");
        write_text(file, ranking.trace->name ? ranking.trace->name : "?");
        fputs("\n\n", file);
        kv_print_heading(file, results, &ranking, KV_NOTE_MARKDOWN);
        if (ranking.n_measured) {
            fputc('\n', file);
            write_head(file, &ranking);
            for (uint32_t r = 0; r < ranking.n_measured; r++) {
                write_line(file, &ranking, &ranking.rows[r]);
            }
        }
        fputc('\n', file);
        kv_print_notes(file, &ranking, KV_NOTE_MARKDOWN);
        kv_ranking_free(&ranking);
    }
    fputc('\n', file);
    kv_print_footer(file, results, KV_NOTE_MARKDOWN);
    if (results->interrupted) fputs("\nInterrupted: only what was finished is shown.\n", file);
    return KV_OK;
}
