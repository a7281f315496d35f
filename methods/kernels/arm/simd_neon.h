/* NEON words for the shared bodies (bodies.h): one vector is 4 floats. */
#ifndef KVBENCH_METHODS_KERNELS_ARM_SIMD_NEON_H
#define KVBENCH_METHODS_KERNELS_ARM_SIMD_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KERNEL(name) name##_neon

/* 5 x 16: 20 accumulators, 5 vectors of 4 factors each and 4 columns are 29 of the 32 registers (with
 * 6 rows gcc spills); 20 chains hide 4 cycles of 4 pipes. */
enum { LANES = 4, TILE_ROWS = 5, TILE_VECS = 4, STRIP_DEPTH = 256, COPIES_STRIPS = 1,
       HADAMARD_VECS = 16, EXP_VECS = 4, EXP_SUMS = 4 };

typedef float32x4_t vec;
typedef uint32x4_t vec_int;

static inline vec load(const float *p) { return vld1q_f32(p); }
static inline void store(float *p, vec v) { vst1q_f32(p, v); }
static inline vec spread(float x) { return vdupq_n_f32(x); }
static inline vec zeros(void) { return vdupq_n_f32(0); }
static inline vec zeros_apart(void) { return zeros(); }

/* v, of which the compiler knows nothing from here on. */
static inline vec as_if_changed(vec v)
{
    __asm__ volatile("" : "+w"(v));
    return v;
}

static inline vec add(vec a, vec b) { return vaddq_f32(a, b); }
static inline vec sub(vec a, vec b) { return vsubq_f32(a, b); }
static inline vec mul(vec a, vec b) { return vmulq_f32(a, b); }
static inline vec divide(vec a, vec b) { return vdivq_f32(a, b); }
static inline vec fused(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }         /* a b + c */
static inline vec fused_minus(vec a, vec b, vec c) { return vfmsq_f32(c, a, b); }   /* c - a b */
static inline vec larger(vec a, vec b) { return vmaxnmq_f32(a, b); }                /* the number */
static inline vec smaller(vec a, vec b) { return vminnmq_f32(a, b); }

/* a b[lane] + c, without an instruction that spreads b[lane]; lane is a constant. */
static inline vec fused_lane(vec a, vec b, uint32_t lane, vec c)
{
    switch (lane) {
    case 0: return vfmaq_laneq_f32(c, a, b, 0);
    case 1: return vfmaq_laneq_f32(c, a, b, 1);
    case 2: return vfmaq_laneq_f32(c, a, b, 2);
    default: return vfmaq_laneq_f32(c, a, b, 3);
    }
}

/* The first n <= LANES floats; the other lanes 0. */
static inline vec load_part(const float *p, size_t n)
{
    float lanes[LANES] = {0};
    memcpy(lanes, p, n * sizeof *p);
    return load(lanes);
}

static inline void store_part(float *p, size_t n, vec v)
{
    float lanes[LANES];
    store(lanes, v);
    memcpy(p, lanes, n * sizeof *p);
}

static inline vec magnitude(vec v) { return vabsq_f32(v); }

/* |magnitude| with the sign of v. */
static inline vec with_sign(vec positive, vec v)
{
    return vbslq_f32(vdupq_n_u32(0x80000000u), v, positive);
}

/* 2^n where n + 127 lies in the low bits of t, see exp.h. */
static inline vec power_of_two_in(vec t)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(t), 23));
}

/* v where y >= limit, else 0. */
static inline vec unless_below(vec v, vec y, vec limit)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vcgeq_f32(y, limit)));
}

static inline float sum_lanes(vec v) { return vaddvq_f32(v); }
static inline float max_lanes(vec v) { return vmaxnmvq_f32(v); }
static inline float min_lanes(vec v) { return vminnmvq_f32(v); }

/* sums[lane] += lane, in double */
static inline void add_doubles(double *sums, vec v)
{
    vst1q_f64(sums, vaddq_f64(vld1q_f64(sums), vcvt_f64_f32(vget_low_f32(v))));
    vst1q_f64(sums + 2, vaddq_f64(vld1q_f64(sums + 2), vcvt_high_f64_f32(v)));
}

