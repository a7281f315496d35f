/* Plots of a run, drawn by one gnuplot process from data files that stay beside the figures,
 * with the scripts: `cd DIR/plots && gnuplot figures.gp` draws them again, restyled if need be. */
#ifndef KVBENCH_HARNESS_PLOT_H
#define KVBENCH_HARNESS_PLOT_H

#include <stdio.h>

#include "harness/base/status.h"
#include "harness/results.h"

enum kv_figure { KV_FIGURE_QUALITY, KV_FIGURE_LAYERS, KV_FIGURE_POSITION, KV_FIGURE_MEMORY, KV_FIGURES };
extern const char *const kv_figure_names[KV_FIGURES];

/* Writes DIR/plots. *left_out (may be NULL; free it) is NULL, or the figures that could not be
 * drawn and why, as one line: a missing gnuplot is no error. KV_OK, KV_EENVIRONMENT, KV_EMEMORY. */
int kv_plot_results(const char *dir, const struct kv_results *results, char **left_out,
                    struct kv_error *err);

/* A figure's file name without ending: "quality-NAME"; NAME is safe in paths and scripts, and
 * unique among the run's traces. KV_OK or KV_EMEMORY. */
int kv_figure_file(char **out, const struct kv_results *results, uint32_t trace,
                   enum kv_figure figure);

/* Runs gnuplot on the figures.gp of a folder: NULL when all was drawn, else why not. */
const char *kv_plot_run(const char *dir);

/* Writes all data files and figures.gp into an existing folder. */
int kv_write_plot_data(const char *dir, const struct kv_results *results, struct kv_error *err);

/* The scripts of plots/, as built in. */
struct kv_plot_script { const char *name, *text; };
extern const struct kv_plot_script kv_plot_scripts[];     /* ends with a NULL name */

#endif
