/* Where the bits are: a bar a method, by class, and what a step reads. */
#include "harness/figures/figure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/row.h"

static int smaller_first(const void *a, const void *b)
{
    const struct kv_ranked *const *left = a, *const *right = b;
    const double x = (*left)->cell->row.bits_per_element, y = (*right)->cell->row.bits_per_element;
    if (x != y) return x < y ? -1 : 1;
    return (*left)->cell < (*right)->cell ? -1 : 1;
}

/* Bits an element that a byte of the row is; with nothing on the device, by its flag. */
static double scale_of(const struct kv_row *row)
{
    static const char flag[] = "bits-with-host:";
    if (row->resident_bytes > 0) return row->bits_per_element / (double)row->resident_bytes;
    const char *said = row->flags ? strstr(row->flags, flag) : NULL;
    return said && row->offloaded_bytes > 0
               ? strtod(said + strlen(flag), NULL) / (double)row->offloaded_bytes
               : 0;
}

/* Of what lies on the host (where=host), which no total holds. */
static double host_bits(const struct kv_row *row)
{
    return kv_figure_on_host(row) ? (double)row->offloaded_bytes * scale_of(row) : 0;
}

static void write_bar(const struct kv_figure_page *figure, const struct kv_row *row, uint32_t at)
{
    const int64_t bytes[] = {row->payload_bytes, row->metadata_bytes, row->residual_bytes,
                             row->basis_bytes, row->offloaded_bytes};
    static const unsigned colours[] = {0x0072b2, 0xe69f00, 0x009e73, 0xcc79a7, 0xdcdcdc};
    double from = 0;
    for (size_t c = 0; c < sizeof bytes / sizeof *bytes; c++) {
        const double width = bytes[c] > 0 ? (double)bytes[c] * scale_of(row) : 0;
        fprintf(figure->data, "%.9g %.9g %u %u\n", from, from + width, at, colours[c]);
        from += width;
    }
}

/* How far into the bar a step reads; of the host's part, from where that begins. */
static void write_reads(const struct kv_figure_page *figure, const struct kv_row *row, uint32_t at)
{
    if (row->read_bytes_per_step >= 0 && row->resident_bytes > 0)
        fprintf(figure->data, "%.9g %u\n", row->read_bytes_per_step * scale_of(row), at);
    if (kv_figure_on_host(row) && row->offloaded_read_bytes_per_step >= 0)
        fprintf(figure->data, "%.9g %u\n",
                row->bits_per_element + row->offloaded_read_bytes_per_step * scale_of(row), at);
}

static void write_bar_texts(const struct kv_figure_page *figure, const struct kv_ranked **rows, uint32_t n)
{
    for (uint32_t r = 0; r < n; r++) {
        fprintf(figure->data, "%u", r);
        kv_figure_data_text(figure->data, rows[r]->label);
        fputc('\n', figure->data);
    }
    kv_figure_end_block(figure->data);
    for (uint32_t r = 0; r < n; r++) {
        const struct kv_row *row = &rows[r]->cell->row;
        const double read = row->read_bytes_per_step > 0 ? row->read_bytes_per_step * scale_of(row) : 0;
        fprintf(figure->data, "%.9g %u \"%.2f", fmax(read, row->bits_per_element + host_bits(row)), r,
                row->bits_per_element);
        if (host_bits(row) > 0) fprintf(figure->data, " + %.2f", host_bits(row));
        fputs("\"\n", figure->data);
    }
    kv_figure_end_block(figure->data);
    for (uint32_t r = 0; r < n; r++) write_reads(figure, &rows[r]->cell->row, r);
    fputs("NaN NaN\n", figure->data);
}

int kv_figure_memory(struct kv_figure_page *figure)
{
    const struct kv_ranking *ranking = figure->ranking;
    const struct kv_ranked **rows = calloc(ranking->n_measured + 1, sizeof *rows);
    if (!rows) return KV_EMEMORY;
    uint32_t n = 0;
    bool host = false;
    double most = ranking->trace->element_bits;
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        const struct kv_row *row = &ranking->rows[r].cell->row;
        if (isnan(row->bits_per_element)) continue;
        rows[n++] = &ranking->rows[r];
        /* Two numbers behind a bar take a seventh of the width. */
        most = fmax(most, (row->bits_per_element + host_bits(row)) * (host_bits(row) > 0 ? 1.06 : 1));
        host |= kv_figure_on_host(row);
    }
    qsort(rows, n, sizeof *rows, smaller_first);
    kv_figure_size_rows(figure, n, 20, 108);   /* a key of three lines in a narrow SVG */
    figure->right = 24, figure->width = figure->left + 620;
    kv_figure_frame(figure, "Where the bits are: resident memory by class");
    fprintf(figure->script, "rows = %u\nx_max = %.9g\nx_step = %d\nrecorded_bits = %u\nhas_host = %d\n",
            n ? n : 1, most * 1.1, most > 20 ? 4 : 2, ranking->trace->element_bits, host);
    for (uint32_t r = 0; r < n; r++) write_bar(figure, &rows[r]->cell->row, r);
    kv_figure_end_block(figure->data);
    write_bar_texts(figure, rows, n);
    free(rows);
    return KV_OK;
}
