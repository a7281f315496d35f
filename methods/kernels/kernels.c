/* The list of kernel sets and the one place where a set is chosen; see kernels.h. */
#include "methods/kernels/kernels.h"

#include <string.h>

#include "harness/base/cpu.h"
#include "harness/base/params.h"
#include "harness/base/status.h"
#include "methods/kernels/sets.h"

/* A set that was not built is a null pointer: meson defines KV_HAVE_NAME as its symbol. */
#ifndef KV_HAVE_AVX2
#define KV_HAVE_AVX2 NULL
#endif
#ifndef KV_HAVE_AVX512
#define KV_HAVE_AVX512 NULL
#endif
#ifndef KV_HAVE_AVX512VNNI
#define KV_HAVE_AVX512VNNI NULL
#endif
#ifndef KV_HAVE_AVX512AMX
#define KV_HAVE_AVX512AMX NULL
#endif
#ifndef KV_HAVE_NEON
#define KV_HAVE_NEON NULL
#endif

static const struct {
    const char *name, *summary;
    unsigned feature;   /* 0: runs everywhere */
    kv_kernel_set *set;
} sets[] = {
    {"generic", "plain C, the definition; runs everywhere", 0, kv_kernels_set_generic},
    {"avx2", "x86-64-v3: AVX2, FMA, F16C, BMI2", KV_CPU_AVX2, KV_HAVE_AVX2},
    {"avx512", "x86-64-v4: AVX-512 F, BW, CD, DQ, VL", KV_CPU_AVX512, KV_HAVE_AVX512},
    {"avx512vnni", "x86-64-v4 with AVX-512 VNNI, VBMI", KV_CPU_AVX512_VNNI, KV_HAVE_AVX512VNNI},
    {"avx512amx", "x86-64-v4 with AVX-512 VNNI, VBMI, and AMX tiles of bfloats", KV_CPU_AMX_BF16, KV_HAVE_AVX512AMX},
    {"neon", "ARMv8-A with Advanced SIMD", KV_CPU_NEON, KV_HAVE_NEON},
};

enum { N_SETS = sizeof sets / sizeof sets[0] };

static int runs_here(size_t set)
{
    return (kv_cpu_features() & sets[set].feature) == sets[set].feature;
}

const struct kv_isa *kv_isa_list(void)
{
    static struct kv_isa list[N_SETS + 1];
    for (size_t i = 0; i < N_SETS; i++)
        list[i] = (struct kv_isa){sets[i].name, sets[i].summary, sets[i].set != NULL, runs_here(i),
                                  sets[i].set};
    return list;
}

static int fail_unknown(const char *name, struct kv_error *err)
{
    const char *names[N_SETS + 2] = {"auto"};
    char known[128] = "auto";
    for (size_t i = 0; i < N_SETS; i++) {
        names[i + 1] = sets[i].name;
        strncat(known, " ", sizeof known - strlen(known) - 1);
        strncat(known, sets[i].name, sizeof known - strlen(known) - 1);
    }
    return kv_fail(err, KV_EUSAGE, "unknown isa '%s', known are %s%s", name, known,
                   kv_hint(name, names).text);
}

/* Index of the set `name`, N_SETS when there is none. */
static size_t find_set(const char *name)
{
    size_t i = 0;
    while (i < N_SETS && strcmp(sets[i].name, name)) i++;
    return i;
}

int kv_kernels_fill(struct kv_kernels *kernels, const char *name, struct kv_error *err)
{
    size_t ceiling = N_SETS - 1;
    if (strcmp(name, "auto")) {
        ceiling = find_set(name);
        if (ceiling == N_SETS) return fail_unknown(name, err);
        if (!sets[ceiling].set)
            return kv_fail(err, KV_EENVIRONMENT, "isa '%s' is not built into this program", name);
        if (!runs_here(ceiling))
            return kv_fail(err, KV_EENVIRONMENT, "isa '%s' cannot run here: it needs %s", name,
                           sets[ceiling].summary);
    }
    for (size_t i = 0; i <= ceiling; i++)
        if (sets[i].set && runs_here(i)) sets[i].set(kernels);
    return KV_OK;
}
