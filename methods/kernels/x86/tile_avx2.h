/* The whole register tile of the AVX2 set, four steps of depth at a time (bodies.h, multiply_tile).
 *
 * In assembly, since the number of instructions counts: a core whose other hardware thread is busy takes in three a
 * cycle, not six, and two of them are to be multiply-adds. 12 of these come with 8.75 others here; gcc 12 has 11 of
 * them in a loop of single steps, and 14 in one of four, where it spills addresses and moves vectors. */
#ifndef KVBENCH_METHODS_KERNELS_X86_TILE_AVX2_H
#define KVBENCH_METHODS_KERNELS_X86_TILE_AVX2_H

#include "methods/kernels/inlining.h"

/* A row's two vectors of sums, its factor at `at`, `bytes` behind that of step 0. */
#define TILE_ROW(bytes, at, factor, x, y)                                                                    \
    "vbroadcastss " #bytes at ", %[" #factor "]\n\t"                                                         \
    "vfmadd231ps %[left], %[" #factor "], %[" #x "]\n\t"                                                     \
    "vfmadd231ps %[right], %[" #factor "], %[" #y "]\n\t"

/* A step of six rows by the columns at `at`. */
#define TILE_STEP(bytes, at)                                                                                 \
    "vmovups " at ", %[left]\n\t"                                                                            \
    "vmovups 32" at ", %[right]\n\t"                                                                         \
    TILE_ROW(bytes, "(%[a])", even, s0, s1)                                                                  \
    TILE_ROW(bytes, "(%[a],%[row])", odd, s2, s3)                                                            \
    TILE_ROW(bytes, "(%[a],%[row],2)", even, s4, s5)                                                         \
    TILE_ROW(bytes, "(%[a],%[row3])", odd, s6, s7)                                                           \
    TILE_ROW(bytes, "(%[a],%[row],4)", even, s8, s9)                                                         \
    TILE_ROW(bytes, "(%[a],%[row5])", odd, s10, s11)

#define FROM_ZERO(s, bytes) "vxorps %[" #s "], %[" #s "], %[" #s "]\n\t"
#define FROM_MEMORY(s, bytes) "vmovaps " #bytes "(%[begin]), %[" #s "]\n\t"

#define TILE_STEPS(FROM)                                                                                     \
    __asm__ volatile(                                                                                        \
        FROM(s0, 0) FROM(s1, 32) FROM(s2, 64) FROM(s3, 96) FROM(s4, 128) FROM(s5, 160)                       \
        FROM(s6, 192) FROM(s7, 224) FROM(s8, 256) FROM(s9, 288) FROM(s10, 320) FROM(s11, 352)                \
        ".p2align 5\n"                                                                                       \
        "1:\n\t"                                                                                             \
        TILE_STEP(0, "(%[b])")                                                                               \
        TILE_STEP(4, "(%[b],%[line])")                                                                       \
        TILE_STEP(8, "(%[b],%[line],2)")                                                                     \
        TILE_STEP(12, "(%[b],%[line3])")                                                                     \
        "addq $16, %[a]\n\t"                                                                                 \
        "leaq (%[b],%[line],4), %[b]\n\t"                                                                    \
        "subq $4, %[steps]\n\t"                                                                              \
        "jnz 1b\n\t"                                                                                         \
        : [a] "+r"(a), [b] "+r"(b), [steps] "+r"(steps), [s0] "=&x"(sums[0][0]), [s1] "=&x"(sums[0][1]),     \
          [s2] "=&x"(sums[1][0]), [s3] "=&x"(sums[1][1]), [s4] "=&x"(sums[2][0]), [s5] "=&x"(sums[2][1]),    \
          [s6] "=&x"(sums[3][0]), [s7] "=&x"(sums[3][1]), [s8] "=&x"(sums[4][0]), [s9] "=&x"(sums[4][1]),    \
          [s10] "=&x"(sums[5][0]), [s11] "=&x"(sums[5][1]), [left] "=&x"(left), [right] "=&x"(right),        \
          [even] "=&x"(even), [odd] "=&x"(odd)                                                               \
        : [row] "r"(row), [row3] "r"(3 * row), [row5] "r"(5 * row), [line] "r"(line), [line3] "r"(3 * line), \
          [begin] "r"(begin)                                                                                 \
        : "memory", "cc")

/* sums[r][w] = begin[r][w] + a[r][k] b[k][w], k = 0 .. steps - 1 (a multiple of 4 above 0), one fused multiply-add
 * behind the other; begin: NULL for zeros. Strides are floats. */
ALWAYS_INLINE void multiply_four_steps(const float *a, size_t a_stride, const float *b, size_t b_stride, size_t steps,
                                       const vec (*begin)[TILE_VECS], vec sums[TILE_ROWS][TILE_VECS])
{
    const size_t row = a_stride * sizeof *a, line = b_stride * sizeof *b;
    vec left, right, even, odd;
    _Static_assert(TILE_ROWS == 6 && TILE_VECS == 2 && LANES == 8, "sums of 6 rows by 16 columns fill the registers");
    if (begin) TILE_STEPS(FROM_MEMORY);
    else TILE_STEPS(FROM_ZERO);
}

#undef TILE_STEPS
#undef FROM_MEMORY
#undef FROM_ZERO
#undef TILE_STEP
#undef TILE_ROW

#endif
