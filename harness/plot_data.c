/* The numbers behind the figures: one data file a figure, blocks separated by two blank lines,
 * and figures.gp, which names each figure's ranges and texts and draws them all. Text from a
 * trace reaches gnuplot in single quotes or in data files only, where nothing is executed. */
#include "harness/plot.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "harness/label_place.h"
#include "harness/result_dir.h"
#include "harness/row.h"
#include "harness/table.h"

const char *const kv_figure_names[KV_FIGURES] = {"quality", "layers", "position", "memory"};

/* ---- names and quoting --------------------------------------------------------------------- */

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

static void safe_name(char *out, size_t capacity, const char *name)
{
    size_t used = 0;
    for (; *name && used + 1 < capacity; name++) {
        const bool good = isalnum((unsigned char)*name) || *name == '-' || (*name == '.' && used)
                       || *name == '_';
        out[used++] = good ? *name : '_';
    }
    out[used] = '\0';
}

int kv_figure_file(char **out, const struct kv_results *results, uint32_t trace,
                   enum kv_figure figure)
{
    char name[128], other[128];
    unsigned number = 1;
    safe_name(name, sizeof name, or_empty(results->traces[trace].name));
    for (uint32_t t = 0; t < trace; t++) {
        safe_name(other, sizeof other, or_empty(results->traces[t].name));
        number += strcmp(name, other) == 0;
    }
    if (number == 1) return kv_text_set(out, "%s-%s", kv_figure_names[figure], name);
    return kv_text_set(out, "%s-%s-%u", kv_figure_names[figure], name, number);
}

