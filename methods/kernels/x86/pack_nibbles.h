/* Codes of cells, of four bits, that stay in registers until they are packed: for the x86 sets, each with a
 * sum_step and nibbles_of_words of its own and what they look up, summed_cells. */
#ifndef KVBENCH_METHODS_KERNELS_X86_PACK_NIBBLES_H
#define KVBENCH_METHODS_KERNELS_X86_PACK_NIBBLES_H

/* Of a row, as many as fill whole steps; how many that were. */
ALWAYS_INLINE size_t pack_steps(const struct kv_cells *cells, const summed_cells *sums, const float *x, size_t n,
                                float factor, uint8_t *packed)
{
    const vec by = spread(factor * cells->steps);
    size_t i = 0;
    for (; i + PACKED_STEP <= n; i += PACKED_STEP) {
        vec_int words[PACKED_WORDS];
        const bool doubtful = sum_step(x + i, by, sums, words);
        store_bits(packed + i / 2, nibbles_of_words(words));
        if (__builtin_expect(doubtful, 0)) KERNEL(pack_cells_of)(cells, x + i, PACKED_STEP, factor, 4, packed + i / 2);
    }
    return i;
}

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
