/* NEON words for minifloats.h. */
#ifndef KVBENCH_METHODS_KERNELS_ARM_MINIFLOAT_NEON_H
#define KVBENCH_METHODS_KERNELS_ARM_MINIFLOAT_NEON_H

static inline vec_int bits_of(vec v)
{
    return vreinterpretq_u32_f32(v);
}
static inline vec float_of(vec_int v)
{
    return vreinterpretq_f32_u32(v);
}
static inline vec_int spread_word(uint32_t x)
{
    return vdupq_n_u32(x);
}
static inline vec_int both(vec_int a, vec_int b)
{
    return vandq_u32(a, b);
}
static inline vec_int plus(vec_int a, vec_int b)
{
    return vaddq_u32(a, b);
}
static inline vec_int minus(vec_int a, vec_int b)
{
    return vsubq_u32(a, b);
}

static inline vec_int shift_down(vec_int v, uint32_t n)
{
    return vshlq_u32(v, vdupq_n_s32(-(int32_t)n));
}

static inline vec_int shift_up(vec_int v, uint32_t n)
{
    return vshlq_u32(v, vdupq_n_s32((int32_t)n));
}

/* Numbers below 256 as bytes. */
static inline void store_bytes(uint8_t *codes, vec_int a, vec_int b)
{
    vst1_u8(codes, vmovn_u16(vcombine_u16(vmovn_u32(a), vmovn_u32(b))));
}

/* Codes as halves: bits above the sign's place are 0. */
static inline vec load_fields(const uint8_t *codes, uint32_t shift, uint16_t fields,
                              uint32_t sign_shift)
{
    uint32_t four;
    memcpy(&four, codes, sizeof four);
    const uint16x4_t words = vget_low_u16(vmovl_u8(vcreate_u8(four)));
    const uint16x4_t size =
        vand_u16(vshl_u16(words, vdup_n_s16((int16_t)shift)), vdup_n_u16(fields));
    const uint16x4_t sign =
        vand_u16(vshl_u16(words, vdup_n_s16((int16_t)sign_shift)), vdup_n_u16(0x8000));
    return vcvt_f32_f16(vreinterpret_f16_u16(vorr_u16(size, sign)));
}

/* The largest lane of each. */
static inline quad largest_of_four(const vec v[4])
{
    return vpmaxnmq_f32(vpmaxnmq_f32(v[0], v[1]), vpmaxnmq_f32(v[2], v[3]));
}

static inline vec join_quads(const quad q[1])
{
    return q[0];
}

/* Levels whose floats have two bytes that are not 0. */
struct fp4_levels {
    uint8x16_t low, high;
};

static inline struct fp4_levels fp4_levels_of(const float table[16])
{
    uint8_t lut[LUT_BYTES];
    store_lut(table, lut);
    return (struct fp4_levels){vld1q_u8(lut + 32), vld1q_u8(lut + 48)};
}

/* 16 levels times a factor. */
static inline void write_levels(const struct fp4_levels *levels, const uint8_t *codes, vec factor,
                                float *out)
{
    const uint8x16_t index = vld1q_u8(codes);
    const uint8x16_t low = vqtbl1q_u8(levels->low, index), high = vqtbl1q_u8(levels->high, index);
    const uint16x8_t a = vreinterpretq_u16_u8(vzip1q_u8(low, high));
    const uint16x8_t b = vreinterpretq_u16_u8(vzip2q_u8(low, high));
    store(out, mul(float_of(vshll_n_u16(vget_low_u16(a), 16)), factor));
    store(out + 4, mul(float_of(vshll_high_n_u16(a, 16)), factor));
    store(out + 8, mul(float_of(vshll_n_u16(vget_low_u16(b), 16)), factor));
    store(out + 12, mul(float_of(vshll_high_n_u16(b, 16)), factor));
}

#endif
