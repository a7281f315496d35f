/* One figure on its way to gnuplot: its page, its texts and colours, and where values are in pixels. A
 * figure writes numbers into its data file and names, ranges and texts into the script. */
#ifndef KVBENCH_HARNESS_FIGURES_FIGURE_H
#define KVBENCH_HARNESS_FIGURES_FIGURE_H

#include <stdbool.h>
#include <stdio.h>

#include "harness/base/status.h"
#include "harness/output/tables/rank.h"

enum kv_figure { KV_FIGURE_QUALITY, KV_FIGURE_LAYERS, KV_FIGURE_POSITION, KV_FIGURE_MEMORY, KV_FIGURES };
extern const char *const kv_figure_names[KV_FIGURES];

/* A figure's file name without ending: "quality-NAME"; NAME is safe in paths and scripts, and
 * unique among the run's traces. KV_OK or KV_EMEMORY. */
int kv_figure_file(char **out, const struct kv_results *results, uint32_t trace,
                   enum kv_figure figure);

struct kv_figure_page {
    FILE *script, *data;
    const struct kv_results *results;
    const struct kv_ranking *ranking;
    double width, height, left, right, top, bottom; /* of the plot area, pixels from the edges */
};

/* One file each; KV_OK or KV_EMEMORY. */
int kv_figure_quality(struct kv_figure_page *page);
int kv_figure_layers(struct kv_figure_page *page);
int kv_figure_position(struct kv_figure_page *page);
int kv_figure_memory(struct kv_figure_page *page);

/* -- texts -- */
const char *kv_or_empty(const char *text);
/* A gnuplot string: in single quotes nothing is special but the quote, which is doubled. */
void kv_figure_set_text(FILE *script, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A string in a data file; too long ones are cut, to this many characters. */
void kv_figure_data_text(FILE *data, const char *text);
size_t kv_figure_shown_length(const char *text);
void kv_figure_end_block(FILE *data);
static const double kv_letter_width = 7.1; /* pixels, mean of DejaVu Sans at 10; others are narrower */

/* -- colours and shapes: a colour follows from the method's name, a shape from its family -- */
enum { KV_FIGURE_FAMILIES = 7, KV_FIGURE_FADED = 0x90 };   /* alpha of what is off the front */
struct kv_figure_family { const char *family, *word; int shape; };
extern const struct kv_figure_family kv_figure_families[KV_FIGURE_FAMILIES];
unsigned kv_figure_colour(const struct kv_results *results, const struct kv_row *row);
size_t kv_figure_family(const struct kv_row *row);   /* KV_FIGURE_FAMILIES: none of them */
/* That of its family: filled, or open where rows lie on the host (where=host), which are in no bits. */
int kv_figure_shape(const struct kv_row *row);
bool kv_figure_on_host(const struct kv_row *row);

/* -- what a logarithmic axis of errors has a place for -- */
/* No error, none beyond the f16 copy's, or one of the size of 32-bit rounding, which would stretch the axis. */
bool kv_figure_is_exact(const struct kv_ranked *row);

/* -- the page -- */
double kv_figure_area_width(const struct kv_figure_page *page);
double kv_figure_area_height(const struct kv_figure_page *page);
void kv_figure_frame(const struct kv_figure_page *page, const char *title);
/* Rows with names at the left, as in the heat map and the bars; top: what title and key take. */
void kv_figure_size_rows(struct kv_figure_page *page, uint32_t n, double row_height, double top);

/* -- logarithmic axes -- */
struct kv_ranges { double x_min, x_max, y_min, y_max; uint32_t n; };
/* NAME = labels at round values, as close as `gap` pixels allow on an axis of so many pixels. */
void kv_figure_log_tics(FILE *script, const char *name, double low, double high, double pixels,
                        double gap);
double kv_figure_x_pixel(const struct kv_figure_page *page, const struct kv_ranges *ranges, double bits);
double kv_figure_y_pixel(const struct kv_figure_page *page, const struct kv_ranges *ranges, double value);
double kv_figure_x_value(const struct kv_figure_page *page, const struct kv_ranges *ranges, double pixel);
double kv_figure_y_value(const struct kv_figure_page *page, const struct kv_ranges *ranges, double pixel);

#endif
