#include "methods/parts/sort.h"

#include <stdlib.h>

enum { FEW = 16 };

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void insert_all(float *x, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const float value = x[i];
        size_t at = i;
        for (; at > 0 && x[at - 1] > value; at--) x[at] = x[at - 1];
        x[at] = value;
    }
}

static float middle_of(float a, float b, float c)
{
    const float low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

/* Hoare's partition: the first `result` are at most the pivot, the others at least. Neither part is
 * empty: the pivot is no sole maximum at the end, since another of three is as large. */
static size_t part(float *x, size_t n)
{
    const float pivot = middle_of(x[0], x[n / 2], x[n - 1]);
    for (size_t low = 0, high = n - 1;; low++, high--) {
        while (x[low] < pivot) low++;
        while (x[high] > pivot) high--;
        if (low >= high) return high + 1;
        const float swap = x[low];
        x[low] = x[high], x[high] = swap;
    }
}

/* What 2 log n unlucky pivots leave is qsort's: no input takes n^2. */
static void sort(float *x, size_t n, int depth)
{
    while (n > FEW && depth-- > 0) {
        const size_t first = part(x, n);
        if (first < n - first) {
            sort(x, first, depth);
            x += first, n -= first;
        } else {
            sort(x + first, n - first, depth);
            n = first;
        }
    }
    if (n > FEW)
        qsort(x, n, sizeof *x, by_value);
    else
        insert_all(x, n);
}

void kv_sort_floats(float *x, size_t n)
{
    int depth = 0;
    for (size_t left = n; left; left /= 2) depth += 2;
    sort(x, n, depth);
}