/* A gnuplot string: in single quotes nothing is special but the quote, which is doubled. */
static void set_text(FILE *script, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void set_text(FILE *script, const char *name, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(script, "%s = '", name);
    for (const char *at = text; *at; at++) {
        if (*at == '\'') fputc('\'', script);
        fputc((unsigned char)*at < 0x20 ? ' ' : *at, script);
    }
    fputs("'\n", script);
}

/* A string in a data file; too long ones are cut. */
static void data_text(FILE *data, const char *text)
{
    enum { LONGEST = 52 };
    const size_t length = strlen(text);
    fputs(" \"", data);
    for (size_t i = 0; i < length && i < (length > LONGEST ? LONGEST - 3 : length); i++) {
        const bool special = text[i] == '"' || text[i] == '\\' || (unsigned char)text[i] < 0x20;
        fputc(special ? '_' : text[i], data);
    }
    fputs(length > LONGEST ? "...\"" : "\"", data);
}

static size_t shown_length(const char *text)
{
    const size_t length = strlen(text);
    return length > 52 ? 52 : length;
}

/* ---- colours and shapes -------------------------------------------------------------------- */

/* Okabe and Ito's colours and eight of Tol's: told apart by colour-blind readers, dark enough on
 * white. */
static const unsigned palette[] = {0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x332288,
                                   0x56b4e9, 0x882255, 0x999933, 0x44aa99, 0x117733, 0xaa4499,
                                   0x661100, 0x6699cc};
enum { N_COLOURS = sizeof palette / sizeof palette[0], GREY = 0x555555, FADED = 0x90 };

static void base_name(const char *spec, char name[128])
{
    size_t used = 0;
    bool in_name = true;
    for (; *spec && used < 127; spec++) {
        if (*spec == ':') in_name = false;
        if (*spec == '+') in_name = true;
        if (in_name) name[used++] = *spec;
    }
    name[used] = '\0';
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* FNV-1a. */
static unsigned hash_of(const char *text)
{
    unsigned hash = 2166136261u;
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash;
}

/* A method's colour follows from its name, moved on where another method of this run has it. */
static unsigned colour_of(const struct kv_results *results, const struct kv_row *row)
{
    if (strcmp(or_empty(row->family), "exact") == 0) return GREY;
    char wanted[128], (*names)[128] = calloc(results->n_specs + 1, sizeof *names);
    bool taken[N_COLOURS] = {false};
    unsigned colour = 0, n_taken = 0;
    base_name(or_empty(row->method), wanted);
    if (!names) return palette[0];
    for (uint32_t s = 0; s < results->n_specs; s++) base_name(results->specs[s], names[s]);
    qsort(names, results->n_specs, sizeof *names, by_name);
    for (uint32_t s = 0; s < results->n_specs; s++) {
        if (s && strcmp(names[s], names[s - 1]) == 0) continue;
        for (colour = hash_of(names[s]) % N_COLOURS; taken[colour] && n_taken < N_COLOURS;) {
            colour = (colour + 1) % N_COLOURS;
        }
        n_taken += !taken[colour];
        taken[colour] = true;
        if (strcmp(names[s], wanted) == 0) break;
    }
    free(names);
    return palette[colour];
}

static const struct { const char *family, *word; int shape; } families[] = {
    {"exact", "exact", 4},          {"quantizer", "quantizer", 7}, {"evictor", "evictor", 9},
    {"sparse reader", "sparse-reader", 13}, {"low rank", "low-rank", 5}, {"hybrid", "hybrid", 15},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

static size_t family_of(const struct kv_row *row)
{
    size_t f = 0;
    while (f < N_FAMILIES && strcmp(families[f].family, or_empty(row->family)) != 0) f++;
    return f;
}

static int shape_of(const struct kv_row *row)
{
    const size_t f = family_of(row);
    return f < N_FAMILIES ? families[f].shape : 6;
}

/* ---- a figure ------------------------------------------------------------------------------ */

struct figure {
    FILE *script, *data;
    const struct kv_results *results;
    const struct kv_ranking *ranking;
    double width, height, left, right, top, bottom;    /* of the plot area, pixels from the figure's edges */
};

static double area_width(const struct figure *figure)
{
    return figure->width - figure->left - figure->right;
}

static double area_height(const struct figure *figure)
{
    return figure->height - figure->top - figure->bottom;
}

static void write_frame(const struct figure *figure, const char *title)
{
    const struct kv_results *results = figure->results;
    const struct kv_trace_summary *trace = figure->ranking->trace;
    FILE *script = figure->script;
    fprintf(script, "width = %.0f\nheight = %.0f\n", figure->width, figure->height);
    fprintf(script, "area_left = %.6f\narea_right = %.6f\narea_bottom = %.6f\narea_top = %.6f\n",
            figure->left / figure->width, 1 - figure->right / figure->width,
            figure->bottom / figure->height, 1 - figure->top / figure->height);
    set_text(script, "title", "%s", title);
    set_text(script, "subtitle", "%s: %s, %u tokens (%u prefill), %u of %u layers; open loop",
             or_empty(trace->name), or_empty(trace->model), trace->tokens, trace->prefill,
             trace->n_layers, trace->model_layers);
    set_text(script, "stamp", "trace %.21s  %s  kvbench %s", or_empty(trace->hash),
             or_empty(results->isa), results->code_version);
}

static void end_block(FILE *data)
{
    fputs("\n\n", data);
}

/* Axis labels at 1, 2, 5 within two decades, at powers of ten above; one in n where there are
 * many. */
static void write_log_tics(FILE *script, const char *name, double low, double high)
{
    const int first = (int)floor(log10(low)), last = (int)ceil(log10(high));
    const int every = (last - first + 7) / 8;
    const bool fine = log10(high / low) < 2.6;
    const char *between = "";
    char text[24];
    fprintf(script, "%s = \"", name);
    for (int decade = first; decade <= last; decade += every > 1 ? every : 1) {
        for (int step = 1; step <= (fine ? 5 : 1); step += step == 1 ? 1 : 3) {
            const double value = step * pow(10, decade);
            snprintf(text, sizeof text, value < 0.0009 || value > 9999 ? "%.0e" : "%g", value);
            fprintf(script, "%s'%s' %.6g", between, text, value);
            between = ", ";
        }
    }
    fputs("\"\n", script);
}

/* ---- quality ------------------------------------------------------------------------------- */

enum { MOST_NAMED = 16 };         /* more points than this are numbered, with a key */
static const double letter_width = 7.1; /* pixels, mean of DejaVu Sans at 10; Arial and its like are narrower */

static bool drawn(const struct kv_ranked *row)
{
    return row->standing != KV_UNMEASURED && row->standing != KV_UNDER_FLOOR && row->value > 0
        && row->cell->row.bits_per_element > 0;
}

struct ranges { double x_min, x_max, y_min, y_max; uint32_t n; };

static double low_of(const struct figure *figure, const struct kv_ranked *row)
{
    const struct kv_row *values = &row->cell->row;
    const double low = figure->ranking->by_dkl ? values->dkl_low : values->output_error_low;
    return low > row->value / 100 ? low : row->value;
}

static double high_of(const struct figure *figure, const struct kv_ranked *row)
{
    const struct kv_row *values = &row->cell->row;
    const double high = figure->ranking->by_dkl ? values->dkl_high : values->output_error_high;
    return high > row->value && !isinf(high) ? high : row->value;
}

static struct ranges quality_ranges(const struct figure *figure)
{
    struct ranges ranges = {.x_min = 3, .x_max = 3, .y_min = INFINITY};
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

static double x_pixel(const struct figure *figure, const struct ranges *ranges, double bits)
{
    return area_width(figure) * log(bits / ranges->x_min) / log(ranges->x_max / ranges->x_min);
}

static double y_pixel(const struct figure *figure, const struct ranges *ranges, double value)
{
    return area_height(figure) * log(value / ranges->y_min) / log(ranges->y_max / ranges->y_min);
}

static double x_value(const struct figure *figure, const struct ranges *ranges, double pixel)
{
    return ranges->x_min * pow(ranges->x_max / ranges->x_min, pixel / area_width(figure));
}

static double y_value(const struct figure *figure, const struct ranges *ranges, double pixel)
{
    return ranges->y_min * pow(ranges->y_max / ranges->y_min, pixel / area_height(figure));
}

static unsigned point_colour(const struct figure *figure, const struct kv_ranked *row)
{
    const unsigned colour = colour_of(figure->results, &row->cell->row);
    return row->standing == KV_ON_FRONT ? colour : colour | (unsigned)FADED << 24;
}

static void write_points(const struct figure *figure)
{
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row)) continue;
        fprintf(figure->data, "%.9g %.9g %.9g %.9g %d %u\n", row->cell->row.bits_per_element,
                row->value, low_of(figure, row), high_of(figure, row), shape_of(&row->cell->row),
                point_colour(figure, row));
    }
    end_block(figure->data);
}

/* The ranking goes from best to worst, so the front goes from large to small: written backwards,
 * and drawn on to the right edge, where nothing larger is better. */
static void write_front(const struct figure *figure, const struct ranges *ranges)
{
    double best = 0;
    for (uint32_t r = figure->ranking->n_measured; r-- > 0;) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row) || row->standing != KV_ON_FRONT) continue;
        best = row->value;
        fprintf(figure->data, "%.9g %.9g\n", row->cell->row.bits_per_element, best);
    }
    if (best > 0) fprintf(figure->data, "%.9g %.9g\n", ranges->x_max, best);
    else fputs("NaN NaN\n", figure->data);
    end_block(figure->data);
}

