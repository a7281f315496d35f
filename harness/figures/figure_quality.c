/* Quality against memory: a point a method, with its interval, and the Pareto front. */
#include "harness/figures/figure.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "harness/figures/label_place.h"
#include "harness/output/row.h"

enum { MOST_NAMED = 16 };         /* more points than this are numbered, with a key */
static const double key_line = 15, key_margins = 70;   /* pixels: a line of the key; above and below it */

static bool drawn(const struct kv_ranked *row)
{
    return row->standing != KV_UNMEASURED && !kv_figure_is_exact(row) && row->cell->row.bits_per_element > 0;
}

static double low_of(const struct kv_figure_page *figure, const struct kv_ranked *row)
{
    const struct kv_row *values = &row->cell->row;
    const double low = figure->ranking->by_dkl ? values->dkl_low : values->output_error_low;
    return low > row->value / 100 ? low : row->value;
}

static double high_of(const struct kv_figure_page *figure, const struct kv_ranked *row)
{
    const struct kv_row *values = &row->cell->row;
    const double high = figure->ranking->by_dkl ? values->dkl_high : values->output_error_high;
    return high > row->value && !isinf(high) ? high : row->value;
}

static struct kv_ranges quality_ranges(const struct kv_figure_page *figure)
{
    struct kv_ranges ranges = {.x_min = 3, .x_max = 3, .y_min = INFINITY};
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row)) continue;
        ranges.n++;
        ranges.x_min = fmin(ranges.x_min, row->cell->row.bits_per_element);
        ranges.x_max = fmax(ranges.x_max, row->cell->row.bits_per_element);
        ranges.y_min = fmin(ranges.y_min, low_of(figure, row));
        ranges.y_max = fmax(ranges.y_max, high_of(figure, row));
    }
    if (ranges.n == 0) ranges.y_min = 0.001, ranges.y_max = 1;
    ranges.x_min /= 1.35, ranges.x_max *= 1.5;
    const double room = pow(ranges.y_max / ranges.y_min, 0.06) * 1.25;
    ranges.y_min /= room, ranges.y_max *= room;
    return ranges;
}

static unsigned point_colour(const struct kv_figure_page *figure, const struct kv_ranked *row)
{
    const unsigned colour = kv_figure_colour(figure->results, &row->cell->row);
    return row->standing == KV_ON_FRONT ? colour : colour | (unsigned)KV_FIGURE_FADED << 24;
}

static void write_points(const struct kv_figure_page *figure)
{
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row)) continue;
        fprintf(figure->data, "%.9g %.9g %.9g %.9g %d %u\n", row->cell->row.bits_per_element,
                row->value, low_of(figure, row), high_of(figure, row), kv_figure_shape(&row->cell->row),
                point_colour(figure, row));
    }
    kv_figure_end_block(figure->data);
}

/* Rows with nothing on the host have a front of their own, a staircase: who keeps rows there costs
 * something that this figure has no axis for. */
static bool on_staircase(const struct kv_ranked *row)
{
    return drawn(row) && row->standing == KV_ON_FRONT && !kv_figure_on_host(&row->cell->row);
}

/* The ranking goes from best to worst, so the front goes from large to small: written backwards,
 * and drawn on to the right edge, where nothing larger is better. */
static void write_front(const struct kv_figure_page *figure, const struct kv_ranges *ranges)
{
    double best = 0;
    for (uint32_t r = figure->ranking->n_measured; r-- > 0;) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!on_staircase(row)) continue;
        best = row->value;
        fprintf(figure->data, "%.9g %.9g\n", row->cell->row.bits_per_element, best);
    }
    if (best > 0) fprintf(figure->data, "%.9g %.9g\n", ranges->x_max, best);
    else fputs("NaN NaN\n", figure->data);
    kv_figure_end_block(figure->data);
}

/* The steps of the front as thin boxes. Returns how many; boxes holds two a measured row. */
static size_t front_boxes(const struct kv_figure_page *figure, const struct kv_ranges *ranges,
                          struct kv_box *boxes)
{
    size_t n = 0;
    double right = kv_figure_area_width(figure), below = -1;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!on_staircase(row)) continue;
        const double x = kv_figure_x_pixel(figure, ranges, row->cell->row.bits_per_element);
        const double y = kv_figure_y_pixel(figure, ranges, row->value);
        if (below >= 0) boxes[n++] = (struct kv_box){right - 2, below, right + 2, y};
        boxes[n++] = (struct kv_box){x, y - 2, right, y + 2};
        right = x, below = y;
    }
    return n;
}

