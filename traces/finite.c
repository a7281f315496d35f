/* NaN and infinity by their bits; see finite.h. */
#include "traces/finite.h"

#include <stdint.h>

enum { BLOCK = 4096 };            /* elements looked at before the first may be reported */

/* Branch-free inside, so that compilers turn it into vector code. */
static int any16(const uint16_t *words, size_t n, uint16_t exponent)
{
    uint16_t bad = 0;
    for (size_t i = 0; i < n; i++) bad |= (uint16_t)((words[i] & exponent) == exponent);
    return bad;
}

static int any32(const uint32_t *words, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) bad |= (uint32_t)((words[i] & 0x7f800000u) == 0x7f800000u);
    return bad != 0;
}

static size_t first16(const uint16_t *words, size_t n, uint16_t exponent)
{
    for (size_t block = 0; block < n; block += BLOCK) {
        const size_t end = n - block < BLOCK ? n : block + BLOCK;
        if (!any16(words + block, end - block, exponent)) continue;
        for (size_t i = block; i < end; i++)
            if ((words[i] & exponent) == exponent) return i;
    }
    return n;
}

static size_t first32(const uint32_t *words, size_t n)
{
    for (size_t block = 0; block < n; block += BLOCK) {
        const size_t end = n - block < BLOCK ? n : block + BLOCK;
        if (!any32(words + block, end - block)) continue;
        for (size_t i = block; i < end; i++)
            if ((words[i] & 0x7f800000u) == 0x7f800000u) return i;
    }
    return n;
}

size_t kv_first_not_finite(const void *words, size_t n, enum kv_h5_type type)
{
    switch (type) {
    case KV_H5_F16: return first16(words, n, 0x7c00u);
    case KV_H5_BF16: return first16(words, n, 0x7f80u);
    case KV_H5_F32: return first32(words, n);
    default: return n;
    }
}

int kv_is_nan(const void *words, size_t i, enum kv_h5_type type)
{
    switch (type) {
    case KV_H5_F16: return (((const uint16_t *)words)[i] & 0x3ffu) != 0;
    case KV_H5_BF16: return (((const uint16_t *)words)[i] & 0x7fu) != 0;
    case KV_H5_F32: return (((const uint32_t *)words)[i] & 0x7fffffu) != 0;
    default: return 0;
    }
}
