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

/* So many, below 128, by jumps that never turn: those of a loop would count beside so short a body,
 * and so would its end. Written out, since compilers unroll halves of 64 as they like. */
ALWAYS_INLINE void repeat(enum coded_by unit, uint32_t times, vec any)
{
    if (times & 64) operate_times(unit, 64, any);
    if (times & 32) operate_times(unit, 32, any);
    if (times & 16) operate_times(unit, 16, any);
    if (times & 8) operate_times(unit, 8, any);
    if (times & 4) operate_times(unit, 4, any);
    if (times & 2) operate_times(unit, 2, any);
    if (times & 1) operate(unit, any);
}

ALWAYS_INLINE void widen_batch(const uint16_t *halves)
{
    UNROLLED for (uint32_t k = 0; k < KV_CODING; k += LANES)
    {
        vec out;
        const __m256i *from = (const __m256i *)(const void *)(halves + k);
        __asm__ volatile("vcvtph2ps %1, %0" : "=v"(out) : "m"(*from));
    }
}

ALWAYS_INLINE void store_batch(uint8_t *out, uint32_t bytes, vec any)
{
    const vec_int bits = _mm512_castps_si512(any);
    uint32_t done = 0;
    for (; done + 64 <= bytes; done += 64) _mm512_storeu_si512(out + done, bits);
    if (done < bytes)
        _mm512_mask_storeu_epi8(out + done, ((__mmask64)1 << (bytes - done)) - 1, bits);
}

static double KERNEL(coding_peak)(const struct kv_coding *coding, const uint16_t *halves, size_t n,
                                  uint8_t *to)
{
    const vec any = zeros();
    const struct kv_coding times = *coding;
    size_t done = 0;
    for (; done + KV_CODING <= n; done += KV_CODING, to += times.bytes) {
        if (halves) widen_batch(halves + done);
        repeat(BY_SHIFTS, times.shifts, any);
        repeat(BY_SHUFFLES, times.shuffles, any);
        repeat(BY_LANES, times.lanes, any);
        store_batch(to, times.bytes, any);
    }
    return (double)done;
}

#endif
