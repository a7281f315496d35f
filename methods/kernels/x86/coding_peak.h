/* What coders of values cannot do without, as fast as the ports of this core take it: coding_peak
 * of kernels.h. What is written as assembly is so that compilers neither drop nor merge it; results
 * mean nothing. */
#ifndef KVBENCH_METHODS_KERNELS_X86_CODING_PEAK_H
#define KVBENCH_METHODS_KERNELS_X86_CODING_PEAK_H

enum coded_by { BY_LANES, BY_SHIFTS, BY_SHUFFLES };

ALWAYS_INLINE void operate(enum coded_by unit, vec any)
{
    vec out;
    if (unit == BY_LANES)
        __asm__ volatile("vaddps %1, %1, %0" : "=v"(out) : "v"(any));
    else if (unit == BY_SHIFTS)
        __asm__ volatile("vpsrlw $4, %1, %0" : "=v"(out) : "v"(any));
    else
        __asm__ volatile("vpackuswb %1, %1, %0" : "=v"(out) : "v"(any));
}

ALWAYS_INLINE void operate_times(enum coded_by unit, uint32_t times, vec any)
{
    UNROLLED for (uint32_t i = 0; i < times; i++) operate(unit, any);
}

/* Of so many rows, so many times each, below 128, by few jumps: those of a loop would count beside so
 * short a body, and so would its end. Written out, since compilers unroll halves of 64 as they like. */
ALWAYS_INLINE void repeat(enum coded_by unit, uint32_t times, uint32_t rows, vec any)
{
    if (times == 0) return;
    if (times >= 16) {
        if (times & 64) operate_times(unit, 64 * rows, any);
        if (times & 32) operate_times(unit, 32 * rows, any);
        if (times & 16) operate_times(unit, 16 * rows, any);
    }
    if (times & 8) operate_times(unit, 8 * rows, any);
    if (times & 4) operate_times(unit, 4 * rows, any);
    if (times & 2) operate_times(unit, 2 * rows, any);
    if (times & 1) operate_times(unit, rows, any);
}

ALWAYS_INLINE void widen_rows(const uint16_t *halves, uint32_t rows)
{
    UNROLLED for (uint32_t k = 0; k < KV_CODING * rows; k += LANES)
    {
        vec out;
        const __m256i *from = (const __m256i *)(const void *)(halves + k);
        __asm__ volatile("vcvtph2ps %1, %0" : "=v"(out) : "m"(*from));
    }
}

ALWAYS_INLINE void store_bytes(uint8_t *out, uint32_t bytes, vec any)
{
    const vec_int bits = _mm512_castps_si512(any);
    uint32_t done = 0;
    for (; done + 64 <= bytes; done += 64) _mm512_storeu_si512(out + done, bits);
    if (done < bytes)
        _mm512_mask_storeu_epi8(out + done, ((__mmask64)1 << (bytes - done)) - 1, bits);
}

ALWAYS_INLINE void take_steps(const struct kv_coding *times, const uint16_t *halves, uint32_t rows,
                              uint8_t *to)
{
    const vec any = zeros();
    if (halves) widen_rows(halves, rows);
    repeat(BY_SHIFTS, times->shifts, rows, any);
    repeat(BY_SHUFFLES, times->shuffles, rows, any);
    repeat(BY_LANES, times->lanes, rows, any);
    store_bytes(to, times->bytes * rows, any);
}

static double KERNEL(coding_peak)(const struct kv_coding *coding, const uint16_t *halves, size_t n,
                                  uint8_t *to)
{
    enum { ROWS = 2 };
    const struct kv_coding times = *coding;
    const size_t whole = n / KV_CODING;
    for (size_t r = 0; r + ROWS <= whole; r += ROWS)
        take_steps(&times, halves ? halves + r * KV_CODING : NULL, ROWS, to + r * times.bytes);
    if (whole % ROWS)
        take_steps(&times, halves ? halves + (whole - 1) * KV_CODING : NULL, 1,
                   to + (whole - 1) * times.bytes);
    return (double)(whole * KV_CODING);
}

#endif
