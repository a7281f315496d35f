/* Sorting of floats, and k-means of points in any order. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "methods/parts/kmeans.h"
#include "methods/parts/sort.h"

enum { MOST = 3000, SHAPES = 6 };

/* Rising, falling, up and down, equal, few values, mixed. */
static float shaped(int shape, size_t i, size_t n)
{
    switch (shape) {
    case 0:
        return (float)i;
    case 1:
        return -(float)i;
    case 2:
        return (float)(i < n / 2 ? i : n - i);
    case 3:
        return 1;
    case 4:
        return (float)(i * 7 % 3) - 1;
    default:
        return (float)(i * 2654435761u % 1009) - 500;
    }
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

Test(sort, floats_come_in_the_order_of_qsort_whatever_their_shape)
{
    static float ours[MOST], theirs[MOST];
    for (int shape = 0; shape < SHAPES; shape++)
        for (size_t n = 0; n <= MOST; n = n < 40 ? n + 1 : n * 3 / 2) {
            for (size_t i = 0; i < n; i++) ours[i] = theirs[i] = shaped(shape, i, n);
            kv_sort_floats(ours, n);
            qsort(theirs, n, sizeof *theirs, by_value);
            cr_assert(!memcmp(ours, theirs, n * sizeof *ours), "shape %d, n %zu", shape, n);
        }
}

Test(sort, k_means_of_points_do_not_depend_on_their_order)
{
    static struct kv_weighted one[MOST], other[MOST];
    double means[8], others[8];
    for (int shape = 0; shape < SHAPES; shape++) {
        for (size_t i = 0; i < MOST; i++) {
            const double value = (double)shaped(shape, i, MOST) / 3, weight = (double)(i * 13 % 17);
            one[i] = other[i * 1999 % MOST] =
                (struct kv_weighted){.value = value, .weight = weight};
        }
        kv_kmeans(one, MOST, 8, means);
        kv_kmeans(other, MOST, 8, others);
        cr_assert(!memcmp(means, others, sizeof means), "shape %d", shape);
        for (size_t i = 1; i < MOST; i++) cr_assert(one[i].value >= one[i - 1].value);
    }
}
