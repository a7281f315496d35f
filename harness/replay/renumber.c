/* Rows at the numbers of their slots; see renumber.h. */
#include "harness/replay/renumber.h"

#include <string.h>

/* By recorded positions, and by the numbers 0, 1, 2 ... in their place. */
static bool create_tables(struct kv_renumber *renumber, struct kv_pool *pool)
{
    struct kv_geometry numbered = *renumber->geometry;
    if (numbered.rope.layout == KV_ROPE_NONE) return true;
    if (!kv_rotary_create(&renumber->recorded, renumber->geometry, pool)) return false;
    int32_t *numbers = kv_pool_take(pool, numbered.tokens * sizeof *numbers);
    if (!numbers) return false;
    for (uint32_t t = 0; t < numbered.tokens; t++) numbers[t] = (int32_t)t;
    numbered.positions = numbers;
    if (!kv_rotary_create(&renumber->numbered, &numbered, pool)) return false;
    renumber->numbered.rope = &renumber->geometry->rope;
    return true;
}

int kv_renumber_create(struct kv_renumber *renumber, const struct kv_mirror *mirror,
                       const struct kv_renumber *first, struct kv_pool *pool, struct kv_error *err)
{
    const struct kv_geometry *geometry = mirror->geometry;
    *renumber = (struct kv_renumber){.geometry = geometry};
    const size_t floats = (size_t)mirror->capacity * geometry->key_dim;
    renumber->keys = kv_pool_take(pool, floats * sizeof(float));
    renumber->number_of = kv_pool_take(pool, geometry->tokens * sizeof(uint32_t));
    renumber->held = kv_pool_take(pool, geometry->tokens);
    renumber->row = kv_pool_take(pool, geometry->key_dim * sizeof(float));
    if (first) renumber->recorded = first->recorded, renumber->numbered = first->numbered;
    if (renumber->keys && renumber->number_of && renumber->held && renumber->row &&
        (first || create_tables(renumber, pool)))
        return KV_OK;
    return kv_fail(err, KV_EMEMORY, "out of memory for rows at their slots' numbers");
}

/* A row whose number is its position is left as it is, to the bit. */
static void turn(const struct kv_renumber *renumber, uint32_t token, float *row)
{
    const struct kv_geometry *geometry = renumber->geometry;
    const uint32_t number = renumber->number_of[token];
    if (geometry->rope.layout == KV_ROPE_NONE || geometry->positions[token] == (int32_t)number)
        return;
    kv_rotary_undo(&renumber->recorded, token, row);
    kv_rotary_apply(&renumber->numbered, number, row);
}

void kv_renumber_keys(struct kv_renumber *renumber, const struct kv_mirror *mirror)
{
    const uint32_t tokens = renumber->geometry->tokens;
    memset(renumber->held, 0, tokens);
    for (uint32_t s = 0; s < mirror->n_slots; s++)
        if (mirror->live[s]) renumber->held[mirror->token_of[s]] = 1;
    for (uint32_t t = 0, number = 0; t < tokens; t++) {
        renumber->number_of[t] = number;
        number += renumber->held[t];
    }
    for (uint32_t s = 0; s < mirror->n_slots; s++) {
        if (!mirror->live[s]) continue;
        kv_mirror_key(mirror, s, renumber->row);
        turn(renumber, mirror->token_of[s], renumber->row);
        kv_mirror_put_key(mirror, renumber->keys, s, renumber->row);
    }
}

void kv_renumber_queries(const struct kv_renumber *renumber, uint32_t t, uint32_t n, float *queries)
{
    for (uint32_t r = 0; r < n; r++)
        turn(renumber, t, queries + (size_t)r * renumber->geometry->key_dim);
}
