/* Which instruction sets this CPU and operating system offer, by single feature bits. */
#ifndef KVBENCH_BASE_CPU_H
#define KVBENCH_BASE_CPU_H

enum kv_cpu_feature {
    KV_CPU_AVX2 = 1,      /* every bit of x86-64-v3: avx2, fma, f16c, bmi1, bmi2, lzcnt, movbe */
    KV_CPU_AVX512 = 2,    /* the former and every bit of x86-64-v4: F, BW, CD, DQ, VL */
    KV_CPU_NEON = 4,      /* ARMv8-A Advanced SIMD */
    /* Multiply-adds of subnormal operands as fast as others: AMD's family 17h. Timed on its model 1;
     * no other CPU was at hand. */
    KV_CPU_FREE_SUBNORMALS = 8,
    KV_CPU_AVX512_VNNI = 16, /* KV_CPU_AVX512, VNNI and VBMI */
    KV_CPU_AMX_BF16 = 32     /* KV_CPU_AVX512_VNNI, and tiles of bfloats, which the system lets us use */
};

/* The features that can be used here, or-ed together. Constant over the life of the process. */
unsigned kv_cpu_features(void);

#endif
