/* What all figures share: texts, colours, shapes, frames, axes; see figure.h. Text from a trace reaches
 * gnuplot in single quotes or in data files only, where nothing is executed. */
#include "harness/figures/figure.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "harness/output/row.h"
#include "harness/output/tables/short_number.h"
#include "harness/output/tables/table_notes.h"

const char *const kv_figure_names[KV_FIGURES] = {"quality", "layers", "position", "memory"};

/* ---- names and quoting --------------------------------------------------------------------- */

const char *kv_or_empty(const char *text)
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
    safe_name(name, sizeof name, kv_or_empty(results->traces[trace].name));
    for (uint32_t t = 0; t < trace; t++) {
        safe_name(other, sizeof other, kv_or_empty(results->traces[t].name));
        number += strcmp(name, other) == 0;
    }
    if (number == 1) return kv_text_set(out, "%s-%s", kv_figure_names[figure], name);
    return kv_text_set(out, "%s-%s-%u", kv_figure_names[figure], name, number);
}

/* A gnuplot string: in single quotes nothing is special but the quote, which is doubled. */
void kv_figure_set_text(FILE *script, const char *name, const char *format, ...)
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
void kv_figure_data_text(FILE *data, const char *text)
{
    enum { LONGEST = 48 }; /* what the column of a numbered figure has room for */
    const size_t length = strlen(text);
    fputs(" \"", data);
    for (size_t i = 0; i < length && i < (length > LONGEST ? LONGEST - 3 : length); i++) {
        const bool special = text[i] == '"' || text[i] == '\\' || (unsigned char)text[i] < 0x20;
        fputc(special ? '_' : text[i], data);
    }
    fputs(length > LONGEST ? "...\"" : "\"", data);
}