/* The steps of the front as thin boxes. Returns how many; boxes holds two a measured row. */
static size_t front_boxes(const struct figure *figure, const struct ranges *ranges,
                          struct kv_box *boxes)
{
    size_t n = 0;
    double right = area_width(figure), below = -1;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row) || row->standing != KV_ON_FRONT) continue;
        const double x = x_pixel(figure, ranges, row->cell->row.bits_per_element);
        const double y = y_pixel(figure, ranges, row->value);
        if (below >= 0) boxes[n++] = (struct kv_box){right - 2, below, right + 2, y};
        boxes[n++] = (struct kv_box){x, y - 2, right, y + 2};
        right = x, below = y;
    }
    return n;
}

static struct kv_label *make_labels(const struct figure *figure, const struct ranges *ranges,
                                    bool numbered)
{
    struct kv_label *labels = calloc(ranges->n + 1, sizeof *labels);
    struct kv_box *front = calloc(2 * (size_t)ranges->n + 1, sizeof *front);
    size_t n = 0;
    for (uint32_t r = 0; labels && r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row)) continue;
        const double letters = numbered ? (n + 1 < 10 ? 1 : 2) : (double)shown_length(row->label);
        labels[n++] = (struct kv_label){
            .x = x_pixel(figure, ranges, row->cell->row.bits_per_element),
            .y = y_pixel(figure, ranges, row->value),
            .bar_low = y_pixel(figure, ranges, low_of(figure, row)),
            .bar_high = y_pixel(figure, ranges, high_of(figure, row)),
            .width = letter_width * letters + 2, .height = 14};
    }
    if (labels && front) {
        kv_place_labels(labels, n, front, front_boxes(figure, ranges, front), area_width(figure),
                        area_height(figure));
    } else {
        free(labels);
        labels = NULL;
    }
    free(front);
    return labels;
}

