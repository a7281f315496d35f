/* The exponential that every set computes: constants and the argument reduction, stated once.
 *
 * exp(y) = 2^n (1 + r + r^2 P(r)), n = rint(y / ln 2), r = y - n ln 2, |r| <= ln 2 / 2. P is the
 * degree-4 polynomial that minimises the relative error of the whole (Lawson's iteration on 4001
 * Chebyshev points): 3.7e-9 with these float coefficients, 0.03 eps. ln 2 is split after 9 bits, so
 * that n * HIGH is exact. The rest is rounding: about 1 eps each in r's last term, the sum and the
 * product, under the 4 eps of the contract.
 *
 * Sets with fused multiply-adds reduce by the float nearest to ln 2 alone: n LN2 is exact inside of
 * one, and LN2 is off by 1.9e-9, so that r is by 0.016 eps |n|, 1 eps at the lowest argument (n =
 * -60) and 2 eps at the highest (127). y INV_LN2 + MAGIC has n + 127 in its lowest bits: a float
 * 2^n is those, 23 places up. exp(y) = 2^n + (1 + r P(r)) (r 2^n): one rounding of the whole, and
 * of 1 + r P and the product, times |r| < 0.35. Seen over a seventh of all floats: 1.5 eps at most
 * where y <= 0, 2.6 above.
 *
 * Sets that look a float up in a table of N = ROOTS entries sum exponentials without P: n = rint(N y /
 * ln 2), |r| <= ln 2 / 2 N, and R = 2^((n mod N) / N) is an entry. y INV_LN2 + ROOT_MAGIC(N) is n / N, in steps
 * of 1 / N: n mod N are its lowest bits. exp(y) = 2^floor(n / N) (R + S (r R)):
 *
 *     N = 32   S = LINEAR + r / 2, where LINEAR = 1 + (ln 2 / 64)^2 / 8 takes from r^3 / 6 what a line can,
 *              and leaves 0.44 eps;
 *     N = 4    S = 1 + r (QUARTER1 + r (QUARTER2 + r QUARTER3)), fitted as P is: 5.5e-9, 0.05 eps.
 *
 * Table and last rounding are half an eps each, r as above: 2.4 eps at the lowest argument, 3.5 at the highest
 * (seen: 2.3 and 3.3 with N = 32, 1.5 and 2.8 with N = 4). A tanh needs P: near 0 that line is off by 123. */
#ifndef KVBENCH_METHODS_KERNELS_EXP_H
#define KVBENCH_METHODS_KERNELS_EXP_H

#define KV_EXP_INV_LN2 1.44269504088896341f
#define KV_EXP_LN2_HIGH 0.693359375f
#define KV_EXP_LN2_LOW -2.12194440054690583e-4f
#define KV_EXP_LN2 0.693147180559945309f
#define KV_EXP_ROOT_MAGIC(n) (0x1.8p23f / (n))
#define KV_EXP_ROOT_LINEAR 0x1.0000f6p+0f
#define KV_EXP_QUARTER1 0x1.000006p-1f
#define KV_EXP_QUARTER2 0x1.5571d6p-3f
#define KV_EXP_QUARTER3 0x1.55211ap-5f
#define KV_EXP_MAGIC (0x1.8p23f + 127)
#define KV_EXP_P0 0x1.fffffcp-2f
#define KV_EXP_P1 0x1.555492p-3f
#define KV_EXP_P2 0x1.5558f2p-5f
#define KV_EXP_P3 0x1.123a2p-7f
#define KV_EXP_P4 0x1.6a23dp-10f

/* Arguments below are 0: -60 ln 2 (weights that change no fp32 sum of 2^17 terms). */
#define KV_EXP_LOWEST -0x1.4cb5ecp5f
/* Arguments above are taken for this: the largest whose n is a float exponent. */
#define KV_EXP_HIGHEST 88.0f
/* 2 |x / cap| above which tanh is 1 in float: 1 - tanh(10) = 4e-9 < eps / 4. */
#define KV_TANH_HIGHEST 20.0f

#endif
