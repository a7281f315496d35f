/* The plot of `memory`: bytes against the context, one curve a model and method. DIR gets the data,
 * the scripts and the drawing; a missing gnuplot is said on stderr and is no error. */
#ifndef KVBENCH_HARNESS_MEMORY_MEMORY_PLOT_H
#define KVBENCH_HARNESS_MEMORY_MEMORY_PLOT_H

#include "harness/memory/memory.h"

struct kv_memory_plot;

int kv_memory_plot_open(struct kv_memory_plot **out, const char *dir, struct kv_error *err);
int kv_memory_plot_add(struct kv_memory_plot *plot, const char *model, const char *method,
                       struct kv_memory *memory, int64_t weights, struct kv_error *err);
int kv_memory_plot_draw(struct kv_memory_plot *plot, struct kv_error *err);
void kv_memory_plot_close(struct kv_memory_plot *plot);

#endif