/* -- 16-bit floats --------------------------------------------------------------------------- */

static inline vec load_half(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline vec load_bfloat(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

static inline void store_half(uint16_t *p, vec v)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}

/* Stores v as halves; what they say. */
static inline vec keep_halves(uint16_t *p, vec v)
{
    const float16x4_t half = vcvt_f16_f32(v);
    vst1_u16(p, vreinterpret_u16_f16(half));
    return vcvt_f32_f16(half);
}

/* LANES words of each, in turn. */
static inline void store_in_turn(uint16_t *p, const uint16_t *a, const uint16_t *b)
{
    vst2_u16(p, (uint16x4x2_t){{vld1_u16(a), vld1_u16(b)}});
}

/* An infinite half becomes the one below it. */
static inline void store_finite_half(uint16_t *p, vec v)
{
    const uint16x4_t half = vreinterpret_u16_f16(vcvt_f16_f32(v));
    const uint16x4_t size = vand_u16(half, vdup_n_u16(0x7fff));
    vst1_u16(p, vadd_u16(half, vceq_u16(size, vdup_n_u16(0x7c00))));
}

/* Adds half an ulp less the last bit that stays; a NaN would overflow and is made quiet instead. */
static inline void store_bfloat(uint16_t *p, vec v)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(v);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    vst1_u16(p, vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet), 16));
}

/* Four floats: for the few numbers of a group, whose divisions are slow in wide vectors. */
typedef float32x4_t quad;

static inline quad quad_of(float a, float b, float c, float d)
{
    const float lanes[4] = {a, b, c, d};
    return vld1q_f32(lanes);
}

static inline void quad_store(float *p, quad v) { vst1q_f32(p, v); }
static inline quad quad_mul(quad a, quad b) { return vmulq_f32(a, b); }
static inline quad quad_divide(quad a, quad b) { return vdivq_f32(a, b); }

/* From -limit to limit; NaN becomes limit. */
static inline quad quad_clamp(quad v, float limit)
{
    return vmaxnmq_f32(vminnmq_f32(v, vdupq_n_f32(limit)), vdupq_n_f32(-limit));
}

static inline quad quad_load(const float *p) { return vld1q_f32(p); }
static inline quad quad_add(quad a, quad b) { return vaddq_f32(a, b); }

/* Smallest and largest lane of four vectors each, zeros as +0. */
static inline void extremes_of_four(const vec low[4], const vec high[4], quad *lows, quad *highs)
{
    const quad below = vpminnmq_f32(vpminnmq_f32(low[0], low[1]), vpminnmq_f32(low[2], low[3]));
    const quad above =
        vpmaxnmq_f32(vpmaxnmq_f32(high[0], high[1]), vpmaxnmq_f32(high[2], high[3]));
    *lows = vaddq_f32(below, vdupq_n_f32(0));
    *highs = vaddq_f32(above, vdupq_n_f32(0));
}
static inline quad quad_sub(quad a, quad b) { return vsubq_f32(a, b); }
static inline quad quad_magnitude(quad v) { return vabsq_f32(v); }

/* yes where a > b, else no. */
static inline quad quad_select_above(quad a, quad b, quad yes, quad no)
{
    return vbslq_f32(vcgtq_f32(a, b), yes, no);
}

static inline int quad_any_equal(quad a, quad b) { return vmaxvq_u32(vceqq_f32(a, b)) != 0; }

/* v where y <= limit, else 0. */
static inline quad quad_unless_above(quad v, quad y, float limit)
{
    const uint32x4_t keep = vcleq_f32(y, vdupq_n_f32(limit));
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), keep));
}

/* v where y >= limit, else 0. */
static inline quad quad_unless_below(quad v, quad y, float limit)
{
    return unless_below(v, y, vdupq_n_f32(limit));
}

/* Stores v as halves; what they say. */
static inline quad quad_keep_halves(uint16_t *p, quad v) { return keep_halves(p, v); }

