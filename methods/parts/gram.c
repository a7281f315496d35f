#include "methods/parts/gram.h"

#include <stdbool.h>
#include <string.h>

enum { LINE = KV_PRODUCT_LINE, LINES = 28 }; /* lines that are doubles at a time: what a frame has room for */

static uint32_t at_most(size_t n, uint32_t most) { return n < most ? (uint32_t)n : most; }

/* Rows' columns from `first` on, LINE at most of `dim`; those that are not there stay 0. */
struct lines {
    double x[LINES][LINE];
};

static void take_lines(struct lines *lines, const float *rows, uint32_t n, size_t stride, uint32_t first, uint32_t dim,
                       const float *shift)
{
    const uint32_t columns = at_most(dim - first, LINE);
    for (uint32_t i = 0; i < n; i++, rows += stride) {
        for (uint32_t c = 0; c < columns; c++)
            lines->x[i][c] = shift ? (double)rows[first + c] - shift[first + c] : (double)rows[first + c];
        for (uint32_t c = columns; c < LINE; c++) lines->x[i][c] = 0;
    }
}

static void copy_square(const double *from, size_t from_stride, double *to, size_t to_stride, uint32_t rows,
                        uint32_t columns)
{
    for (uint32_t r = 0; r < rows; r++, from += from_stride, to += to_stride)
        memcpy(to, from, columns * sizeof *to);
}

/* The square of sums whose first is matrix[r][c]. */
static void add_square(const struct kv_kernels *kernels, const struct lines *x, const struct lines *y, uint32_t n,
                       bool exact, double *matrix, uint32_t r, uint32_t c, uint32_t dim)
{
    const uint32_t rows = at_most(dim - r, LINE), columns = at_most(dim - c, LINE);
    double *sums = matrix + (size_t)r * dim + c, square[LINE * LINE];
    if (rows == LINE && columns == LINE) {
        kernels->add_products(x->x[0], y->x[0], n, exact, sums, dim);
        return;
    }
    memset(square, 0, sizeof square);
    copy_square(sums, dim, square, LINE, rows, columns);
    kernels->add_products(x->x[0], y->x[0], n, exact, square, LINE);
    copy_square(square, LINE, sums, dim, rows, columns);
}

void kv_add_gram(const struct kv_kernels *kernels, const float *rows, size_t n, size_t stride, uint32_t dim,
                 const float *shift, double *matrix)
{
    struct lines x, y;
    for (size_t i = 0; i < n; i += LINES) {
        const uint32_t some = at_most(n - i, LINES);
        const float *first = rows + i * stride;
        for (uint32_t c = 0; c < dim; c += LINE) {
            take_lines(&y, first, some, stride, c, dim, shift);
            for (uint32_t r = 0; r < c; r += LINE) {
                take_lines(&x, first, some, stride, r, dim, shift);
                add_square(kernels, &x, &y, some, !shift, matrix, r, c, dim);
            }
            add_square(kernels, &y, &y, some, !shift, matrix, c, c, dim);
        }
    }
}

void kv_finish_gram(double *matrix, uint32_t dim)
{
    for (uint32_t r = 0; r < dim; r++)
        for (uint32_t c = 0; c < r; c++) matrix[(size_t)r * dim + c] = matrix[(size_t)c * dim + r];
}
