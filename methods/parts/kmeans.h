/* One-dimensional weighted k-means, as a codebook of few values: Lloyd's iteration, whose cells are
 * runs of the sorted values, so that a step costs k log n.
 *
 * Start: the (i + 1/2) / k quantiles by the square root of the weights (the best codebook of a
 * density f has points as f^(1/3); a root of the weights keeps one heavy value from taking all
 * points, and is the same on every CPU). A value at the middle of two points belongs to the lower;
 * a point without values stays. Ends when no cell changes, after 300 steps at most. */
#ifndef KVBENCH_METHODS_PARTS_KMEANS_H
#define KVBENCH_METHODS_PARTS_KMEANS_H

#include <stddef.h>
#include <stdint.h>

struct kv_weighted {
    double value, weight; /* weight >= 0; all 0 counts as all equal */
    double mass, moment;  /* scratch: sums up to and including this one */
};

enum { KV_MOST_MEANS = 256 };

/* Sorts points (n > 0); means [k], ascending, k <= KV_MOST_MEANS. */
void kv_kmeans(struct kv_weighted *points, size_t n, uint32_t k, double *means);

#endif
