#include "methods/parts/kmeans.h"

#include <math.h>
#include <stdlib.h>

enum { STEPS = 300 };

static int by_value(const void *a, const void *b)
{
    const struct kv_weighted *x = a, *y = b;
    if (x->value < y->value || x->value > y->value) return x->value < y->value ? -1 : 1;
    return (x->weight > y->weight) - (x->weight < y->weight);
}

static void start(struct kv_weighted *points, size_t n, uint32_t k, double *means)
{
    double total = 0, sum = 0;
    for (size_t i = 0; i < n; i++) total += sqrt(points[i].weight);
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++) {
        sum += sqrt(points[i].weight);
        while (found < k && sum >= total * (2 * found + 1) / (2 * k))
            means[found++] = points[i].value;
    }
    while (found < k) means[found++] = points[n - 1].value;
}

/* How many points lie at or below the limit. */
static size_t count_below(const struct kv_weighted *points, size_t n, double limit)
{
    size_t low = 0, high = n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (points[middle].value <= limit)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void kv_kmeans(struct kv_weighted *points, size_t n, uint32_t k, double *means)
{
    size_t ends[KV_MOST_MEANS] = {0};
    double mass = 0, moment = 0, any = 0;
    for (size_t i = 0; i < n; i++) any += points[i].weight;
    for (size_t i = 0; i < n && !(any > 0); i++) points[i].weight = 1;
    qsort(points, n, sizeof *points, by_value);
    for (size_t i = 0; i < n; i++) {
        points[i].mass = mass += points[i].weight;
        points[i].moment = moment += points[i].weight * points[i].value;
    }
    start(points, n, k, means);
    for (int step = 0, changed = 1; changed && step < STEPS; step++) {
        changed = 0;
        for (uint32_t i = 0; i < k; i++) {
            const size_t end =
                i + 1 < k ? count_below(points, n, 0.5 * (means[i] + means[i + 1])) : n;
            changed |= end != ends[i];
            ends[i] = end;
        }
        for (uint32_t i = 0; i < k; i++) {
            const size_t first = i ? ends[i - 1] : 0;
            if (ends[i] <= first) continue;
            const double before = first ? points[first - 1].mass : 0,
                         up_to = first ? points[first - 1].moment : 0;
            const double share = points[ends[i] - 1].mass - before;
            if (share > 0) means[i] = (points[ends[i] - 1].moment - up_to) / share;
        }
    }
}
