/* CPU detection; see cpu.h. Levels such as "x86-64-v3" are asked bit by bit, since clang 14 does
 * not know their names; bits that not both compilers can name are read by the cpuid instruction. */
#include "harness/base/cpu.h"

#if defined(__x86_64__)

#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* f16c, movbe (leaf 1) and lzcnt (leaf 0x80000001): clang 14 cannot name them. */
static int has_unnamed_bits(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 29 & 1) || !(c >> 22 & 1)) return 0;
    return __get_cpuid(0x80000001u, &a, &b, &c, &d) && (c >> 5 & 1);
}

/* AMX-BF16 and AMX-TILE (leaf 7), which clang 14 cannot name; and the system's leave to use tiles, which
 * it keeps from a process that has not asked. */
static int may_use_tiles(void)
{
#if defined(__linux__)
    enum { REQUEST_STATE = 0x1023, TILES = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return 0;
    return syscall(SYS_arch_prctl, REQUEST_STATE, TILES) == 0;
#else
    return 0;
#endif
}

unsigned kv_cpu_features(void)
{
    unsigned features = 0;
    __builtin_cpu_init();
    /* The avx bits of __builtin_cpu_supports include the system's support for wide registers. */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && has_unnamed_bits())
        features |= KV_CPU_AVX2;
    if ((features & KV_CPU_AVX2) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        features |= KV_CPU_AVX512;
    if ((features & KV_CPU_AVX512) && __builtin_cpu_supports("avx512vnni") &&
        __builtin_cpu_supports("avx512vbmi"))
        features |= KV_CPU_AVX512_VNNI;
    if ((features & KV_CPU_AVX512_VNNI) && may_use_tiles()) features |= KV_CPU_AMX_BF16;
    if (__builtin_cpu_is("amdfam17h")) features |= KV_CPU_FREE_SUBNORMALS;
    return features;
}

#elif defined(__aarch64__) && defined(__linux__)

#include <asm/hwcap.h>
#include <sys/auxv.h>

unsigned kv_cpu_features(void)
{
    return getauxval(AT_HWCAP) & HWCAP_ASIMD ? KV_CPU_NEON : 0;
}

#else

unsigned kv_cpu_features(void) { return 0; }

#endif