/* -- codes ----------------------------------------------------------------------------------- */

static inline vec_int load_indices(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four))));
}

static inline vec load_codes(const uint8_t *p) { return vcvtq_f32_u32(load_indices(p)); }

static inline void store_counts(uint8_t *p, vec_int v)
{
    const uint16x4_t words = vmovn_u32(v);
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
    const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
    memcpy(p, &four, sizeof four);
}

/* Floats of 0..255, rounded to nearest even. */
static inline void store_codes(uint8_t *p, vec v) { store_counts(p, vcvtnq_u32_f32(v)); }

/* Bits that two vectors do not share; of either; whether there are any. */
static inline vec_int difference(vec a, vec b)
{
    return veorq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b));
}

static inline vec_int either(vec_int a, vec_int b) { return vorrq_u32(a, b); }

/* Bits of `v`, and those that a and b do not share. */
static inline vec_int or_difference(vec_int v, vec a, vec b) { return either(v, difference(a, b)); }
static inline int any(vec_int v) { return vmaxvq_u32(v) != 0; }

/* Floats n + 1.5 * 2^23 with |n| < 2^15 -> 4 LANES codes: n, from 0 to top. */
static inline int16x4_t words_of_steps(vec t)
{
    return vqmovn_s32(vsubq_s32(vreinterpretq_s32_f32(t), vdupq_n_s32(0x4b400000)));
}

static inline void store_steps(uint8_t *codes, const vec t[4], uint32_t top)
{
    const uint8x8_t most = vdup_n_u8((uint8_t)top);
    for (int k = 0; k < 4; k += 2) {
        const int16x8_t words = vcombine_s16(words_of_steps(t[k]), words_of_steps(t[k + 1]));
        vst1_u8(codes + 4 * k, vmin_u8(vqmovun_s16(words), most));
    }
}

static inline void store_four_steps(uint8_t *codes, const vec t[4], uint32_t top)
{
    store_steps(codes, t, top);
}

static inline vec_int no_counts(void) { return vdupq_n_u32(0); }

/* A bit for each lane, the first the lowest: a > b. */
static inline uint32_t lanes_above(vec a, vec b)
{
    static const uint32_t bits[LANES] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgtq_f32(a, b), vld1q_u32(bits)));
}

/* count + (x > threshold) */
static inline vec_int count_above(vec_int count, vec x, vec threshold)
{
    return vsubq_u32(count, vcgtq_f32(x, threshold));
}

/* -- bits ------------------------------------------------------------------------------------ */

/* 8 codes, one a byte, of `bits` bits -> 8 * bits adjacent bits: neighbours join, three times. */
static inline uint64_t gather_bits(uint64_t codes, uint32_t bits)
{
    uint64_t x = codes & 0x0101010101010101u * ((1u << bits) - 1);
    x = (x & 0x00ff00ff00ff00ffu) | (x & 0xff00ff00ff00ff00u) >> (8 - bits);
    x = (x & 0x0000ffff0000ffffu) | (x & 0xffff0000ffff0000u) >> (16 - 2 * bits);
    return (x & 0xffffffffu) | (x & 0xffffffff00000000u) >> (32 - 4 * bits);
}

static inline uint64_t spread_bits(uint64_t packed, uint32_t bits)
{
    const uint64_t one = (1u << bits) - 1, two = (1u << 2 * bits) - 1,
                   four = (1ull << 4 * bits) - 1;
    uint64_t x = (packed & four) | (packed & four << 4 * bits) << (32 - 4 * bits);
    x = (x & 0x0000000100000001u * two) | (x & (0x0000000100000001u * two) << 2 * bits)
                                              << (16 - 2 * bits);
    return (x & 0x0001000100010001u * one) | (x & (0x0001000100010001u * one) << bits)
                                                 << (8 - bits);
}

/* -- moves inside a vector ------------------------------------------------------------------- */

