#include "methods/parts/kmeans.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 300, DIGIT = 11, DIGITS = 1 << DIGIT };

static int by_value(const void *a, const void *b)
{
    const struct kv_weighted *x = a, *y = b;
    if (x->value < y->value || x->value > y->value) return x->value < y->value ? -1 : 1;
    return (x->weight > y->weight) - (x->weight < y->weight);
}

/* Unsigned numbers in the order of finite values. */
static uint64_t rank_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}

/* One stable pass by the digit at `shift`; false when all have the same, and nothing was moved. */
static bool sort_digit(const struct kv_weighted *from, size_t n, uint32_t shift,
                       struct kv_weighted *to)
{
    size_t starts[DIGITS] = {0}, sum = 0;
    for (size_t i = 0; i < n; i++) starts[rank_of(from[i].value) >> shift & (DIGITS - 1)]++;
    for (int d = 0; d < DIGITS; d++) {
        if (starts[d] == n) return false;
        const size_t many = starts[d];
        starts[d] = sum, sum += many;
    }
    for (size_t i = 0; i < n; i++)
        to[starts[rank_of(from[i].value) >> shift & (DIGITS - 1)]++] = from[i];
    return true;
}

/* By value digit by digit, then runs of equal values by weight; without memory for a copy, by
 * qsort. */
static void sort(struct kv_weighted *points, size_t n)
{
    size_t sorted = 1;
    while (sorted < n && by_value(points + sorted - 1, points + sorted) <= 0) sorted++;
    if (sorted >= n) return;
    struct kv_weighted *copy = malloc(n * sizeof *copy), *from = points, *to = copy;
    for (uint32_t shift = 0; copy && shift < 64; shift += DIGIT)
        if (sort_digit(from, n, shift, to)) {
            struct kv_weighted *swap = from;
            from = to, to = swap;
        }
    if (from != points) memcpy(points, copy, n * sizeof *points);
    for (size_t first = 0, end; copy && first < n; first = end) {
        for (end = first + 1; end < n && !(points[end].value > points[first].value);) end++;
        if (end - first > 1) qsort(points + first, end - first, sizeof *points, by_value);
    }
    if (!copy) qsort(points, n, sizeof *points, by_value);
    free(copy);
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
    sort(points, n);
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