static void write_label_texts(const struct figure *figure, const struct ranges *ranges,
                              const struct kv_label *labels, bool numbered)
{
    size_t n = 0;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row)) continue;
        const struct kv_label *label = &labels[n++];
        char number[16];
        snprintf(number, sizeof number, "%zu", n);
        fprintf(figure->data, "%.9g %.9g", x_value(figure, ranges, label->box.left),
                y_value(figure, ranges, (label->box.bottom + label->box.top) / 2));
        data_text(figure->data, numbered ? number : row->label);
        fprintf(figure->data, " %u\n", row->standing == KV_ON_FRONT ? 0x000000u : 0x777777u);
    }
    if (n == 0) fputs("NaN NaN \"\" 0\n", figure->data);
    end_block(figure->data);
}

/* From the point to the nearest place of its label's box. */
static void write_leaders(const struct figure *figure, const struct ranges *ranges,
                          const struct kv_label *labels)
{
    for (uint32_t n = 0; n < ranges->n; n++) {
        const struct kv_label *label = &labels[n];
        if (!label->far) continue;
        const double x = fmin(fmax(label->x, label->box.left - 2), label->box.right + 2);
        const double y = fmin(fmax(label->y, label->box.bottom + 1), label->box.top - 1);
        const double from_x = x_value(figure, ranges, label->x);
        const double from_y = y_value(figure, ranges, label->y);
        fprintf(figure->data, "%.9g %.9g %.9g %.9g\n", from_x, from_y,
                x_value(figure, ranges, x) - from_x, y_value(figure, ranges, y) - from_y);
    }
    fputs("NaN NaN NaN NaN\n", figure->data);
    end_block(figure->data);
}

static void write_key(const struct figure *figure, uint32_t n)
{
    uint32_t number = 0;
    char text[512];
    const double step = fmin(15 / (figure->height - 70), 1.0 / (n + 1));
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!drawn(row)) continue;
        snprintf(text, sizeof text, "%2u%s %.480s", number + 1,
                 row->standing == KV_ON_FRONT ? "*" : " ", row->label);
        fprintf(figure->data, "0.02 %.6f %d %u", 1 - (number + 0.5) * step,
                shape_of(&row->cell->row), point_colour(figure, row));
        data_text(figure->data, text);
        fputc('\n', figure->data);
        number++;
    }
}

static void write_families(const struct figure *figure)
{
    char words[128] = "", shapes[64] = "";
    for (size_t f = 0; f < N_FAMILIES; f++) {
        for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
            const struct kv_ranked *row = &figure->ranking->rows[r];
            if (!drawn(row) || family_of(&row->cell->row) != f) continue;
            snprintf(words + strlen(words), sizeof words - strlen(words), " %s", families[f].word);
            snprintf(shapes + strlen(shapes), sizeof shapes - strlen(shapes), " %d",
                     families[f].shape);
            break;
        }
    }
    fprintf(figure->script, "families = '%s'\nshapes = '%s'\n", words, shapes);
}

static void write_bit_tics(const struct figure *figure, const struct ranges *ranges)
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

