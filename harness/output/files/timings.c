/* timings.csv: how long each cell took, kept apart from rows.csv because no second run repeats
 * it. */
#include "harness/output/files/writers.h"
#include "harness/output/tables/rank.h"

/* A row of kind `reference` a trace (the exact attention that all methods share), then its cells.
 * bytes_per_second: stored bytes read by all decode steps, over the replay's seconds. */
static void write_reference(FILE *file, const struct kv_trace_summary *trace)
{
    kv_csv_field(file, trace->name ? trace->name : "");
    fprintf(file, ",%s,,reference,%.6f,,,,\n", trace->reference_cached ? "(cached)" : "(computed)",
            trace->reference_seconds);
}

static void write_cell(FILE *file, const struct kv_cell *cell)
{
    const struct kv_row *row = &cell->row;
    const double steps = (double)(row->tokens - row->prefill_length);
    kv_csv_field(file, row->trace ? row->trace : "");
    fputc(',', file);
    kv_csv_field(file, row->method ? row->method : "");
    fprintf(file, ",%lld,%s,%.6f,%.6f,%.6f,%lld,", (long long)row->seed,
            row->status ? row->status : "", cell->seconds, cell->replay_seconds,
            cell->measure_seconds, (long long)cell->allocated_bytes);
    if (row->read_bytes_per_step >= 0 && cell->replay_seconds > 0) {
        fprintf(file, "%.4g", row->read_bytes_per_step * steps / cell->replay_seconds);
    }
    fputc('\n', file);
}

int kv_write_timings(FILE *file, const struct kv_results *results)
{
    fputs("trace,method,seed,status,seconds,replay_seconds,measure_seconds,allocated_bytes,"
          "bytes_per_second\n", file);
    for (uint32_t t = 0; t < results->n_traces; t++) {
        uint32_t n;
        const struct kv_cell *cells = kv_cells_of_trace(results, t, &n);
        write_reference(file, &results->traces[t]);
        for (uint32_t c = 0; c < n; c++) write_cell(file, &cells[c]);
    }
    return KV_OK;
}
