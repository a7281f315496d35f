/* The kernel checker, in the manner of checkasm: what its parts share.
 *
 * A check runs one entry of one set on hostile input and compares with the generic set (exact
 * entries: bit for bit) or with a double computation and the contract's bound. It returns NULL or
 * a text that says what differed. */
#ifndef KVBENCH_TESTS_KERNELS_CHECKKERN_H
#define KVBENCH_TESTS_KERNELS_CHECKKERN_H

#include <stddef.h>
#include <stdint.h>

#include "methods/kernels/kernels.h"

enum input_kind {
    NORMAL, OUTLIER, EQUAL, ZEROS, SUBNORMAL, MAX_HALF, VERY_NEGATIVE,
    FINITE_KINDS,              /* those above suit every entry */
    MINUS_INFINITY = FINITE_KINDS,
    ALL_KINDS
};

extern const char *const kind_names[ALL_KINDS];

/* Memory whose last byte lies `slack` bytes before an unmapped page; the slack and the bytes before
 * the data are canaries. A read or write past the page stops the program with the kernel's name. */
struct guarded {
    uint8_t *data;
    uint8_t *map;
    size_t map_bytes, bytes, slack;
};

struct guarded guarded_make(size_t bytes, size_t slack);
int guarded_intact(const struct guarded *memory);
void guarded_free(struct guarded *memory);
static inline float *floats_of(const struct guarded *memory) { return (float *)(void *)memory->data; }

/* The same numbers for the same arguments, on every CPU. */
void fill_floats(float *x, size_t n, enum input_kind kind, uint32_t seed);
void fill_bytes(uint8_t *x, size_t n, uint32_t below, uint32_t seed);

/* Formats into a static buffer, so that a check can `return complain(...)`. */
const char *complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether the next case is to be run: one of `every` is, so that an emulator comes to an end. */
void run_every(uint32_t every);
int is_due(void);

typedef const char *check_function(const struct kv_kernels *generic, const struct kv_kernels *set);

check_function check_widen_half, check_widen_bfloat, check_narrow_half, check_narrow_bfloat,
    check_narrow_finite, check_encode_blocks, check_decode_blocks,
    check_minifloat_encode, check_minifloat_decode, check_fp4_encode, check_fp4_decode, check_grid_row, check_grid_columns,
    check_pack_keys, check_logits, check_accumulate, check_ready_keys, check_ready_values, check_ready_logits,
    check_ready_sums, check_exp_sum, check_max, check_soften, check_soften_beside, check_scale,
    check_add_wide, check_spread_out, check_close_up, check_hide, check_softcap, check_dot, check_stripes, check_min_max, check_grid_encode, check_grid_decode, check_bucket,
    check_channel_encode, check_channel_decode, check_channel_quotients, check_polar, check_polar_floats, check_near_angles, check_cell_codes, check_pack_cells, check_lookup, check_lookup_packed, check_pack_bits, check_unpack_bits, check_hadamard, check_rotate,
    check_project_signs, check_sum_squares, check_sum_magnitudes, check_sum_wide, check_add_errors, check_add_products, check_turn_rows, check_sign_bits, check_hadamard_squares, check_peak, check_issuing_peak, check_isolating_peak, check_look_up_peak,
    check_coding_peak;

/* Times every entry of every set that runs here; csv: comma-separated, else a table. */
void bench_all(int csv);

#endif