static int write_quality(struct figure *figure)
{
    const bool by_dkl = figure->ranking->by_dkl;
    uint32_t n = 0;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) n += drawn(&figure->ranking->rows[r]);
    const bool numbered = n > MOST_NAMED;
    figure->left = 78, figure->right = numbered ? 340 : 18, figure->top = 84, figure->bottom = 62;
    figure->width = numbered ? 1180 : 900, figure->height = numbered ? 734 : 594;
    const struct ranges ranges = quality_ranges(figure);
    struct kv_label *labels = make_labels(figure, &ranges, numbered);
    if (!labels) return KV_EMEMORY;

    write_frame(figure, by_dkl ? "Quality against memory: estimated KL from the exact model"
                               : "Quality against memory: output error (no gradients)");
    set_text(figure->script, "y_label", by_dkl ? "dkl, nats per token (log scale)"
                                               : "output error, mean over layers (log scale)");
    fprintf(figure->script, "x_min = %.9g\nx_max = %.9g\ny_min = %.9g\ny_max = %.9g\n",
            ranges.x_min, ranges.x_max, ranges.y_min, ranges.y_max);
    const double floor_value = figure->ranking->floor;
    fprintf(figure->script, "floor_value = %.9g\nhas_key = %d\n",
            floor_value > ranges.y_min && floor_value < ranges.y_max ? floor_value : 0, numbered);
    write_log_tics(figure->script, "y_tics", ranges.y_min, ranges.y_max);
    write_bit_tics(figure, &ranges);
    write_families(figure);

    write_points(figure);
    write_front(figure, &ranges);
    write_label_texts(figure, &ranges, labels, numbered);
    write_leaders(figure, &ranges, labels);
    if (numbered) write_key(figure, n);
    free(labels);
    return KV_OK;
}

/* ---- rows of names, for the heat map and the bars ------------------------------------------ */

static double longest_label(const struct kv_ranking *ranking)
{
    size_t longest = 8;
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        const size_t length = shown_length(ranking->rows[r].label);
        if (length > longest) longest = length;
    }
    return 7.2 * (double)longest + 14;
}

static void size_rows(struct figure *figure, uint32_t n, double row_height)
{
    figure->left = longest_label(figure->ranking);
    figure->top = 88, figure->bottom = 62;
    figure->height = figure->top + figure->bottom + row_height * (n ? n : 1);
}

/* ---- layers -------------------------------------------------------------------------------- */

static bool has_layers(const struct kv_ranked *row)
{
    return row->standing != KV_UNMEASURED && row->cell->layers;
}

/* Rows under the floor would stretch the colours over decades that nobody compares. */
static void colour_range(const struct figure *figure, double *low, double *high)
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
    if (*high < *low * 2) *low /= 1.5, *high *= 1.5;
}

static void write_heat_row(const struct figure *figure, const struct kv_ranked *row, uint32_t at,
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

static void write_heat_names(const struct figure *figure)
{
    const struct kv_ranked *first = NULL;
    uint32_t at = 0;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!has_layers(row)) continue;
        if (!first) first = row;
        fprintf(figure->data, "%u", at++);
        data_text(figure->data, row->label);
        fputc('\n', figure->data);
    }
    end_block(figure->data);
    for (uint32_t l = 0; first && l < first->cell->n_layers; l++) {
        fprintf(figure->data, "%u", l);
        data_text(figure->data, or_empty(first->cell->layers[l].layer));
        fputc('\n', figure->data);
    }
}

static int write_layers(struct figure *figure)
{
    uint32_t n = 0, n_layers = 1;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        n += has_layers(row);
        if (has_layers(row) && row->cell->n_layers > n_layers) n_layers = row->cell->n_layers;
    }
    size_rows(figure, n, 22);
    figure->right = 90;
    const double cell = fmin(64, fmax(14, 900.0 / n_layers));
    figure->width = fmax(640, figure->left + figure->right + cell * n_layers);
    double low, high;
    colour_range(figure, &low, &high);
    write_frame(figure, "Output error by layer");
    fprintf(figure->script, "rows = %u\ncolumns = %u\nc_min = %.9g\nc_max = %.9g\n", n ? n : 1,
            n_layers, low, high);
    write_log_tics(figure->script, "c_tics", low, high);
    uint32_t at = 0;
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (has_layers(row)) {
            write_heat_row(figure, row, at++, low, high, area_width(figure) / n_layers > 42);
        }
    }
    end_block(figure->data);
    write_heat_names(figure);
    return KV_OK;
}

