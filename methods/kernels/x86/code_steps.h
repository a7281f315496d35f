/* Packed codes, a step of STEP at a time where their bits divide a byte: of the x86 sets, each with a
 * pack_step and an unpack_step of its own. */
#ifndef KVBENCH_METHODS_KERNELS_X86_CODE_STEPS_H
#define KVBENCH_METHODS_KERNELS_X86_CODE_STEPS_H

static void KERNEL(pack_codes)(const uint8_t *codes, size_t n, uint32_t bits, uint8_t *packed)
{
    if (bits == 8) {
        if (n) memcpy(packed, codes, n);
        return;
    }
    for (; n >= STEP && (bits == 1 || bits == 2 || bits == 4); n -= STEP) {
        if (bits == 1)
            pack_step(codes, 1, packed);
        else if (bits == 2)
            pack_step(codes, 2, packed);
        else
            pack_step(codes, 4, packed);
        codes += STEP, packed += STEP / 8 * (size_t)bits;
    }
    if (n) KERNEL(pack_bits)(codes, n, bits, packed);
}

static void KERNEL(unpack_steps)(const uint8_t *packed, size_t n, uint32_t bits, uint8_t *codes)
{
    if (bits == 8) {
        if (n) memcpy(codes, packed, n);
        return;
    }
    for (; n >= STEP && (bits == 1 || bits == 2 || bits == 4); n -= STEP) {
        if (bits == 1)
            unpack_step(packed, 1, codes);
        else if (bits == 2)
            unpack_step(packed, 2, codes);
        else
            unpack_step(packed, 4, codes);
        packed += STEP / 8 * (size_t)bits, codes += STEP;
    }
    if (n) KERNEL(unpack_bits)(packed, n, bits, codes);
}

#endif
