/* The entries that every SIMD set takes from the shared bodies; included behind them. */
#ifndef KVBENCH_METHODS_KERNELS_ENTRIES_H
#define KVBENCH_METHODS_KERNELS_ENTRIES_H

static void KERNEL(fill)(struct kv_kernels *kernels)
{
    kernels->panel = PANEL;
    kernels->strip = COPIES_STRIPS ? PANEL : 0;
    kernels->widen_half = KERNEL(widen_half);
    kernels->widen_bfloat = KERNEL(widen_bfloat);
    kernels->narrow_half = KERNEL(narrow_half);
    kernels->narrow_bfloat = KERNEL(narrow_bfloat);
    kernels->pack_keys = KERNEL(pack_keys);
    kernels->logits = KERNEL(logits);
    kernels->accumulate = KERNEL(accumulate);
    kernels->exp_sum = KERNEL(exp_sum);
    kernels->max = KERNEL(max);
    kernels->soften = KERNEL(soften);
    kernels->soften_beside = KERNEL(soften_beside);
    kernels->scale = KERNEL(scale);
    kernels->add_wide = KERNEL(add_wide);
    kernels->softcap = KERNEL(softcap);
    kernels->dot = KERNEL(dot);
    kernels->min_max = KERNEL(min_max);
    kernels->grid_encode = KERNEL(grid_encode);
    kernels->grid_decode = KERNEL(grid_decode);
    kernels->cell_codes = ALL_CELLS;
    kernels->pack_cells = KERNEL(pack_cells);
    kernels->pack_bits = ALL_PACKED;
    kernels->unpack_bits = KERNEL(unpack_bits);
    kernels->sign_bits = KERNEL(sign_bits);
    kernels->lookup_packed = KERNEL(lookup_unpacked);
    kernels->hadamard = KERNEL(hadamard);
    kernels->rotate = KERNEL(rotate);
    kernels->project_signs = KERNEL(project_signs);
    kernels->narrow_finite = KERNEL(narrow_finite);
    kernels->encode_blocks = KERNEL(encode_blocks);
    kernels->decode_blocks = KERNEL(decode_blocks);
    kernels->grid_row = KERNEL(grid_row);
    kernels->grid_columns = KERNEL(grid_columns);
    kernels->stripes = KERNEL(stripes);
    kernels->channel_encode = KERNEL(channel_encode);
    kernels->channel_decode = KERNEL(channel_decode);
    kernels->channel_quotients = KERNEL(channel_quotients);
    kernels->polar = KERNEL(polar);
    kernels->polar_floats = KERNEL(polar_floats);
    kernels->near_angles = KERNEL(near_angles);
    kernels->minifloat_encode = KERNEL(minifloat_encode);
    kernels->minifloat_decode = KERNEL(minifloat_decode);
    kernels->fp4_encode = KERNEL(fp4_encode);
    kernels->fp4_decode = KERNEL(fp4_decode);
    kernels->peak = KERNEL(peak);
    kernels->issuing_peak = KERNEL(issuing_peak);
    kernels->isolating_peak = KERNEL(isolating_peak);
#if HAS_PICK
    kernels->bucket = KERNEL(bucket);
    kernels->lookup = KERNEL(lookup);
#else
    kernels->bucket = KERNEL(bucket_linear);
#endif
    kernels->sum_squares = KERNEL(sum_squares);
    kernels->sum_magnitudes = KERNEL(sum_magnitudes);
    kernels->sum_wide = KERNEL(sum_wide);
    kernels->add_errors = KERNEL(add_errors);
    kernels->add_products = KERNEL(add_products);
    kernels->turn_rows = KERNEL(turn_rows);
    kernels->hadamard_squares = KERNEL(hadamard_squares);
}

#endif