/* ---- position ------------------------------------------------------------------------------ */

enum { MOST_LINES = 12 };

static bool has_line(const struct kv_ranked *row)
{
    bool positive = row->standing != KV_UNMEASURED && row->standing != KV_UNDER_FLOOR;
    for (size_t b = 0; positive && b < KV_DEPTH_BINS; b++) {
        positive = row->cell->bin_error[b] > 0 && !isinf(row->cell->bin_error[b]);
    }
    return positive;
}

/* The front first, then the best of the others, until the lines can no longer be told apart. */
static void choose_lines(const struct figure *figure, bool *named)
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

static void write_lines(const struct figure *figure, const bool *named, bool which)
{
    for (uint32_t r = 0; r < figure->ranking->n_measured; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        if (!has_line(row) || named[r] != which) continue;
        for (size_t b = 0; b < KV_DEPTH_BINS; b++) {
            fprintf(figure->data, "%u %.9g %u\n", row->cell->bin_token[b], row->cell->bin_error[b],
                    colour_of(figure->results, &row->cell->row));
        }
        fputc('\n', figure->data);
    }
    fputs("NaN NaN 0\n", figure->data);
    end_block(figure->data);
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

static void write_line_labels(const struct figure *figure, const struct ranges *ranges,
                              const struct line_end *ends, size_t n, double last, double text_x)
{
    for (size_t i = 0; i < n; i++) {
        const struct kv_ranked *row = &figure->ranking->rows[ends[i].row];
        fprintf(figure->data, "%.9g %.9g", text_x, y_value(figure, ranges, ends[i].pixel));
        data_text(figure->data, row->label);
        fprintf(figure->data, " %u\n", colour_of(figure->results, &row->cell->row));
    }
    if (n == 0) fputs("NaN NaN \"\" 0\n", figure->data);
    end_block(figure->data);
    for (size_t i = 0; i < n; i++) {
        const double *errors = figure->ranking->rows[ends[i].row].cell->bin_error;
        fprintf(figure->data, "%.9g %.9g %.9g %.9g\n", last, errors[KV_DEPTH_BINS - 1],
                last + 0.9 * (text_x - last), y_value(figure, ranges, ends[i].pixel));
    }
    fputs("NaN NaN NaN NaN\n", figure->data);
    end_block(figure->data);
}

static struct ranges position_ranges(const struct figure *figure)
{
    const struct kv_ranking *ranking = figure->ranking;
    struct ranges ranges = {.x_min = INFINITY, .y_min = INFINITY};
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        const struct kv_cell *cell = ranking->rows[r].cell;
        for (size_t b = 0; has_line(&ranking->rows[r]) && b < KV_DEPTH_BINS; b++) {
            ranges.x_min = fmin(ranges.x_min, cell->bin_token[b]);
            ranges.x_max = fmax(ranges.x_max, cell->bin_token[b]);
            ranges.y_min = fmin(ranges.y_min, cell->bin_error[b]);
            ranges.y_max = fmax(ranges.y_max, cell->bin_error[b]);
        }
    }
    if (!(ranges.y_max > 0)) ranges = (struct ranges){0, 1, 0.001, 1, 0};
    if (!(ranges.x_max > ranges.x_min)) ranges.x_max = ranges.x_min + 1;
    const double room = pow(ranges.y_max / ranges.y_min, 0.05) * 1.1;
    ranges.y_min /= room, ranges.y_max *= room;
    return ranges;
}

static void write_token_tics(FILE *script, const struct ranges *ranges)
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