static struct kv_label *make_labels(const struct kv_figure_page *figure, const struct kv_ranges *ranges,
                                    bool numbered)
{
    struct kv_label *labels = calloc(ranges->n + 1, sizeof *labels);
    struct kv_box *front = calloc(2 * (size_t)ranges->n + 1, sizeof *front);
    size_t n = 0;
    for (uint32_t r = 0; labels && r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row)) continue;
        const double letters = numbered ? (n + 1 < 10 ? 1 : 2) : (double)kv_figure_shown_length(row->label);
        labels[n++] = (struct kv_label){
            .x = kv_figure_x_pixel(figure, ranges, row->cell->row.bits_per_element),
            .y = kv_figure_y_pixel(figure, ranges, row->value),
            .bar_low = kv_figure_y_pixel(figure, ranges, low_of(figure, row)),
            .bar_high = kv_figure_y_pixel(figure, ranges, high_of(figure, row)),
            .width = kv_letter_width * letters + 2, .height = 14};
    }
    if (labels && front) {
        kv_place_labels(labels, n, front, front_boxes(figure, ranges, front), kv_figure_area_width(figure),
                        kv_figure_area_height(figure));
    } else {
        free(labels);
        labels = NULL;
    }
    free(front);
    return labels;
}

static void write_label_texts(const struct kv_figure_page *figure, const struct kv_ranges *ranges,
                              const struct kv_label *labels, bool numbered)
{
    size_t n = 0;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row)) continue;
        const struct kv_label *label = &labels[n++];
        char number[16];
        snprintf(number, sizeof number, "%zu", n);
        fprintf(figure->data, "%.9g %.9g", kv_figure_x_value(figure, ranges, label->box.left),
                kv_figure_y_value(figure, ranges, (label->box.bottom + label->box.top) / 2));
        kv_figure_data_text(figure->data, numbered ? number : row->label);
        fprintf(figure->data, " %u\n", row->standing == KV_ON_FRONT ? 0x000000u : 0x777777u);
    }
    if (n == 0) fputs("NaN NaN \"\" 0\n", figure->data);
    kv_figure_end_block(figure->data);
}

/* From the point to the nearest place of its label's box. */
static void write_leaders(const struct kv_figure_page *figure, const struct kv_ranges *ranges,
                          const struct kv_label *labels)
{
    for (uint32_t n = 0; n < ranges->n; n++) {
        const struct kv_label *label = &labels[n];
        if (!label->far) continue;
        const double x = fmin(fmax(label->x, label->box.left - 2), label->box.right + 2);
        const double y = fmin(fmax(label->y, label->box.bottom + 1), label->box.top - 1);
        const double from_x = kv_figure_x_value(figure, ranges, label->x);
        const double from_y = kv_figure_y_value(figure, ranges, label->y);
        fprintf(figure->data, "%.9g %.9g %.9g %.9g\n", from_x, from_y,
                kv_figure_x_value(figure, ranges, x) - from_x, kv_figure_y_value(figure, ranges, y) - from_y);
    }
    fputs("NaN NaN NaN NaN\n", figure->data);
    kv_figure_end_block(figure->data);
}

static void write_key(const struct kv_figure_page *figure)
{
    uint32_t number = 0;
    char text[512];
    const double step = key_line / (figure->height - key_margins);
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row)) continue;
        snprintf(text, sizeof text, "%2u%s %.480s", number + 1,
                 row->standing == KV_ON_FRONT ? "*" : " ", row->label);
        fprintf(figure->data, "0.02 %.6f %d %u", 1 - (number + 0.5) * step,
                kv_figure_shape(&row->cell->row), point_colour(figure, row));
        kv_figure_data_text(figure->data, text);
        fputc('\n', figure->data);
        number++;
    }
}

