/* Values with a grid each, for the SIMD sets. */
#ifndef KVBENCH_METHODS_KERNELS_CHANNELS_H
#define KVBENCH_METHODS_KERNELS_CHANNELS_H

/* Codes as floats, not rounded; a scale of 0 gives 0. */
ALWAYS_INLINE vec channel_quotient(vec x, vec minimum, vec scale, vec top)
{
    const vec q = larger(divide(sub(x, minimum), scale), zeros());
    return smaller(unless_below(q, scale, spread(0x1p-149f)), top);
}

static void KERNEL(channel_encode)(const float *x, size_t n, const float *minima,
                                   const float *scales, uint32_t levels, uint8_t *codes)
{
    const vec top = spread((float)(levels - 1));
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store_codes(codes + i,
                    channel_quotient(load(x + i), load(minima + i), load(scales + i), top));
    if (i == n) return;
    uint8_t rest[LANES];
    store_codes(rest, channel_quotient(load_part(x + i, n - i), load_part(minima + i, n - i),
                                       load_part(scales + i, n - i), top));
    memcpy(codes + i, rest, n - i);
}

static void KERNEL(channel_decode)(const uint8_t *codes, size_t n, const float *minima,
                                   const float *scales, float *out)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(out + i, add(mul(load_codes(codes + i), load(scales + i)), load(minima + i)));
    if (i == n) return;
    uint8_t rest[LANES] = {0};
    memcpy(rest, codes + i, n - i);
    const vec scale = load_part(scales + i, n - i), minimum = load_part(minima + i, n - i);
    store_part(out + i, n - i, add(mul(load_codes(rest), scale), minimum));
}

ALWAYS_INLINE vec distance_quotient(vec distance, vec reach)
{
    const vec q = unless_below(divide(distance, reach), reach, spread(0x1p-149f));
    return add(q, zeros());
}

static void KERNEL(channel_quotients)(const float *x, size_t n, const float *centers,
                                      const float *reaches, float *out, uint8_t *outside)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec distance = sub(load(x + i), load(centers + i)), reach = load(reaches + i);
        store(out + i, distance_quotient(distance, reach));
        store_counts(outside + i, count_above(no_counts(), magnitude(distance), reach));
    }
    if (i == n) return;
    uint8_t rest[LANES];
    const vec distance = sub(load_part(x + i, n - i), load_part(centers + i, n - i));
    const vec reach = load_part(reaches + i, n - i);
    store_part(out + i, n - i, distance_quotient(distance, reach));
    store_counts(rest, count_above(no_counts(), magnitude(distance), reach));
    memcpy(outside + i, rest, n - i);
}

#endif
