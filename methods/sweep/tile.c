/* A tile: its lines decoded once for all rows of a chunk. */
#include "methods/sweep/parts.h"

#include <string.h>

#include "methods/kernels/recorded_rows.h"

/* Lines that any row of tokens[0]..tokens[1] sees. */
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
        const uint32_t column = tile->packed ? tile->alive[i] : i;
        kv_widen_rows(keys, sweep->compare->head, tile->position[column], 1, sweep->kernels,
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
    tile->packed = false;
    tile->n = lines->n - first < TILE ? lines->n - first : TILE;
    for (uint32_t j = 0; j < tile->n; j++) tile->line[j] = first + j;
    kv_tile_look(tile, lines, work->sweep->geometry->window);
    for (uint32_t s = 0; s < STEPS; s++) seen |= kv_step_seen(tile, s, tokens[0], tokens[1]);
    return seen;
}

void kv_tile_load_keys(struct work *work)
{
    const struct kv_lines *lines = &work->sweep->lines;
    struct tile *tile = &work->tile;
    lines->decode(lines->source, tile->line[0], tile->n, tile->rows, NULL);
    pack_rows(work->sweep, tile, &tile->keys);
}

/* Lays the loaded values as so many rows want to meet them. */
static void lay_values(const struct kv_sweep *sweep, struct tile *tile, uint32_t rows)
{
    const uint32_t lines = kv_tile_loaded(tile), dim = kv_sweep_columns(sweep, 1);
    if (tile->ready) sweep->kernels->ready_values(tile->values, lines, dim, tile->ready_values);
    else tile->strips = kv_strips_of(sweep->kernels, rows, tile->values, lines, dim, tile->strip_room);
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
        const bool coded = lines->coded && j < tile->n && lines->coded[tile->line[j]];
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

/* Whether leaving out lines that nobody sees pays: few in four must be left. Logits that are kept for others are
 * those of all lines. */
static bool sparse(const struct work *work)
{
    return !work->sweep->kept.rows && 4 * work->tile.n_alive <= 3 * work->tile.n;
}

/* Products pass over the alive lines of one tile alone. */
static void pack(struct work *work)
{
    const struct kv_sweep *sweep = work->sweep;
    struct tile *tile = &work->tile;
    tile->packed = true;
    close_ranks(tile, tile->rows, kv_sweep_columns(sweep, 0));
    if (sweep->answers.outputs) close_ranks(tile, tile->values, kv_sweep_columns(sweep, 1));
}

/* The alive lines of the tile that was entered behind n others. */
static void append_alive(struct work *work, uint32_t n)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_lines *lines = &sweep->lines;
    const struct tile *tile = &work->tile;
    const size_t columns[2] = {kv_sweep_columns(sweep, 0), kv_sweep_columns(sweep, 1)};
    /* What is made ready of the tile later has room for them until then. */
    float *keys = tile->keys.ready, *values = sweep->answers.outputs ? tile->ready_values : NULL;
    lines->decode(lines->source, tile->line[0], tile->n, keys, values);
    for (uint32_t i = 0; i < tile->n_alive; i++, n++) {
        memcpy(tile->rows + n * columns[0], keys + tile->alive[i] * columns[0], columns[0] * sizeof *keys);
        if (values)
            memcpy(tile->values + n * columns[1], values + tile->alive[i] * columns[1], columns[1] * sizeof *values);
    }
}

/* The tile that was entered becomes one of its alive lines, and of those of as many sparse ones behind it as it
 * has room for; returns the line after them. */
static uint32_t gather(struct work *work, uint32_t first, const uint32_t tokens[2])
{
    const struct kv_lines *lines = &work->sweep->lines;
    struct tile *tile = &work->tile;
    uint32_t gathered[TILE], n = 0;
    do {
        append_alive(work, n);
        for (uint32_t i = 0; i < tile->n_alive; i++) gathered[n++] = tile->line[tile->alive[i]];
        do first += TILE;
        while (first < lines->n && !kv_tile_enter(work, first, tokens));
        if (first < lines->n) choose_alive(tile, tokens);
    } while (first < lines->n && sparse(work) && n + tile->n_alive <= TILE);
    memcpy(tile->line, gathered, n * sizeof *gathered);
    tile->n = n;
    kv_tile_look(tile, lines, work->sweep->geometry->window);
    return first;
}

uint32_t kv_tile_load(struct work *work, uint32_t first, const uint32_t tokens[2], uint32_t row, uint32_t n)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_lines *lines = &sweep->lines;
    struct tile *tile = &work->tile;
    uint32_t next = first + TILE;
    if (!kv_tile_enter(work, first, tokens)) {
        tile->n = 0;
        return next;
    }
    float *values = sweep->answers.outputs ? tile->values : NULL;
    choose_alive(tile, tokens);
    if (tile->ready && sparse(work)) {
        next = gather(work, first, tokens);
    } else {
        lines->decode(lines->source, first, tile->n, tile->rows, values);
        if (sparse(work)) pack(work);
    }
    pack_rows(sweep, tile, &tile->keys);
    if (values) lay_values(sweep, tile, n);
    if (sweep->compare) load_comparison(work, row, n);
    return next;
}