/* What the marks mean, and who is missing: by name as far as there is room beside the stamp. */
static void write_note(const struct kv_figure_page *figure)
{
    static const double letter = 5.4, stamp = 400;   /* pixels */
    char text[256] = "bars: 95 % intervals; pale: off the front";
    bool host = false;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++)
        host |= drawn(&figure->ranking->rows[r]) && kv_figure_on_host(&figure->ranking->rows[r].cell->row);
    if (host) strcat(text, "; open: rows on the host besides, in no bits");
    size_t used = strlen(text);
    const size_t room = (size_t)fmin((figure->width - stamp) / letter, sizeof text - 16) - strlen(" and 99 more");
    uint32_t named = 0, left_out = 0;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (row->standing == KV_UNMEASURED || drawn(row)) continue;
        const char *before = named ? ", " : "; not drawn, as good as exact or of no bits: ";
        if (left_out || used + strlen(before) + strlen(row->label) > room) left_out++;
        else used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", before, row->label), named++;
    }
    if (left_out) snprintf(text + used, sizeof text - used, named ? " and %u more" : "; not drawn: %u, as good as exact or of no bits", left_out);
    kv_figure_set_text(figure->script, "note", "%s", text);
}

static void write_families(const struct kv_figure_page *figure)
{
    char words[128] = "", shapes[64] = "";
    for (size_t f = 0; f < KV_FIGURE_FAMILIES; f++) {
        for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
            const struct kv_ranked *row = &figure->ranking->rows[r];
            if (!drawn(row) || kv_figure_family(&row->cell->row) != f) continue;
            snprintf(words + strlen(words), sizeof words - strlen(words), " %s", kv_figure_families[f].word);
            snprintf(shapes + strlen(shapes), sizeof shapes - strlen(shapes), " %d",
                     kv_figure_families[f].shape);
            break;
        }
    }
    fprintf(figure->script, "families = '%s'\nshapes = '%s'\n", words, shapes);
}

static void write_bit_tics(const struct kv_figure_page *figure, const struct kv_ranges *ranges)
{
    static const double bits[] = {0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32};
    const char *between = "";
    fputs("x_tics = \"", figure->script);
    for (size_t b = 0; b < sizeof bits / sizeof bits[0]; b++) {
        if (bits[b] < ranges->x_min || bits[b] > ranges->x_max) continue;
        fprintf(figure->script, "%s%g", between, bits[b]);
        between = ", ";
    }
    fputs("\"\nguides = '", figure->script);
    for (double guide = 2; guide <= 16; guide += guide == 2 ? 1 : guide == 3 ? 1 : guide) {
        if (guide > ranges->x_min && guide < ranges->x_max) fprintf(figure->script, "%g ", guide);
    }
    fputs("'\n", figure->script);
}

int kv_figure_quality(struct kv_figure_page *figure)
{
    const bool by_dkl = figure->ranking->by_dkl;
    uint32_t n = 0;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) n += drawn(&figure->ranking->rows[r]);
    const bool numbered = n > MOST_NAMED;
    figure->left = 78, figure->right = numbered ? 340 : 18, figure->top = 84, figure->bottom = 70;
    figure->width = numbered ? 1180 : 900;
    figure->height = numbered ? fmax(742, key_margins + key_line * (n + 1)) : 602;   /* the key is whole */
    const struct kv_ranges ranges = quality_ranges(figure);
    struct kv_label *labels = make_labels(figure, &ranges, numbered);
    if (!labels) return KV_EMEMORY;

    kv_figure_frame(figure, by_dkl ? "Quality against memory: estimated KL from the exact model"
                               : "Quality against memory: output error (no gradients)");
    kv_figure_set_text(figure->script, "y_label", by_dkl ? "dkl, nats per token (log scale)"
                                               : "output error, mean over layers (log scale)");
    fprintf(figure->script, "x_min = %.9g\nx_max = %.9g\ny_min = %.9g\ny_max = %.9g\n",
            ranges.x_min, ranges.x_max, ranges.y_min, ranges.y_max);
    const double floor_value = figure->ranking->floor;
    fprintf(figure->script, "floor_value = %.9g\nhas_key = %d\n",
            floor_value > ranges.y_min && floor_value < ranges.y_max ? floor_value : 0, numbered);
    kv_figure_log_tics(figure->script, "y_tics", ranges.y_min, ranges.y_max,
                       kv_figure_area_height(figure), 30);
    write_bit_tics(figure, &ranges);
    write_families(figure);
    write_note(figure);

    write_points(figure);
    write_front(figure, &ranges);
    write_label_texts(figure, &ranges, labels, numbered);
    write_leaders(figure, &ranges, labels);
    if (numbered) write_key(figure);
    free(labels);
    return KV_OK;
}
