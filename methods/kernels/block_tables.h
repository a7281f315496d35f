/* Numbers of llama.cpp's block formats that every kernel set shares. */
#ifndef KVBENCH_METHODS_KERNELS_BLOCK_TABLES_H
#define KVBENCH_METHODS_KERNELS_BLOCK_TABLES_H

#include "methods/kernels/kernels.h"

/* Level of a 4-bit code, before it is multiplied by d. */
static const float kv_levels_q4_0[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
static const float kv_levels_q4_1[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const float kv_levels_iq4_nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                           1,    13,   25,  38,  53,  69,  89,  113};

/* `bucket` takes a value on a threshold for the lower code and ggml for the upper: each is the
 * number before the middle of two levels of iq4_nl (all middles are exact). */
static const float kv_thresholds_iq4_nl[15] = {
    -0x1.ce0002p6f, -0x1.760002p6f, -0x1.280002p6f, -0x1.c80002p5f, -0x1.500002p5f,
    -0x1.c80002p4f, -0x1.000002p4f, -0x1.200002p2f, 0x1.bffffep2f,  0x1.2ffffep4f,
    0x1.f7fffep4f,  0x1.6bfffep5f,  0x1.e7fffep5f,  0x1.3bfffep6f,  0x1.93fffep6f};

/* What kv_cells_prepare makes of them (the checker of kernels holds it to that): 2^8 words a unit.
 */
static const struct kv_cells kv_cells_iq4_nl = {
    .thresholds = kv_thresholds_iq4_nl,
    .n = 15,
    .unit = 1,
    .steps = 256,
    .base = {255, 0, 0, 0,  1,  1,  2,  2,  3,  3,  4,  4,  5,  5,  6,  7,
             8,   8, 9, 10, 10, 11, 11, 12, 12, 13, 13, 13, 14, 14, 14, 14},
    .low = {0, 128, 0, 0,   128, 0,   0, 0, 0, 0, 0, 0, 128, 0, 0, 128,
            0, 0,   0, 128, 0,   128, 0, 0, 0, 0, 0, 0, 0,   0, 0, 0},
    .high = {128, 140, 128, 128, 162, 128, 182, 128, 199, 128, 214, 128, 227, 128, 240, 251,
             7,   128, 19,  31,  128, 45,  128, 61,  128, 79,  128, 128, 101, 128, 128, 128},
    .sums = {35072, 36864, 36096, 36992, 38912, 37504, 38912, 37632, 38912, 37120, 38912,
             36864, 35584, 36864, 34816, 32768, 32768, 33664, 34816, 32768, 32128, 32768,
             31232, 32768, 30976, 32768, 31232, 32768, 31872, 32768, 32768, 33920},
};

/* What is added to 4 and 5 bit codes. */
static inline float kv_block_shift(enum kv_block_format format)
{
    return format == KV_BLOCK_Q4_0 ? 8.5f : format == KV_BLOCK_Q5_0 ? 16.5f : 0.5f;
}

#endif
