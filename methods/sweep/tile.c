/* A tile: its lines decoded once for all rows of a chunk. */
#include "methods/sweep/parts.h"

#include <string.h>

#include "methods/kernels/recorded_rows.h"

/* Lines that any row of tokens[0]..tokens[1] sees; products leave the others out where those are
 * many. */
static void choose_alive(struct tile *tile, const uint32_t tokens[2])
{
    tile->n_alive = 0;
    memset(tile->places, 0, sizeof tile->places);
    for (uint32_t j = 0; j < tile->n; j++)
        if (kv_column_seen(tile, j, tokens[0], tokens[1])) {
            tile->alive[tile->n_alive++] = j;
            tile->places[j / GRAIN] |= (uint16_t)(1u << j % GRAIN);
        }
}

/* The alive rows side by side, in place. */
static void close_ranks(const struct tile *tile, float *rows, size_t dim)
{
    for (uint32_t i = 0; i < tile->n_alive; i++)
        if (tile->alive[i] != i)
            memcpy(rows + i * dim, rows + tile->alive[i] * dim, dim * sizeof *rows);
}

/* Recorded keys at the positions of the loaded lines, as float rows. */
static void widen_exact_keys(const struct kv_sweep *sweep, const struct tile *tile, float *rows)
{
    const struct kv_tensor *keys = sweep->compare->keys;
    for (uint32_t i = 0; i < kv_tile_loaded(tile); i++) {
        const uint32_t line = tile->first + (tile->packed ? tile->alive[i] : i);
        kv_widen_rows(keys, sweep->compare->head, sweep->lines.position[line], 1, sweep->kernels,
                      rows + (size_t)i * keys->dim);
    }
}

/* Packs rows, and zeros for the panels that they do not reach. */
static void pack_rows(const struct kv_sweep *sweep, const struct tile *tile, const struct tile_keys *keys)
{
    const struct kv_kernels *kernels = sweep->kernels;
    const uint32_t panel = kernels->panel, n = kv_tile_loaded(tile);
    const uint32_t columns = (n + panel - 1) / panel * panel;
    kernels->pack_keys(tile->rows, n, keys->dim, keys->panels);
    memset(keys->panels + (size_t)columns * keys->dim, 0,
           (size_t)(TILE - columns) * keys->dim * sizeof *keys->panels);
    if (tile->ready) kernels->ready_keys(keys->panels, kv_whole_cells(n), keys->dim, keys->ready);
}

bool kv_tile_enter(struct work *work, uint32_t first, const uint32_t tokens[2])
{
    const struct kv_lines *lines = &work->sweep->lines;
    struct tile *tile = &work->tile;
    bool seen = false;
    tile->first = first;
    tile->packed = false;
    tile->n = lines->n - first < TILE ? lines->n - first : TILE;
    kv_tile_set_visibility(tile, lines, work->sweep->geometry->window);
    kv_tile_summarise(tile);
    for (uint32_t s = 0; s < STEPS; s++) seen |= kv_step_seen(tile, s, tokens[0], tokens[1]);
    return seen;
}

void kv_tile_load_keys(struct work *work)
{
    const struct kv_lines *lines = &work->sweep->lines;
    struct tile *tile = &work->tile;
    lines->decode(lines->source, tile->first, tile->n, tile->rows, NULL);
    pack_rows(work->sweep, tile, &tile->keys);
}

/* What a comparison needs of the loaded lines: exact keys, unless the rows' exact logits are kept. */
static void load_comparison(struct work *work, uint32_t row, uint32_t n)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_compare *compare = sweep->compare;
    const struct kv_lines *lines = &sweep->lines;
    struct tile *tile = &work->tile;
    const uint32_t dim = sweep->geometry->key_dim;
    const size_t bytes = (size_t)kv_tile_loaded(tile) * dim * sizeof(float);
    tile->any_coded = false;
    for (uint32_t j = 0; j < TILE; j++) {
        const bool coded = lines->coded && j < tile->n && lines->coded[tile->first + j];
        tile->coded[j] = coded;
        tile->any_coded |= coded;
    }
    const bool kept = kv_kept_all(&compare->exact, row, n);
    const bool may_be = !tile->any_coded && kv_sweep_columns(sweep, 0) == dim &&
                        (!compare->queries || compare->queries == sweep->rows.queries);
    if (may_be || !kept) widen_exact_keys(sweep, tile, tile->exact.panels);
    tile->recorded = may_be && !memcmp(tile->rows, tile->exact.panels, bytes);
    if (tile->recorded || kept) return;
    memcpy(tile->rows, tile->exact.panels, bytes);
    pack_rows(sweep, tile, &tile->exact);
}

bool kv_tile_load(struct work *work, uint32_t first, const uint32_t tokens[2], uint32_t row, uint32_t n)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_lines *lines = &sweep->lines;
    struct tile *tile = &work->tile;
    if (!kv_tile_enter(work, first, tokens)) return false;
    float *values = sweep->answers.outputs ? tile->values : NULL;
    lines->decode(lines->source, first, tile->n, tile->rows, values);
    choose_alive(tile, tokens);
    tile->packed = !sweep->kept.rows && 4 * tile->n_alive <= 3 * tile->n;
    if (tile->packed) {
        close_ranks(tile, tile->rows, kv_sweep_columns(sweep, 0));
        if (values) close_ranks(tile, values, kv_sweep_columns(sweep, 1));
    }
    pack_rows(sweep, tile, &tile->keys);
    if (values && tile->ready)
        sweep->kernels->ready_values(values, kv_tile_loaded(tile), kv_sweep_columns(sweep, 1),
                                     tile->ready_values);
    if (sweep->compare) load_comparison(work, row, n);
    return true;
}
