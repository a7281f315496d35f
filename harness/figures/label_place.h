/* Where labels of a scatter plot go so that they cover neither points nor each other. All in
 * pixels, y upwards, origin at the lower left of the plot area. */
#ifndef KVBENCH_HARNESS_FIGURES_LABEL_PLACE_H
#define KVBENCH_HARNESS_FIGURES_LABEL_PLACE_H

#include <stdbool.h>
#include <stddef.h>

struct kv_box { double left, bottom, right, top; };

struct kv_label {
    double x, y;                  /* of the point it belongs to */
    double bar_low, bar_high;     /* its error bar */
    double width, height;         /* of the text */
    struct kv_box box;            /* out: where the text goes */
    bool far;                     /* out: far enough to need a line to its point */
};

/* Greedy, then improved a few times over; deterministic. Labels that come first choose first.
 * They keep off the lines (n_lines thin boxes) where they can. */
void kv_place_labels(struct kv_label *labels, size_t n, const struct kv_box *lines, size_t n_lines,
                     double area_width, double area_height);

#endif
