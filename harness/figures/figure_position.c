/* Output error by position: a line a method, named at its end. */
#include "harness/figures/figure.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "harness/output/row.h"

enum { MOST_LINES = 12 };

static bool has_line(const struct kv_ranked *row)
{
    bool positive = row->standing != KV_UNMEASURED && !kv_figure_is_exact(row);
    for (size_t b = 0; positive && b < KV_DEPTH_BINS; b++) {
        positive = row->cell->bin_error[b] > 0 && !isinf(row->cell->bin_error[b]);
    }
    return positive;
}

/* The front first, then the best of the others, until the lines can no longer be told apart. */
static void choose_lines(const struct kv_figure_page *figure, bool *named)
{
    uint32_t n = 0;
    for (int front = 1; front >= 0; front--) {
        for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
            const struct kv_ranked *row = &figure->ranking->rows[r];
            if (!has_line(row) || n >= MOST_LINES) continue;
            if ((row->standing == KV_ON_FRONT) != (front == 1)) continue;
            named[r] = true;
            n++;
        }
    }
}

static void write_lines(const struct kv_figure_page *figure, const bool *named, bool which)
{
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!has_line(row) || named[r] != which) continue;
        for (size_t b = 0; b < KV_DEPTH_BINS; b++) {
            fprintf(figure->data, "%u %.9g %u\n", row->cell->bin_token[b], row->cell->bin_error[b],
                    kv_figure_colour(figure->results, &row->cell->row));
        }
        fputc('\n', figure->data);
    }
    fputs("NaN NaN 0\n", figure->data);
    kv_figure_end_block(figure->data);
}

struct line_end { uint32_t row; double wanted, pixel; };

static int by_height(const void *a, const void *b)
{
    const struct line_end *left = a, *right = b;
    if (left->wanted != right->wanted) return left->wanted < right->wanted ? -1 : 1;
    return left->row < right->row ? -1 : 1;
}

/* Labels sorted by height and pushed apart, first upwards, then down again from the top edge. */
static void spread(struct line_end *ends, size_t n, double height)
{
    const double gap = fmin(14, height / (double)(n + 1));
    for (size_t i = 0; i < n; i++) {
        ends[i].pixel = fmax(ends[i].wanted, i ? ends[i - 1].pixel + gap : gap / 2);
    }
    double limit = height - gap / 2;
    for (size_t i = n; i-- > 0; limit = ends[i].pixel - gap) {
        ends[i].pixel = fmin(ends[i].pixel, limit);
    }
    /* Two labels that were pushed up by one below share the shift. */
    for (size_t i = 0; i + 1 < n; i++) {
        const double floor_at = i ? ends[i - 1].pixel + gap : gap / 2;
        ends[i].pixel = fmax(floor_at, ends[i].pixel - fmax(0, (ends[i].pixel - ends[i].wanted) / 2));
    }
}

static void write_line_labels(const struct kv_figure_page *figure, const struct kv_ranges *ranges,
                              const struct line_end *ends, size_t n, double last, double text_x)
{
    for (size_t i = 0; i < n; i++) {
        const struct kv_ranked *row = &figure->ranking->rows[ends[i].row];
        fprintf(figure->data, "%.9g %.9g", text_x, kv_figure_y_value(figure, ranges, ends[i].pixel));
        kv_figure_data_text(figure->data, row->label);
        fprintf(figure->data, " %u\n", kv_figure_colour(figure->results, &row->cell->row));
    }
    if (n == 0) fputs("NaN NaN \"\" 0\n", figure->data);
    kv_figure_end_block(figure->data);
    for (size_t i = 0; i < n; i++) {
        const double *errors = figure->ranking->rows[ends[i].row].cell->bin_error;
        fprintf(figure->data, "%.9g %.9g %.9g %.9g\n", last, errors[KV_DEPTH_BINS - 1],
                last + 0.9 * (text_x - last), kv_figure_y_value(figure, ranges, ends[i].pixel));
    }
    fputs("NaN NaN NaN NaN\n", figure->data);
    kv_figure_end_block(figure->data);
}

