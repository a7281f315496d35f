/* Codes of cells that are packed as they come, some at a time: of all SIMD sets, each with a name for
 * its own cell_codes and pack_bits. */
#ifndef KVBENCH_METHODS_KERNELS_PACK_CELLS_H
#define KVBENCH_METHODS_KERNELS_PACK_CELLS_H

/* n values of one row. */
static void KERNEL(pack_cells_of)(const struct kv_cells *cells, const float *x, size_t n,
                                  float factor, uint32_t bits, uint8_t *packed)
{
    enum { SOME = 128 }; /* whole bytes */
    uint8_t codes[SOME];
    for (size_t i = 0; i < n; i += SOME, packed += SOME / 8 * bits) {
        const size_t some = n - i < SOME ? n - i : SOME;
        ALL_CELLS(cells, x + i, some, factor, codes);
        ALL_PACKED(codes, some, bits, packed);
    }
}

static void KERNEL(pack_cells)(const struct kv_cells *cells, const struct kv_cell_rows *rows,
                               uint8_t *packed)
{
    const float *x = rows->x;
    for (uint32_t r = 0; r < rows->n_rows; r++, x += rows->n, packed += rows->apart)
        KERNEL(pack_cells_of)(cells, x, rows->n, rows->factors[r], rows->bits, packed);
}

#endif
