/* Scratch of a sweep: what lies where in it. */
#include "methods/sweep/parts.h"

/* Hands out n floats; with next NULL it only counts. Multiples of 16 keep 64-byte alignment. */
static float *take(struct work *work, size_t n)
{
    float *place = work->next ? work->next + work->used : NULL;
    work->used += (n + 15) / 16 * 16;
    return place;
}

static float *take_ready(struct work *work, uint32_t dim)
{
    return kv_ready_place(take(work, kv_ready_floats(work->sweep->kernels, dim)));
}

/* tanh wants logits as they are. */
static void choose_unit(struct work *work)
{
    const struct kv_geometry *geometry = work->sweep->geometry;
    const float scale = (float)geometry->scale;
    work->scale = geometry->softcap == 0 ? kv_ready_scale(work->sweep->kernels, scale) : scale;
    work->unit = work->scale == scale ? 1.0f : scale / work->scale;
}

void kv_sweep_lay_out(struct work *work)
{
    choose_unit(work);
    const uint32_t key_dim = work->sweep->geometry->key_dim;
    const uint32_t key_columns = kv_sweep_columns(work->sweep, 0);
    struct states *states = &work->states;
    struct tile *tile = &work->tile;
    float **const arrays[] = {&states->largest,     &states->sum,        &states->exact_largest,
                              &states->exact_sum,   &states->exact_held, &states->coded,
                              &states->exact_coded, &states->shift};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) *arrays[i] = take(work, CHUNK);
    states->seen = (uint32_t *)(void *)take(work, CHUNK);
    tile->keys = (struct tile_keys){take(work, (size_t)TILE * key_columns), take_ready(work, key_columns), key_columns};
    tile->exact = (struct tile_keys){take(work, (size_t)TILE * key_dim), take_ready(work, key_dim), key_dim};
    tile->rows = take(work, TILE * (size_t)(key_columns > key_dim ? key_columns : key_dim));
    tile->values = take(work, TILE * (size_t)kv_sweep_columns(work->sweep, 1));
    tile->ready_values = take_ready(work, kv_sweep_columns(work->sweep, 1));
    tile->strip_room = take(work, work->sweep->kernels->strip ? TILE * (size_t)kv_sweep_columns(work->sweep, 1) : 0);
    tile->coded = take(work, TILE);
    tile->span = take(work, TILE);
    tile->begin = (int32_t *)(void *)take(work, TILE);
    tile->end = (int32_t *)(void *)take(work, TILE);
    work->logits = take(work, BLOCK * STRIDE);
    work->exact_logits = take(work, BLOCK * STRIDE);
    work->close = take(work, BLOCK * STRIDE);
}

size_t kv_sweep_scratch(const struct kv_sweep *sweep)
{
    struct work work = {.sweep = sweep};
    kv_sweep_lay_out(&work);
    return work.used;
}