static int write_position(struct figure *figure)
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
    figure->left = 78, figure->right = 12, figure->top = 60, figure->bottom = 62;
    figure->width = 900, figure->height = 560;
    struct ranges ranges = position_ranges(figure);
    size_t n = 0, longest = 0, others = 0;
    for (uint32_t r = 0; r < n_rows; r++) {
        const struct kv_ranked *row = &figure->ranking->rows[r];
        others += has_line(row) && !named[r];
        if (!named[r]) continue;
        const double end = row->cell->bin_error[KV_DEPTH_BINS - 1];
        ends[n++] = (struct line_end){r, y_pixel(figure, &ranges, end), 0};
        if (shown_length(row->label) > longest) longest = shown_length(row->label);
    }
    qsort(ends, n, sizeof *ends, by_height);
    spread(ends, n, area_height(figure));

    char title[96];
    snprintf(title, sizeof title, others ? "Output error by position (grey: %zu more methods)"
                                         : "Output error by position", others);
    write_frame(figure, title);
    write_token_tics(figure->script, &ranges);
    const double last = ranges.x_max, span = last - ranges.x_min;
    const double text = letter_width * (double)longest + 34;
    ranges.x_max = last + span * text / (area_width(figure) - text);
    ranges.x_min -= 0.01 * span;
    fprintf(figure->script, "x_min = %.9g\nx_max = %.9g\ny_min = %.9g\ny_max = %.9g\n",
            ranges.x_min, ranges.x_max, ranges.y_min, ranges.y_max);
    write_log_tics(figure->script, "y_tics", ranges.y_min, ranges.y_max);
    write_lines(figure, named, true);
    write_line_labels(figure, &ranges, ends, n, last,
                      last + (ranges.x_max - last) * 24 / text);
    write_lines(figure, named, false);
    free(named);
    free(ends);
    return KV_OK;
}

/* ---- memory -------------------------------------------------------------------------------- */

static int smaller_first(const void *a, const void *b)
{
    const struct kv_ranked *const *left = a, *const *right = b;
    const double x = (*left)->cell->row.bits_per_element, y = (*right)->cell->row.bits_per_element;
    if (x != y) return x < y ? -1 : 1;
    return (*left)->cell < (*right)->cell ? -1 : 1;
}

static void write_bar(const struct figure *figure, const struct kv_row *row, uint32_t at)
{
    const int64_t bytes[] = {row->payload_bytes, row->metadata_bytes, row->residual_bytes,
                             row->basis_bytes};
    static const unsigned colours[] = {0x0072b2, 0xe69f00, 0x009e73, 0xcc79a7};
    const double scale = row->resident_bytes > 0
                       ? row->bits_per_element / (double)row->resident_bytes : 0;
    double from = 0;
    for (size_t c = 0; c < 4; c++) {
        const double width = bytes[c] > 0 ? (double)bytes[c] * scale : 0;
        fprintf(figure->data, "%.9g %.9g %u %u\n", from, from + width, at, colours[c]);
        from += width;
    }
}

static void write_bar_texts(const struct figure *figure, const struct kv_ranked **rows, uint32_t n)
{
    for (uint32_t r = 0; r < n; r++) {
        fprintf(figure->data, "%u", r);
        data_text(figure->data, rows[r]->label);
        fputc('\n', figure->data);
    }
    end_block(figure->data);
    for (uint32_t r = 0; r < n; r++) {
        const struct kv_row *row = &rows[r]->cell->row;
        const double scale = row->resident_bytes > 0
                           ? row->bits_per_element / (double)row->resident_bytes : 0;
        const double read = row->read_bytes_per_step > 0 ? row->read_bytes_per_step * scale : 0;
        fprintf(figure->data, "%.9g %u \"%.2f\"\n", fmax(read, row->bits_per_element), r,
                row->bits_per_element);
    }
    end_block(figure->data);
    for (uint32_t r = 0; r < n; r++) {
        const struct kv_row *row = &rows[r]->cell->row;
        if (!(row->read_bytes_per_step >= 0) || row->resident_bytes <= 0) continue;
        fprintf(figure->data, "%.9g %u\n",
                row->read_bytes_per_step * row->bits_per_element / (double)row->resident_bytes, r);
    }
    fputs("NaN NaN\n", figure->data);
}

