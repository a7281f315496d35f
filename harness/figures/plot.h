/* Plots of a run, drawn by gnuplot from data files that stay beside the figures,
 * with the scripts: `cd DIR/plots && gnuplot figures.gp` draws them again, restyled if need be. */
#ifndef KVBENCH_HARNESS_FIGURES_PLOT_H
#define KVBENCH_HARNESS_FIGURES_PLOT_H

#include <stdio.h>

#include "harness/base/status.h"
#include "harness/figures/figure.h"
#include "harness/run/journal/results.h"

/* Writes DIR/plots. *left_out (may be NULL; free it) is NULL, or the figures that could not be
 * drawn and why, as one line: a missing gnuplot is no error. KV_OK, KV_EENVIRONMENT, KV_EMEMORY. */
int kv_plot_results(const char *dir, const struct kv_results *results, char **left_out,
                    struct kv_error *err);

/* Writes a script of plots/ into a folder. */
int kv_plot_write_script(const char *dir, const char *name, struct kv_error *err);

/* Processes that draw a run's figures, each those of its share. */
enum { KV_PLOT_SHARES = 2 };

/* Runs gnuplot on the figures.gp of a folder, `shares` times at once with share = 0, 1, ...: NULL
 * when all was drawn, else why not. */
const char *kv_plot_run(const char *dir, int shares);

/* Writes all data files and figures.gp into an existing folder. */
int kv_write_plot_data(const char *dir, const struct kv_results *results, struct kv_error *err);

/* The scripts of plots/, as built in. */
struct kv_plot_script { const char *name, *text; };
extern const struct kv_plot_script kv_plot_scripts[];     /* ends with a NULL name */

#endif
