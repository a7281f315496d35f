/* Output error by layer: a heat map, a row a method. */
#include "harness/figures/figure.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "harness/output/row.h"
#include "harness/output/tables/short_number.h"

static bool has_layers(const struct kv_ranked *row)
{
    return row->standing != KV_UNMEASURED && row->cell->layers;
}

/* Three decades: what is hardly an error at all (rows under the floor, a layer that happens to be nearly
 * exact) would stretch the colours over decades that nobody compares. */
static void colour_range(const struct kv_figure_page *figure, double *low, double *high)
{
    *low = INFINITY, *high = 0;
    for (int everyone = 0; everyone < 2 && !(*high > 0); everyone++) {
        for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
            const struct kv_ranked *row = &figure->ranking->rows[r];
            if (!has_layers(row) || (!everyone && row->standing == KV_UNDER_FLOOR)) continue;
            for (uint32_t l = 0; l < row->cell->n_layers; l++) {
                const double error = row->cell->layers[l].output_error;
                if (!(error > 0) || isinf(error)) continue;
                *low = fmin(*low, error), *high = fmax(*high, error);
            }
        }
    }
    if (!(*high > 0)) *low = 0.001, *high = 1;
    *low = fmax(*low, *high * 1e-3);
    if (*high < *low * 2) *low /= 1.5, *high *= 1.5;
}

static void write_heat_row(const struct kv_figure_page *figure, const struct kv_ranked *row, uint32_t at,
                           double low, double high, bool printed)
{
    for (uint32_t l = 0; l < row->cell->n_layers; l++) {
        const double error = row->cell->layers[l].output_error;
        char text[24];
        kv_short_real(text, error);
        if (!(error > 0)) {
            fprintf(figure->data, "%u %u %.9g \"%s\" %u\n", l, at, low, printed ? text : "",
                    0xffffffu);
            continue;
        }
        const bool light = log(error / low) > 0.6 * log(high / low);
        fprintf(figure->data, "%u %u %.9g \"%s\" %u\n", l, at, error, printed ? text : "",
                light ? 0x000000u : 0xffffffu);
    }
}

/* Every layer's number where there is room; else every second, fifth, tenth, ... */
static uint32_t label_step(const struct kv_ranked *row, double column_pixels)
{
    static const uint32_t steps[] = {1, 2, 5, 10, 20, 50, 100, 200};
    size_t longest = 1, s = 0;
    for (uint32_t l = 0; l < row->cell->n_layers; l++)
        if (strlen(kv_or_empty(row->cell->layers[l].layer)) > longest)
            longest = strlen(row->cell->layers[l].layer);
    while (s + 1 < sizeof steps / sizeof *steps &&
           steps[s] * column_pixels < kv_letter_width * (double)longest + 5) s++;
    return steps[s];
}

static void write_heat_names(const struct kv_figure_page *figure, double column_pixels)
{
    const struct kv_ranked *first = NULL;
    uint32_t at = 0;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!has_layers(row)) continue;
        if (!first) first = row;
        fprintf(figure->data, "%u", at++);
        kv_figure_data_text(figure->data, row->label);
        fputc('\n', figure->data);
    }
    kv_figure_end_block(figure->data);
    const uint32_t step = first ? label_step(first, column_pixels) : 1;
    for (uint32_t l = 0; first && l < first->cell->n_layers; l += step) {
        fprintf(figure->data, "%u", l);
        kv_figure_data_text(figure->data, kv_or_empty(first->cell->layers[l].layer));
        fputc('\n', figure->data);
    }
}

int kv_figure_layers(struct kv_figure_page *figure)
{
    uint32_t n = 0, n_layers = 1;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        n += has_layers(row);
        if (has_layers(row) && row->cell->n_layers > n_layers) n_layers = row->cell->n_layers;
    }
    kv_figure_size_rows(figure, n, 22, 60);
    figure->right = 90;
    const double cell = fmin(64, fmax(14, 900.0 / n_layers));
    figure->width = fmax(640, figure->left + figure->right + cell * n_layers);
    double low, high;
    colour_range(figure, &low, &high);
    kv_figure_frame(figure, "Output error by layer");
    fprintf(figure->script, "rows = %u\ncolumns = %u\nc_min = %.9g\nc_max = %.9g\n", n ? n : 1,
            n_layers, low, high);
    kv_figure_log_tics(figure->script, "c_tics", low, high, kv_figure_area_height(figure), 18);
    uint32_t at = 0;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (has_layers(row)) {
            write_heat_row(figure, row, at++, low, high, kv_figure_area_width(figure) / n_layers > 42);
        }
    }
    kv_figure_end_block(figure->data);
    write_heat_names(figure, kv_figure_area_width(figure) / n_layers);
    return KV_OK;
}
