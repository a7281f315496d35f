/* What coders of values cannot do without, as fast as the ports of this core take it: coding_peak
 * of kernels.h. What is written as assembly is so that compilers neither drop nor merge it; results
 * mean nothing. */
#ifndef KVBENCH_METHODS_KERNELS_X86_CODING_PEAK_H
#define KVBENCH_METHODS_KERNELS_X86_CODING_PEAK_H

enum coded_by { BY_LANES, BY_SHIFTS, BY_SHUFFLES };

/* Vectors of this set in 512 bits, which operations are counted in. */
enum { CODING_VECS = 16 / LANES };

ALWAYS_INLINE void operate(enum coded_by unit, vec any)
{
    vec out;
    if (unit == BY_LANES)
        __asm__ volatile("vpaddd %1, %1, %0" : "=v"(out) : "v"(any));
    else if (unit == BY_SHIFTS)
        __asm__ volatile("vpsrlw $4, %1, %0" : "=v"(out) : "v"(any));
    else
        __asm__ volatile("vpackuswb %1, %1, %0" : "=v"(out) : "v"(any));
}

ALWAYS_INLINE void operate_times(enum coded_by unit, uint32_t times, vec any)
{
    UNROLLED for (uint32_t i = 0; i < times; i++) operate(unit, any);
}

/* Of so many pieces, so many times each, below 128, by few jumps: those of a loop would count beside so
 * short a body, and so would its end. Written out, since compilers unroll halves of 64 as they like. */
ALWAYS_INLINE void repeat(enum coded_by unit, uint32_t times, uint32_t pieces, vec any)
{
    if (times == 0) return;
    if (times >= 16) {
        if (times & 64) operate_times(unit, 64 * pieces, any);
        if (times & 32) operate_times(unit, 32 * pieces, any);
        if (times & 16) operate_times(unit, 16 * pieces, any);
    }
    if (times & 8) operate_times(unit, 8 * pieces, any);
    if (times & 4) operate_times(unit, 4 * pieces, any);
    if (times & 2) operate_times(unit, 2 * pieces, any);
    if (times & 1) operate_times(unit, pieces, any);
}

enum { CODING_ROWS = 2 }; /* that are taken together */

ALWAYS_INLINE void widen_rows(const uint16_t *halves, uint32_t rows, bool stored)
{
    float floats[CODING_ROWS * KV_CODING] __attribute__((aligned(64)));
    UNROLLED for (uint32_t k = 0; k < KV_CODING * rows; k += LANES)
    {
        vec out;
        __asm__ volatile("vcvtph2ps %1, %0" : "=v"(out) : "m"(*(const uint16_t(*)[LANES])(halves + k)));
        if (stored) __asm__ volatile("vmovaps %1, %0" : "=m"(*(float(*)[LANES])(floats + k)) : "v"(out));
    }
    if (!stored) return;
    UNROLLED for (uint32_t k = 0; k < KV_CODING * rows; k += LANES)
    {
        vec in;
        __asm__ volatile("vmovaps %1, %0" : "=v"(in) : "m"(*(const float(*)[LANES])(floats + k)));
    }
}

ALWAYS_INLINE void store_written(uint8_t *out, uint32_t bytes, vec any)
{
    enum { WHOLE = sizeof any };
    uint32_t done = 0;
    for (; done + WHOLE <= bytes; done += WHOLE) store_bits(out + done, as_bits(any));
    if (done < bytes) store_bytes_part(out, bytes, done, as_bits(any));
}

ALWAYS_INLINE void take_steps(const struct kv_coding *times, const uint16_t *halves, uint32_t rows,
                              uint8_t *to)
{
    const vec any = zeros();
    if (halves && times->floats)
        widen_rows(halves, rows, true);
    else if (halves)
        widen_rows(halves, rows, false);
    repeat(BY_SHIFTS, times->shifts, CODING_VECS * rows, any);
    repeat(BY_SHUFFLES, times->shuffles, CODING_VECS * rows, any);
    repeat(BY_LANES, times->lanes, CODING_VECS * rows, any);
    store_written(to, times->bytes * rows, any);
}

static double KERNEL(coding_peak)(const struct kv_coding *coding, const uint16_t *halves, size_t n,
                                  uint8_t *to)
{
    const struct kv_coding times = *coding;
    const size_t whole = n / KV_CODING;
    for (size_t r = 0; r + CODING_ROWS <= whole; r += CODING_ROWS)
        take_steps(&times, halves ? halves + r * KV_CODING : NULL, CODING_ROWS, to + r * times.bytes);
    if (whole % CODING_ROWS)
        take_steps(&times, halves ? halves + (whole - 1) * KV_CODING : NULL, 1,
                   to + (whole - 1) * times.bytes);
    return (double)(whole * KV_CODING);
}

#endif
