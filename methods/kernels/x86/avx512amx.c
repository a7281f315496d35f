/* What the AVX-512 sets do better with tiles of bfloats (AMX): products of many rows. */
#define KERNEL(name) name##_avx512amx

#include <float.h>
#include <stdbool.h>

#include "methods/kernels/kernels.h"
#include "methods/kernels/sets.h"
#include "methods/kernels/x86/bfloat_cells.h"

enum { SLAB = 2 }; /* cells of depth that rows are split for at a time: they, and the cells they meet, stay in L1 */

static uint32_t at_most(uint32_t n, uint32_t most) { return n < most ? n : most; }

static void KERNEL(ready_keys)(const float *panels, uint32_t columns, uint32_t dim, float *ready)
{
    enum { PANEL = TILE_VECS * LANES };
    struct cell *cell = (struct cell *)(void *)ready;
    for (uint32_t j = 0; j < columns; j += CELL)
        for (uint32_t c = 0; c < dim; c += CELL) {
            const float *at = panels + (size_t)(j / PANEL) * PANEL * dim + (size_t)c * PANEL + j % PANEL;
            const struct patch steps = patch_of(at, PANEL, at_most(dim - c, CELL), CELL);
            split_columns(&steps, cell++);
        }
}

static void KERNEL(ready_values)(const float *values, uint32_t n, uint32_t dim, float *ready)
{
    struct cell *cell = (struct cell *)(void *)ready;
    for (uint32_t j = 0; j < n; j += CELL)
        for (uint32_t c = 0; c < dim; c += CELL) {
            const struct patch steps = patch_of(values + (size_t)j * dim + c, dim, at_most(n - j, CELL),
                                                at_most(dim - c, CELL));
            split_columns(&steps, cell++);
        }
}

/* c [rows][columns] = factor * (a b) over `depth`, or c + a b where a are weights. */
struct cells_product {
    const float *a;
    size_t a_stride;
    float factor;
    const struct cell *b;
    size_t b_deeper, b_beside; /* cells from one of b to the next in depth, and of columns */
    float *c;
    size_t c_stride;
    uint32_t rows, depth, columns;
    bool weights;              /* of all parts, as they nearly always are; c has sums already */
};

/* Tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 columns. */
static void begin_tiles(void)
{
    static const struct {
        uint8_t palette, first_row, none[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shapes = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&shapes);
}

ALWAYS_INLINE void take_rows(const struct cell *a, uint32_t part)
{
    _tile_loadd(4, a->part[part][0], 64);
    _tile_loadd(5, a->part[part][1], 64);
}

ALWAYS_INLINE void take_columns(const struct cell *b, uint32_t part)
{
    _tile_loadd(6, b->part[part][0], 64);
    _tile_loadd(7, b->part[part][1], 64);
}

ALWAYS_INLINE void add_products(void)
{
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

/* The products of a cell, small ones first, each part loaded as seldom as can be. */
ALWAYS_INLINE void multiply_cells(const struct cell *a, const struct cell *b)
{
    take_rows(a, 0);
    if (b->parts > 2) {
        take_columns(b, 2);
        add_products();
    }
    if (b->parts > 1) {
        take_columns(b, 1);
        add_products();
    }
    if (a->parts > 1) {
        take_rows(a, 1);
        if (b->parts > 1) add_products();
        take_columns(b, 0);
        add_products();
        if (a->parts > 2) {
            take_rows(a, 2);
            add_products();
        }
        take_rows(a, 0);
    } else {
        take_columns(b, 0);
    }
    add_products();
}

/* 32 x 32 sums at c, over `cells` of depth. */
ALWAYS_INLINE void multiply_square(const struct cell *a, const struct cell *b, size_t deeper, uint32_t cells,
                                   bool adding, float *c, size_t stride)
{
    const int bytes = (int)(stride * sizeof *c);
    if (adding) {
        _tile_loadd(0, c, bytes);
        _tile_loadd(1, c + 16, bytes);
        _tile_loadd(2, c + 16 * stride, bytes);
        _tile_loadd(3, c + 16 * stride + 16, bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (uint32_t k = 0; k < cells; k++) multiply_cells(a + k, b + k * deeper);
    _tile_stored(0, c, bytes);
    _tile_stored(1, c + 16, bytes);
    _tile_stored(2, c + 16 * stride, bytes);
    _tile_stored(3, c + 16 * stride + 16, bytes);
}

/* The same where fewer rows or columns are there: in a square of their own. */
static void multiply_corner(const struct cell *a, const struct cell *b, size_t deeper, uint32_t cells, bool adding,
                            float *c, size_t stride, uint32_t rows, uint32_t columns)
{
    float square[CELL * CELL] __attribute__((aligned(64)));
    for (uint32_t r = 0; adding && r < CELL; r++)
        memcpy(square + r * CELL, c + (r < rows ? r : 0) * stride, columns * sizeof *c);
    multiply_square(a, b, deeper, cells, adding, square, CELL);
    for (uint32_t r = 0; r < rows; r++) memcpy(c + r * stride, square + r * CELL, columns * sizeof *c);
}

/* Rows of one cell's height over at most SLAB cells of depth from step k on, and all columns. */
static void multiply_slab(const struct cells_product *p, uint32_t first, uint32_t k)
{
    struct cell a[SLAB];
    const uint32_t rows = at_most(p->rows - first, CELL);
    const bool adding = p->weights || k;
    uint32_t cells = 0;
    for (uint32_t at = k; at < p->depth && cells < SLAB; at += CELL, cells++) {
        const struct patch some = patch_of(p->a + first * p->a_stride + at, p->a_stride, rows,
                                           at_most(p->depth - at, CELL));
        if (p->weights) split_weights(&some, a + cells);
        else split_rows(&some, p->factor, a + cells);
    }
    const struct cell *b = p->b + k / CELL * p->b_deeper;
    float *c = p->c + first * p->c_stride;
    for (uint32_t j = 0; j < p->columns; j += CELL, b += p->b_beside, c += CELL) {
        const uint32_t columns = at_most(p->columns - j, CELL);
        if (rows == CELL && columns == CELL)
            multiply_square(a, b, p->b_deeper, cells, adding, c, p->c_stride);
        else
            multiply_corner(a, b, p->b_deeper, cells, adding, c, p->c_stride, rows, columns);
    }
}

static void multiply(const struct cells_product *p)
{
    begin_tiles();
    for (uint32_t first = 0; first < p->rows; first += CELL)
        for (uint32_t k = 0; k < p->depth; k += SLAB * CELL) multiply_slab(p, first, k);
    _tile_release();
}

static uint32_t cells_of(uint32_t n) { return (n + CELL - 1) / CELL; }

static void KERNEL(ready_logits)(const float *queries, uint32_t rows, uint32_t dim, const float *ready,
                                 uint32_t first, uint32_t columns, float scale, float *logits, uint32_t stride)
{
    const struct cell *cells = (const struct cell *)(const void *)ready;
    const struct cells_product p = {.a = queries, .a_stride = dim, .factor = scale,
                                    .b = cells + (size_t)first / CELL * cells_of(dim),
                                    .b_deeper = 1, .b_beside = cells_of(dim), .c = logits, .c_stride = stride,
                                    .rows = rows, .depth = dim, .columns = columns};
    multiply(&p);
}

/* Rows times factors, most of which are 1 once a row has seen its largest logit; 0 where that is 0, whatever was
 * there. */
static void shrink_rows(float *x, uint32_t rows, uint32_t dim, const float *factors)
{
    for (uint32_t r = 0; r < rows; r++, x += dim) {
        const vec factor = spread(factors[r]);
        for (uint32_t c = 0; factors[r] != 1.0f && c < dim; c += LANES) {
            const uint32_t n = at_most(dim - c, LANES);
            store_part(x + c, n, unless_below(mul(load_part(x + c, n), factor), factor, spread(FLT_MIN)));
        }
    }
}

static void KERNEL(ready_sums)(const float *weights, uint32_t rows, uint32_t stride, const float *ready,
                               uint32_t first, uint32_t n, uint32_t dim, const float *factors, float *outputs)
{
    const struct cell *cells = (const struct cell *)(const void *)ready;
    const struct cells_product p = {.a = weights, .a_stride = stride,
                                    .b = cells + (size_t)first / CELL * cells_of(dim),
                                    .b_deeper = cells_of(dim), .b_beside = 1, .c = outputs, .c_stride = dim,
                                    .rows = rows, .depth = n, .columns = dim, .weights = true};
    if (factors) shrink_rows(outputs, rows, dim, factors);
    multiply(&p);
}

void kv_kernels_set_avx512amx(struct kv_kernels *kernels)
{
    kernels->ready_cell = sizeof(struct cell) / sizeof(float);
    kernels->ready_least = FLT_MIN;
    kernels->ready_keys = KERNEL(ready_keys);
    kernels->ready_values = KERNEL(ready_values);
    kernels->ready_logits = KERNEL(ready_logits);
    kernels->ready_sums = KERNEL(ready_sums);
    kernels->isa = "avx512amx";
}
