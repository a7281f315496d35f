/* The one exported symbol of each kernel set; which of them are linked in, meson decides. */
#ifndef KVBENCH_METHODS_KERNELS_SETS_H
#define KVBENCH_METHODS_KERNELS_SETS_H

#include "methods/kernels/kernels.h"

kv_kernel_set kv_kernels_set_generic, kv_kernels_set_avx2, kv_kernels_set_avx512,
    kv_kernels_set_avx512vnni, kv_kernels_set_avx512amx, kv_kernels_set_neon;

#endif
