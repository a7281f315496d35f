/* Codes of cells, of four bits, that stay in registers until they are packed: for the x86 sets, each with a
 * pack_steps of its own and what it looks up, summed_cells. */
#ifndef KVBENCH_METHODS_KERNELS_X86_PACK_NIBBLES_H
#define KVBENCH_METHODS_KERNELS_X86_PACK_NIBBLES_H

static void KERNEL(pack_nibbles)(const struct kv_cells *cells, const struct kv_cell_rows *rows,
                                 uint8_t *packed)
{
    if (rows->bits != 4) {
        KERNEL(pack_cells)(cells, rows, packed);
        return;
    }
    const summed_cells sums = load_sums(cells);
    const float *x = rows->x;
    for (uint32_t r = 0; r < rows->n_rows; r++, x += rows->n, packed += rows->apart) {
        const float factor = rows->factors[r];
        const size_t done =
            is_short_cut(cells, factor) ? pack_steps(cells, &sums, x, rows->n, factor, packed) : 0;
        if (done < rows->n)
            KERNEL(pack_cells_of)(cells, x + done, rows->n - done, factor, 4, packed + done / 2);
    }
}

#endif