/* One step of the Walsh-Hadamard transform: lane i meets lane i ^ span. x + -y is x - y exactly. */
static inline vec butterfly(vec v, uint32_t span)
{
    static const uint32_t signs[2][4] = {{0, 0x80000000u, 0, 0x80000000u},
                                         {0, 0, 0x80000000u, 0x80000000u}};
    const vec swapped = span == 1 ? vrev64q_f32(v) : vextq_f32(v, v, 2);
    const uint32x4_t turned = veorq_u32(vreinterpretq_u32_f32(v), vld1q_u32(signs[span - 1]));
    return vaddq_f32(swapped, vreinterpretq_f32_u32(turned));
}

/* The first step of LANES floats in memory. */
static inline vec meet_neighbours(const float *x)
{
    return butterfly(load(x), 1);
}

static inline void transpose(vec v[LANES])
{
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(v[0], v[1]));
    const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(v[0], v[1]));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(v[2], v[3]));
    const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(v[2], v[3]));
    v[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    v[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    v[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    v[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

static inline void quad_transpose(quad v[4]) { transpose(v); }

/* -- stored codes, see stripes.h ------------------------------------------------------------- */

/* Column c < 32 in the low half of byte c, column 32 + c in its high half -> one code a byte. */
static inline void split_nibbles(const uint8_t *in, uint8_t *out)
{
    for (int h = 0; h < 2; h++) {
        const uint8x16_t both = vld1q_u8(in + 16 * h);
        vst1q_u8(out + 16 * h, vandq_u8(both, vdupq_n_u8(15)));
        vst1q_u8(out + 32 + 16 * h, vshrq_n_u8(both, 4));
    }
}

/* A table of 16 floats as four planes: byte b of every entry. */
enum { LUT_BYTES = 64 };

static inline void store_lut(const float *table, uint8_t *lut)
{
    for (int entry = 0; entry < 16; entry++) {
        uint8_t bytes[4];
        memcpy(bytes, table + entry, sizeof bytes);
        for (int b = 0; b < 4; b++) lut[16 * b + entry] = bytes[b];
    }
}

/* 16 indices -> 4 vectors: the bytes of each plane, then joined. */
static inline void look_up_16(uint8x16_t index, const uint8_t *lut, vec values[4])
{
    const uint8x16_t a = vqtbl1q_u8(vld1q_u8(lut), index);
    const uint8x16_t b = vqtbl1q_u8(vld1q_u8(lut + 16), index);
    const uint8x16_t c = vqtbl1q_u8(vld1q_u8(lut + 32), index);
    const uint8x16_t d = vqtbl1q_u8(vld1q_u8(lut + 48), index);
    const uint16x8_t ab[2] = {vreinterpretq_u16_u8(vzip1q_u8(a, b)),
                              vreinterpretq_u16_u8(vzip2q_u8(a, b))};
    const uint16x8_t cd[2] = {vreinterpretq_u16_u8(vzip1q_u8(c, d)),
                              vreinterpretq_u16_u8(vzip2q_u8(c, d))};
    for (int h = 0; h < 2; h++) {
        values[2 * h] = vreinterpretq_f32_u16(vzip1q_u16(ab[h], cd[h]));
        values[2 * h + 1] = vreinterpretq_f32_u16(vzip2q_u16(ab[h], cd[h]));
    }
}

static inline void look_up_row(const uint8_t *row, const void *lut, vec values[16])
{
    for (int h = 0; h < 2; h++) {
        const uint8x16_t both = vld1q_u8(row + 16 * h);
        look_up_16(vandq_u8(both, vdupq_n_u8(15)), lut, values + 4 * h);
        look_up_16(vshrq_n_u8(both, 4), lut, values + 8 + 4 * h);
    }
}

static inline void settle_columns(vec v[16]) { (void)v; }

/* `bits` bits from bit `shift` of each word, as floats. */
static inline vec load_field(const uint8_t *words, uint32_t shift, uint32_t bits)
{
    const uint32x4_t w = vreinterpretq_u32_u8(vld1q_u8(words));
    const uint32x4_t low = vshlq_u32(w, vdupq_n_s32(-(int32_t)shift));
    return vcvtq_f32_u32(vandq_u32(low, vdupq_n_u32((1u << bits) - 1)));
}

/* -- llama.cpp's blocks, see blocks_simd.h --------------------------------------------------------- */

/* 32 values cut off, signed. */
static inline void truncate_bytes(uint8_t *bytes, const vec v[8])
{
    for (int k = 0; k < 8; k += 2) {
        const int16x4_t a = vqmovn_s32(vcvtq_s32_f32(v[k]));
        const int16x4_t b = vqmovn_s32(vcvtq_s32_f32(v[k + 1]));
        vst1_u8(bytes + 4 * k, vreinterpret_u8_s8(vqmovn_s16(vcombine_s16(a, b))));
    }
}

static inline void floats_of_signed(int8x16_t bytes, vec v[4])
{
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    v[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
    v[1] = vcvtq_f32_s32(vmovl_high_s16(low));
    v[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
    v[3] = vcvtq_f32_s32(vmovl_high_s16(high));
}

static inline void read_signed(const uint8_t *bytes, vec v[8])
{
    floats_of_signed(vreinterpretq_s8_u8(vld1q_u8(bytes)), v);
    floats_of_signed(vreinterpretq_s8_u8(vld1q_u8(bytes + 16)), v + 4);
}

static inline void store_block(float *out, uint32_t k, vec v) { store(out + 4 * k, v); }

static inline vec load_block(const float *x, uint32_t k) { return load(x + 4 * k); }

/* Levels are small integers. */
struct block_levels {
    int8x16_t table;
};

static inline struct block_levels block_levels_of(const float table[16])
{
    int8_t bytes[16];
    for (int i = 0; i < 16; i++) bytes[i] = (int8_t)table[i];
    return (struct block_levels){vld1q_s8(bytes)};
}

static inline void read_fours(const uint8_t *nibbles, const struct block_levels *levels, vec v[8])
{
    const uint8x16_t both = vld1q_u8(nibbles);
    floats_of_signed(vqtbl1q_s8(levels->table, vandq_u8(both, vdupq_n_u8(15))), v);
    floats_of_signed(vqtbl1q_s8(levels->table, vshrq_n_u8(both, 4)), v + 4);
}

/* 16 where a bit of two bytes is 1. */
static inline uint8x16_t fifths_of(const uint8_t *at)
{
    static const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bytes = vcombine_u8(vdup_n_u8(at[0]), vdup_n_u8(at[1]));
    return vandq_u8(vtstq_u8(bytes, vld1q_u8(bits)), vdupq_n_u8(16));
}

static inline void read_fives(const uint8_t *at, float zero, vec v[8])
{
    const uint8x16_t both = vld1q_u8(at + 4);
    const uint8x16_t low = vorrq_u8(vandq_u8(both, vdupq_n_u8(15)), fifths_of(at));
    const uint8x16_t high = vorrq_u8(vshrq_n_u8(both, 4), fifths_of(at + 2));
    floats_of_signed(vreinterpretq_s8_u8(low), v);
    floats_of_signed(vreinterpretq_s8_u8(high), v + 4);
    for (int k = 0; k < 8; k++) v[k] = sub(v[k], spread(zero));
}

static inline void pack_fifths(const uint8_t codes[32], uint8_t *at)
{
    static const uint8_t bits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    for (int k = 0; k < 4; k++) {
        const uint8x8_t set = vtst_u8(vld1_u8(codes + 8 * k), vdup_n_u8(16));
        at[k] = vaddv_u8(vand_u8(set, vld1_u8(bits)));
    }
}

/* Low bits of code j below those of code 16 + j. */
static inline void pack_nibbles(const uint8_t codes[32], uint8_t *at)
{
    const uint8x16_t low = vandq_u8(vld1q_u8(codes), vdupq_n_u8(15));
    vst1q_u8(at, vorrq_u8(low, vshlq_n_u8(vld1q_u8(codes + 16), 4)));
}

#endif
