/* Which lines a token may read, and which columns of a tile a block of rows has to. */
#include "methods/sweep/parts.h"

#include <math.h>

static void set_visibility(struct tile *tile, const struct kv_lines *lines, uint32_t window)
{
    for (uint32_t j = 0; j < TILE; j++) {
        tile->begin[j] = tile->end[j] = 0;
        if (j >= tile->n) continue;
        const uint32_t line = tile->line[j], position = tile->position[j];
        const uint32_t from = lines->from[line], until = lines->until[line];
        tile->begin[j] = kv_clip_token(from > position ? from : position);
        tile->end[j] = kv_clip_token(until);
        if (window && (uint64_t)position + window < until)
            tile->end[j] = kv_clip_token((uint64_t)position + window);
    }
}

static void summarise(struct tile *tile)
{
    for (uint32_t s = 0; s < STEPS; s++) {
        int32_t first_begin = INT32_MAX, last_begin = 0, first_end = INT32_MAX, last_end = 0;
        for (uint32_t j = s * STEP; j < (s + 1) * STEP; j++) {
            const int32_t begin = tile->begin[j], end = tile->end[j];
            if (begin < first_begin && begin < end) first_begin = begin;
            if (end > last_end && begin < end) last_end = end;
            if (begin > last_begin) last_begin = begin;
            if (end < first_end) first_end = end;
        }
        tile->steps[s].first_begin = first_begin;
        tile->steps[s].last_begin = last_begin;
        tile->steps[s].first_end = first_end;
        tile->steps[s].last_end = last_end;
    }
}

void kv_tile_look(struct tile *tile, const struct kv_lines *lines, uint32_t window)
{
    for (uint32_t j = 0; j < tile->n; j++) tile->position[j] = lines->position[tile->line[j]];
    set_visibility(tile, lines, window);
    summarise(tile);
}

bool kv_step_seen(const struct tile *tile, uint32_t step, uint32_t first, uint32_t last)
{
    return (int64_t)tile->steps[step].first_begin <= last &&
           (int64_t)tile->steps[step].last_end > first;
}

bool kv_column_seen(const struct tile *tile, uint32_t column, uint32_t first, uint32_t last)
{
    const int64_t begin = tile->begin[column], end = tile->end[column];
    return begin < end && begin <= (int64_t)last && end > (int64_t)first;
}

/* Whether all rows of tokens first..last see all lines of the step. */
static bool step_open(const struct tile *tile, uint32_t step, uint32_t first, uint32_t last)
{
    return (int64_t)tile->steps[step].last_begin <= first &&
           (int64_t)tile->steps[step].first_end > last;
}

static bool column_open(const struct tile *tile, uint32_t column, uint32_t first, uint32_t last)
{
    return (int64_t)tile->begin[column] <= first && (int64_t)tile->end[column] > last;
}

bool kv_tile_open(const struct tile *tile, uint32_t first, uint32_t last)
{
    uint32_t s = 0;
    while (s < STEPS && step_open(tile, s, first, last)) s++;
    return s == STEPS;
}

/* Which of a packed tile's lines a block reads. Those left out are -infinity from the beginning: what
 * all rows see is that of the others. */
static void choose_lines(const struct tile *tile, struct block *block)
{
    uint32_t from = 0, to = tile->n_alive;
    while (from < to && tile->alive[from] < block->from) from++;
    while (to > from && tile->alive[to - 1] >= block->from + block->read) to--;
    block->alive_from = from, block->alive_to = to;
    block->last_begin = 0, block->first_end = INT32_MAX;
    for (uint32_t i = from; i < to; i++) {
        const int32_t begin = tile->begin[tile->alive[i]], end = tile->end[tile->alive[i]];
        if (begin > block->last_begin) block->last_begin = begin;
        if (end < block->first_end) block->first_end = end;
    }
}

bool kv_block_choose(const struct tile *tile, const uint32_t *tokens, struct block *block)
{
    const uint32_t first = tokens[block->first], last = tokens[block->first + block->n - 1];
    uint32_t from = 0, to = STEPS;
    while (from < to && !kv_step_seen(tile, from, first, last)) from++;
    while (to > from && !kv_step_seen(tile, to - 1, first, last)) to--;
    if (from == to) return false;
    block->from = from * STEP;
    block->to = to * STEP;
    while (block->to > block->from && !kv_column_seen(tile, block->to - 1, first, last))
        block->to--;
    if (block->to == block->from) return false;
    block->to = (block->to + GRAIN - 1) / GRAIN * GRAIN;
    block->read = (block->to < tile->n ? block->to : tile->n) - block->from;
    block->last_begin = 0;
    block->first_end = INT32_MAX;
    block->open = from * STEP;
    for (uint32_t s = from; s < to; s++) {
        if (block->open == s * STEP && step_open(tile, s, first, last)) block->open += STEP;
        if (tile->steps[s].last_begin > block->last_begin)
            block->last_begin = tile->steps[s].last_begin;
        if (tile->steps[s].first_end < block->first_end)
            block->first_end = tile->steps[s].first_end;
    }
    while (block->open < block->to && column_open(tile, block->open, first, last)) block->open++;
    if (tile->packed) choose_lines(tile, block);
    return true;
}

bool kv_block_open(const struct block *block, uint32_t first, uint32_t last)
{
    return kv_clip_token(first) >= block->last_begin && kv_clip_token(last) < block->first_end;
}

uint32_t kv_block_mask(const struct work *work, const struct block *block, uint32_t token,
                       float *logits, float *beside)
{
    const struct tile *tile = &work->tile;
    const int32_t t = kv_clip_token(token);
    if (kv_block_open(block, token, token))
        return tile->packed ? block->alive_to - block->alive_from : block->read;
    const uint32_t open = block->open;
    return open - block->from +
           work->sweep->kernels->hide(tile->begin + open, tile->end + open, t, block->to - open,
                                      logits + open, beside ? beside + open : NULL);
}
