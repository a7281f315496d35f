/* What the compiler is told about small functions and short loops of kernels. */
#ifndef KVBENCH_METHODS_KERNELS_INLINING_H
#define KVBENCH_METHODS_KERNELS_INLINING_H

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 32")
#endif

#endif