static struct kv_ranges position_ranges(const struct kv_figure_page *figure)
{
    const struct kv_ranking *ranking = figure->ranking;
    struct kv_ranges ranges = {.x_min = INFINITY, .y_min = INFINITY};
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        const struct kv_cell *cell = ranking->rows[r].cell;
        for (size_t b = 0; has_line(&ranking->rows[r]) && b < KV_DEPTH_BINS; b++) {
            ranges.x_min = fmin(ranges.x_min, cell->bin_token[b]);
            ranges.x_max = fmax(ranges.x_max, cell->bin_token[b]);
            ranges.y_min = fmin(ranges.y_min, cell->bin_error[b]);
            ranges.y_max = fmax(ranges.y_max, cell->bin_error[b]);
        }
    }
    if (!(ranges.y_max > 0)) ranges = (struct kv_ranges){0, 1, 0.001, 1, 0};
    if (!(ranges.x_max > ranges.x_min)) ranges.x_max = ranges.x_min + 1;
    const double room = pow(ranges.y_max / ranges.y_min, 0.05) * 1.1;
    ranges.y_min /= room, ranges.y_max *= room;
    return ranges;
}

static void write_token_tics(FILE *script, const struct kv_ranges *ranges)
{
    double step = 1;
    for (int k = 0; (ranges->x_max - ranges->x_min) / step > 8; k++) step *= k % 3 == 1 ? 2.5 : 2;
    const char *between = "";
    fputs("x_tics = \"", script);
    for (double token = ceil(ranges->x_min / step) * step; token <= ranges->x_max; token += step) {
        fprintf(script, "%s%.0f", between, token);
        between = ", ";
    }
    fputs("\"\n", script);
}

int kv_figure_position(struct kv_figure_page *figure)
{
    const uint32_t n_rows = figure->ranking->n_measured;
    bool *named = calloc(n_rows + 1, sizeof *named);
    struct line_end *ends = calloc(n_rows + 1, sizeof *ends);
    if (!named || !ends) {
        free(named);
        free(ends);
        return KV_EMEMORY;
    }
    choose_lines(figure, named);
    figure->left = 78, figure->right = 12, figure->top = 60, figure->bottom = 70;
    figure->width = 900, figure->height = 568;
    struct kv_ranges ranges = position_ranges(figure);
    size_t n = 0, longest = 0, others = 0;
    for (uint32_t r = 0; r < n_rows; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        others += has_line(row) && !named[r];
        if (!named[r]) continue;
        const double end = row->cell->bin_error[KV_DEPTH_BINS - 1];
        ends[n++] = (struct line_end){r, kv_figure_y_pixel(figure, &ranges, end), 0};
        if (kv_figure_shown_length(row->label) > longest) longest = kv_figure_shown_length(row->label);
    }
    qsort(ends, n, sizeof *ends, by_height);
    spread(ends, n, kv_figure_area_height(figure));

    char title[96];
    snprintf(title, sizeof title, others ? "Output error by position (grey: %zu more methods)"
                                         : "Output error by position", others);
    kv_figure_frame(figure, title);
    write_token_tics(figure->script, &ranges);
    const double last = ranges.x_max, span = last - ranges.x_min;
    const double text = kv_letter_width * (double)longest + 34;
    ranges.x_max = last + span * text / (kv_figure_area_width(figure) - text);
    ranges.x_min -= 0.01 * span;
    fprintf(figure->script, "x_min = %.9g\nx_max = %.9g\ny_min = %.9g\ny_max = %.9g\n",
            ranges.x_min, ranges.x_max, ranges.y_min, ranges.y_max);
    kv_figure_log_tics(figure->script, "y_tics", ranges.y_min, ranges.y_max,
                       kv_figure_area_height(figure), 30);
    write_lines(figure, named, true);
    write_line_labels(figure, &ranges, ends, n, last,
                      last + (ranges.x_max - last) * 24 / text);
    write_lines(figure, named, false);
    free(named);
    free(ends);
    return KV_OK;
}
