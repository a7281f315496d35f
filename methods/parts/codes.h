/* Small things that codecs share: packed codes, extremes, signs, groups of one table. */
#ifndef KVBENCH_METHODS_PARTS_CODES_H
#define KVBENCH_METHODS_PARTS_CODES_H

#include <stdint.h>
#include <string.h>

#include "harness/base/half.h"
#include "methods/codec.h"
#include "methods/kernels/kernels.h"

/* Bytes of n packed codes. */
static inline uint32_t kv_packed_bytes(size_t n, uint32_t bits)
{
    return (uint32_t)((n * bits + 7) / 8);
}

/* Codes first .. first + n - 1 of a packed array. Eight codes fill whole bytes, so unpacking begins
 * at the eight before: buffer has room for n + 7 codes; returned is where code `first` lies in it.
 */
static inline const uint8_t *kv_unpack_some(const struct kv_kernels *kernels, const uint8_t *packed,
                                            size_t first, size_t n, uint32_t bits, uint8_t *buffer)
{
    const size_t before = first % 8;
    kernels->unpack_bits(packed + first / 8 * bits, n + before, bits, buffer);
    return buffer + before;
}

/* The largest magnitude of n > 0 values. */
static inline float kv_largest(const struct kv_kernels *kernels, const float *x, size_t n)
{
    float min, max;
    kernels->min_max(x, n, &min, &max);
    return max > -min ? max : 0.0f - min; /* and not -0 */
}

/* signs[i] = 1 where the bit is 1, -1 where it is 0 */
static inline void kv_signs_of(const uint8_t *restrict bits, size_t n, float *restrict signs)
{
    for (size_t i = 0; i < n; i++) signs[i] = (float)(2 * (int)bits[i] - 1);
}

/* The first marked place of marks[at .. n - 1], or n: few are marked, so eight are passed at once. */
static inline uint32_t kv_next_marked(const uint8_t *marks, uint32_t at, uint32_t n)
{
    for (; at < n; at++) {
        uint64_t eight = 0;
        while (n - at >= sizeof eight) {
            memcpy(&eight, marks + at, sizeof eight);
            if (eight) break;
            at += sizeof eight;
        }
        if (at < n && marks[at]) break;
    }
    return at;
}

/* A row of codes of one table, whose groups of `width` columns (the last may be short) share a
 * scale. */
struct kv_grouped {
    const struct kv_kernels *kernels;
    const float *table;
    uint32_t width;
    const struct kv_code *code;
    const uint8_t *atom;
    float (*scale)(const struct kv_code *code, const uint8_t *atom, uint32_t group);
    uint32_t first_group;    /* of the object's: rows of several heads have groups of their own */
};

static inline uint32_t kv_groups(uint32_t columns, uint32_t width)
{
    return (columns + width - 1) / width;
}

/* Values of columns first .. first + n - 1, which are those of codes[0 .. n - 1]. */
static inline void kv_look_up_groups(const struct kv_grouped *row, const uint8_t *codes,
                                     uint32_t first, uint32_t n, float *out)
{
    for (uint32_t done = 0; done < n;) {
        const uint32_t group = (first + done) / row->width, end = (group + 1) * row->width - first;
        const uint32_t stop = end < n ? end : n;
        row->kernels->lookup(codes + done, stop - done, row->table,
                             row->scale(row->code, row->atom, row->first_group + group), out + done);
        done = stop;
    }
}

/* Where the scale of a group is a half in the metadata. */
static inline float kv_half_scale(const struct kv_code *code, const uint8_t *atom, uint32_t group)
{
    return kv_kept_half(atom + code->payload_bytes + 2 * (size_t)group);
}

#endif
