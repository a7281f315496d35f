/* Checks of entries that move floats to their places, or hide them: the bits of generic. */
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/checkkern.h"

enum { MOST = 304 };

static struct guarded make_floats(size_t n, size_t slack)
{
    struct guarded made = guarded_make(4 * n, 4 * slack);
    fill_floats(floats_of(&made), n, NORMAL, (uint32_t)n);
    return made;
}

/* Random bits, none, all, and every other one, by turns; how many are set. */
static size_t fill_places(uint16_t *places, size_t n, uint32_t variant)
{
    size_t set = 0;
    fill_bytes((uint8_t *)places, n / 8, 256, (uint32_t)n + variant);
    for (size_t i = 0; i < n / 16; i++) {
        const uint16_t patterns[4] = {places[i], 0, 0xffff, 0x5555};
        places[i] = patterns[variant % 2 ? variant / 2 % 4 : (i + variant / 2) % 4];
        set += (size_t)__builtin_popcount(places[i]);
    }
    return set;
}

static const char *move_once(const struct kv_kernels *generic, const struct kv_kernels *set,
                             size_t n, uint32_t variant, int out)
{
    struct guarded places = guarded_make(n / 8, 0);
    const size_t close = fill_places((uint16_t *)(void *)places.data, n, variant);
    const uint16_t *at = (const uint16_t *)(const void *)places.data;
    const size_t from = out ? close : n, to = out ? n : close;
    struct guarded x = make_floats(from, variant % 3), y = make_floats(to, variant % 5);
    struct guarded expected = make_floats(to, 0);
    if (out) {
        set->spread_out(floats_of(&x), at, n, -1.5f, floats_of(&y));
        generic->spread_out(floats_of(&x), at, n, -1.5f, floats_of(&expected));
    } else {
        set->close_up(floats_of(&x), at, n, floats_of(&y));
        generic->close_up(floats_of(&x), at, n, floats_of(&expected));
    }
    const char *why = NULL;
    if (!guarded_intact(&y)) why = complain("wrote outside (n %zu, variant %u)", n, variant);
    if (!why && memcmp(y.data, expected.data, y.bytes))
        why = complain("bits differ from generic (n %zu, variant %u)", n, variant);
    guarded_free(&places);
    guarded_free(&x);
    guarded_free(&y);
    guarded_free(&expected);
    return why;
}

static const char *check_moves(const struct kv_kernels *generic, const struct kv_kernels *set,
                               int out)
{
    const char *why = NULL;
    for (size_t n = 0; n <= MOST && !why; n += 16)
        for (uint32_t variant = 0; variant < 8 && !why; variant++)
            if (is_due()) why = move_once(generic, set, n, variant, out);
    return why;
}

const char *check_spread_out(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    return check_moves(generic, set, 1);
}

const char *check_close_up(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    return check_moves(generic, set, 0);
}

/* Spans of tokens around 100, empty and endless ones among them. */
static void fill_spans(int32_t *begin, int32_t *end, size_t n)
{
    uint8_t bytes[2 * MOST];
    fill_bytes(bytes, 2 * n, 200, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        begin[i] = bytes[2 * i];
        end[i] = bytes[2 * i + 1] < 40 ? INT32_MAX : bytes[2 * i + 1];
    }
}

static const char *hide_once(const struct kv_kernels *generic, const struct kv_kernels *set,
                             size_t n, int32_t token, int two)
{
    struct guarded begin = guarded_make(4 * n, 0), end = guarded_make(4 * n, 0), rows[4];
    int32_t *from = (int32_t *)(void *)begin.data, *until = (int32_t *)(void *)end.data;
    fill_spans(from, until, n);
    for (int i = 0; i < 4; i++) rows[i] = make_floats(n, i < 2 ? n % 7 : 0);
    float *beside = two ? floats_of(&rows[1]) : NULL, *other = two ? floats_of(&rows[3]) : NULL;
    const uint32_t seen = set->hide(from, until, token, n, floats_of(&rows[0]), beside);
    const uint32_t expected = generic->hide(from, until, token, n, floats_of(&rows[2]), other);
    const char *why = NULL;
    if (!guarded_intact(&rows[0]) || !guarded_intact(&rows[1]))
        why = complain("wrote outside (n %zu)", n);
    else if (seen != expected || memcmp(rows[0].data, rows[2].data, 4 * n) ||
             memcmp(rows[1].data, rows[3].data, 4 * n))
        why = complain("differs from generic (n %zu, token %d)", n, (int)token);
    for (int i = 0; i < 4; i++) guarded_free(&rows[i]);
    guarded_free(&begin);
    guarded_free(&end);
    return why;
}

const char *check_hide(const struct kv_kernels *generic, const struct kv_kernels *set)
{
    static const int32_t tokens[] = {0, 100, 199, INT32_MAX};
    const char *why = NULL;
    for (size_t n = 0; n < MOST && !why; n++)
        for (int i = 0; i < 8 && !why; i++)
            if (is_due()) why = hide_once(generic, set, n, tokens[i / 2], i % 2);
    return why;
}