static int write_memory(struct figure *figure)
{
    const struct kv_ranking *ranking = figure->ranking;
    const struct kv_ranked **rows = calloc(ranking->n_measured + 1, sizeof *rows);
    if (!rows) return KV_EMEMORY;
    uint32_t n = 0;
    double most = ranking->trace->element_bits;
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        if (isnan(ranking->rows[r].cell->row.bits_per_element)) continue;
        rows[n++] = &ranking->rows[r];
        most = fmax(most, ranking->rows[r].cell->row.bits_per_element);
    }
    qsort(rows, n, sizeof *rows, smaller_first);
    size_rows(figure, n, 20);
    figure->right = 24, figure->width = figure->left + 620;
    write_frame(figure, "Where the bits are: resident memory by class");
    fprintf(figure->script, "rows = %u\nx_max = %.9g\nx_step = %d\nrecorded_bits = %u\n", n ? n : 1,
            most * 1.1, most > 20 ? 4 : 2, ranking->trace->element_bits);
    for (uint32_t r = 0; r < n; r++) write_bar(figure, &rows[r]->cell->row, r);
    end_block(figure->data);
    write_bar_texts(figure, rows, n);
    free(rows);
    return KV_OK;
}

/* ---- all of them --------------------------------------------------------------------------- */

static int (*const writers[KV_FIGURES])(struct figure *) = {
    [KV_FIGURE_QUALITY] = write_quality, [KV_FIGURE_LAYERS] = write_layers,
    [KV_FIGURE_POSITION] = write_position, [KV_FIGURE_MEMORY] = write_memory,
};

struct figure_job { const struct kv_results *results; const struct kv_ranking *ranking;
                    enum kv_figure kind; FILE *script; };

static int write_figure(FILE *data, const void *what)
{
    const struct figure_job *job = what;
    struct figure figure = {.script = job->script, .data = data, .results = job->results,
                            .ranking = job->ranking};
    return writers[job->kind](&figure);
}

/* The data file of one figure and its part of the script. */
static int add_figure(const char *dir, struct figure_job *job, uint32_t trace, struct kv_error *err)
{
    char *base = NULL, *file = NULL;
    int status = kv_figure_file(&base, job->results, trace, job->kind);
    if (status == KV_OK) status = kv_text_set(&file, "%s.dat", base);
    if (status == KV_OK) {
        set_text(job->script, "base", "%s", base);
        status = kv_write_aside(dir, file, write_figure, job, err);
        fprintf(job->script, "load '%s.gp'\n\n", kv_figure_names[job->kind]);
    }
    free(base);
    free(file);
    return status;
}

static int write_text(FILE *file, const void *text)
{
    return fputs(text, file) == EOF ? KV_EENVIRONMENT : KV_OK;
}

static int add_figures(const char *dir, const struct kv_results *results, FILE *script,
                       struct kv_error *err)
{
    int status = KV_OK;
    fputs("# Draws every figure of this run: gnuplot figures.gp\n", script);
    for (uint32_t t = 0; status == KV_OK && t < results->n_traces; t++) {
        struct kv_ranking ranking;
        status = kv_rank(&ranking, results, t);
        if (status != KV_OK) return kv_fail(err, status, "plots: out of memory");
        for (int f = 0; ranking.n_measured && status == KV_OK && f < KV_FIGURES; f++) {
            struct figure_job job = {results, &ranking, f, script};
            status = add_figure(dir, &job, t, err);
        }
        kv_ranking_free(&ranking);
    }
    return status;
}

int kv_write_plot_data(const char *dir, const struct kv_results *results, struct kv_error *err)
{
    char *text = NULL;
    size_t length = 0;
    FILE *script = open_memstream(&text, &length);
    if (!script) return kv_fail(err, KV_EMEMORY, "plots: out of memory");
    int status = add_figures(dir, results, script, err);
    if (fclose(script) != 0 && status == KV_OK) {
        status = kv_fail(err, KV_EMEMORY, "plots: out of memory");
    }
    if (status == KV_OK) status = kv_write_aside(dir, "figures.gp", write_text, text, err);
    free(text);
    for (size_t s = 0; status == KV_OK && kv_plot_scripts[s].name; s++) {
        status = kv_write_aside(dir, kv_plot_scripts[s].name, write_text, kv_plot_scripts[s].text, err);
    }
    return status;
}