size_t kv_figure_shown_length(const char *text)
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
enum { N_COLOURS = sizeof palette / sizeof palette[0], GREY = 0x555555 };

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
unsigned kv_figure_colour(const struct kv_results *results, const struct kv_row *row)
{
    if (strcmp(kv_or_empty(row->family), "exact") == 0) return GREY;
    char wanted[128], (*names)[128] = calloc(results->n_specs + 1, sizeof *names);
    bool taken[N_COLOURS] = {false};
    unsigned colour = 0, n_taken = 0;
    base_name(kv_or_empty(row->method), wanted);
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

const struct kv_figure_family kv_figure_families[KV_FIGURE_FAMILIES] = {
    {"exact", "exact", 4},          {"quantizer", "quantizer", 7}, {"evictor", "evictor", 9},
    {"sparse reader", "sparse-reader", 13}, {"low rank", "low-rank", 5}, {"hybrid", "hybrid", 15},
    {"state", "state", 11},
};

size_t kv_figure_family(const struct kv_row *row)
{
    size_t f = 0;
    while (f < KV_FIGURE_FAMILIES && strcmp(kv_figure_families[f].family, kv_or_empty(row->family)) != 0) f++;
    return f;
}

int kv_figure_shape(const struct kv_row *row)
{
    const size_t f = kv_figure_family(row);
    const int shape = f < KV_FIGURE_FAMILIES ? kv_figure_families[f].shape : 6;
    return shape % 2 && kv_figure_on_host(row) ? shape - 1 : shape;
}

bool kv_figure_on_host(const struct kv_row *row)
{
    return row->offloaded_bytes > 0;
}

bool kv_figure_is_exact(const struct kv_ranked *row)
{
    static const double rounding = 1e-6;   /* a few times 2^-23 of an answer's length */
    return row->standing == KV_UNDER_FLOOR || !(row->value > 0) || row->cell->row.output_error < rounding;
}

/* ---- a figure ------------------------------------------------------------------------------ */

double kv_figure_area_width(const struct kv_figure_page *figure)
{
    return figure->width - figure->left - figure->right;
}

double kv_figure_area_height(const struct kv_figure_page *figure)
{
    return figure->height - figure->top - figure->bottom;
}

void kv_figure_frame(const struct kv_figure_page *figure, const char *title)
{
    const struct kv_results *results = figure->results;
    const struct kv_trace_summary *trace = figure->ranking->trace;
    FILE *script = figure->script;
    fprintf(script, "width = %.0f\nheight = %.0f\n", figure->width, figure->height);
    fprintf(script, "area_left = %.6f\narea_right = %.6f\narea_bottom = %.6f\narea_top = %.6f\n",
            figure->left / figure->width, 1 - figure->right / figure->width,
            figure->bottom / figure->height, 1 - figure->top / figure->height);
    kv_figure_set_text(script, "title", "%s", title);
    char layers[48];
    kv_print_layer_share(layers, trace);
    kv_figure_set_text(script, "subtitle", "%s: %s, %u tokens (%u prefill), %s; open loop",
             kv_or_empty(trace->name), kv_or_empty(trace->model), trace->tokens, trace->prefill, layers);
    kv_figure_set_text(script, "stamp", "trace %.21s  %s  kvbench %s", kv_or_empty(trace->hash),
             kv_or_empty(results->isa), results->code_version);
}

/* 0.001 but 1e-4. */
static void short_tic(char text[24], double value)
{
    if (value < 0.0009 || value > 9999) kv_short_real(text, value);
    else snprintf(text, 24, "%g", value);
    char *tenths = strstr(text, ".0e");
    if (tenths) memmove(tenths, tenths + 2, strlen(tenths + 1));
}

void kv_figure_end_block(FILE *data)
{
    fputs("\n\n", data);
}

void kv_figure_log_tics(FILE *script, const char *name, double low, double high, double pixels,
                        double gap)
{
    static const struct { double closest; const char *steps; } scales[] = {
        {0.079, "1 1.2 1.5 2 2.5 3 4 5 6 8 "}, {0.146, "1 1.5 2 3 5 7 "}, {0.301, "1 2 5 "}, {1, "1 "}};
    enum { COARSEST = sizeof scales / sizeof scales[0] - 1 };
    const double decade_pixels = pixels / log10(high / low);
    const int first = (int)floor(log10(low)), last = (int)ceil(log10(high));
    const int every = (int)ceil(gap / decade_pixels);
    size_t s = 0;
    while (s < COARSEST && scales[s].closest * decade_pixels < gap) s++;
    const char *between = "";
    fprintf(script, "%s = \"", name);
    for (int decade = first; decade <= last; decade += every) {
        char *end;
        for (const char *at = scales[s].steps; *at; at = end + 1) {
            const double value = strtod(at, &end) * pow(10, decade);
            char text[24];
            short_tic(text, value);
            fprintf(script, "%s'%s' %.6g", between, text, value);
            between = ", ";
        }
    }
    fputs("\"\n", script);
}

/* ---- pixels -------------------------------------------------------------------------------- */

double kv_figure_x_pixel(const struct kv_figure_page *figure, const struct kv_ranges *ranges, double bits)
{
    return kv_figure_area_width(figure) * log(bits / ranges->x_min) / log(ranges->x_max / ranges->x_min);
}

double kv_figure_y_pixel(const struct kv_figure_page *figure, const struct kv_ranges *ranges, double value)
{
    return kv_figure_area_height(figure) * log(value / ranges->y_min) / log(ranges->y_max / ranges->y_min);
}

double kv_figure_x_value(const struct kv_figure_page *figure, const struct kv_ranges *ranges, double pixel)
{
    return ranges->x_min * pow(ranges->x_max / ranges->x_min, pixel / kv_figure_area_width(figure));
}

double kv_figure_y_value(const struct kv_figure_page *figure, const struct kv_ranges *ranges, double pixel)
{
    return ranges->y_min * pow(ranges->y_max / ranges->y_min, pixel / kv_figure_area_height(figure));
}

/* ---- rows of names, for the heat map and the bars ------------------------------------------ */

static double longest_label(const struct kv_ranking *ranking)
{
    size_t longest = 8;
    for (uint32_t r = 0; r < ranking->n_measured; r++) {
        const size_t length = kv_figure_shown_length(ranking->rows[r].label);
        if (length > longest) longest = length;
    }
    return 7.2 * (double)longest + 14;
}

void kv_figure_size_rows(struct kv_figure_page *figure, uint32_t n, double row_height, double top)
{
    figure->left = longest_label(figure->ranking);
    figure->top = top, figure->bottom = 70;
    figure->height = figure->top + figure->bottom + row_height * (n ? n : 1);
}
