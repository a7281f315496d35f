/* The fp32 attention sweep; see sweep.h.
 *
 * Loops, outermost first: chunks of at most CHUNK query rows (whose softmax states lie in scratch),
 * tiles of TILE lines (decoded once a chunk), blocks of BLOCK rows. A block reads the columns of a
 * tile that any of its rows sees, in steps of STEP columns; kernels sum a row's columns in an order
 * that depends on the column's place in the tile only (index mod STEP), so that a row's result does
 * not depend on which rows share its block.
 *
 * A policy that evicts leaves tiles of which few lines are seen by any row of the chunk. Products
 * then pass over those alone, side by side (`packed`): a logit is a sum over its own key, an output
 * adds values in ascending order and a line that nobody sees adds 0, so that results stay what they
 * are. Sums of a row keep the columns' places.
 *
 * Keys that are read as they were recorded (`recorded`) have exact logits that nobody needs to
 * compute again; while a row has read nothing else, its exact softmax is the answer's own.
 *
 * Softmax state of a row, as in flash attention (Milakov and Gimelshein 2018, arXiv 1805.02867):
 * the largest logit so far, the sum of exp(logit - largest), and the output in units of
 * exp(largest). A sink logit is the state's beginning: largest = sink, sum = 1, output = 0. */
#include "methods/sweep.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { TILE = 256, BLOCK = KV_SWEEP_BLOCK, CHUNK = 4096, STEP = 64, STEPS = TILE / STEP, MAX_PANEL = 64 };
enum { GRAIN = 16 };           /* columns that a block reads end at a multiple */
enum { STRIDE = TILE + 16 };   /* rows a KiB apart would share few sets of a cache */

_Static_assert(STEP % MAX_PANEL == 0, "a step is whole panels in every set");
_Static_assert(STEP % GRAIN == 0, "a step is whole grains");

/* What a chunk's rows carry from tile to tile; all [CHUNK]. */
struct states {
    float *largest, *sum;              /* the answer's softmax */
    float *exact_largest, *exact_sum;  /* softmax of the exact logits of the same lines */
    float *exact_held;                 /* exact_sum without the sink logit */
    float *coded, *exact_coded;        /* the parts of sum and exact_sum from coded lines */
    float *shift;                      /* sum of exp(logit - largest) (logit - exact logit) */
    uint32_t *seen;                    /* lines seen */
};

/* One decoded tile, and which of its lines a token may read: begin <= token < end. */
struct tile {
    uint32_t first, n;
    float *panels, *exact_panels;      /* [key_dim][panel] each */
    float *values;                     /* [TILE][value_dim] */
    float *rows;                       /* [TILE][key_dim] before packing */
    float *coded, *span;               /* [TILE] 1 or 0: dot with weights gives a mass */
    int32_t *begin, *end;              /* [TILE]; lines past n have begin = end = 0 */
    bool any_coded;
    bool recorded; /* keys are the recorded ones, bit for bit, and so are queries */
    bool packed;   /* panels and values hold the alive lines only */
    uint32_t n_alive;
    uint32_t alive[TILE]; /* columns that a row of the chunk sees, ascending */
    struct { int32_t first_begin, last_begin, first_end, last_end; } steps[STEPS];
};

struct work {
    const struct kv_sweep *sweep;
    struct states states;
    struct tile tile;
    float *logits, *exact_logits, *shifts; /* [BLOCK][STRIDE] */
    float *next;                           /* scratch not yet handed out */
    size_t used;
};

/* Columns of a key or a value as the lines have them. */
static uint32_t columns_of(const struct kv_sweep *sweep, int side)
{
    const uint32_t own = side ? sweep->geometry->value_dim : sweep->geometry->key_dim;
    return sweep->lines.columns[side] ? sweep->lines.columns[side] : own;
}

/* -- scratch ----------------------------------------------------------------------------------- */

/* Hands out n floats; with next NULL it only counts. Multiples of 16 keep 64-byte alignment. */
static float *take(struct work *work, size_t n)
{
    float *place = work->next ? work->next + work->used : NULL;
    work->used += (n + 15) / 16 * 16;
    return place;
}

static void lay_out(struct work *work)
{
    const size_t key_dim = work->sweep->geometry->key_dim;
    const size_t key_columns = columns_of(work->sweep, 0);
    struct states *states = &work->states;
    struct tile *tile = &work->tile;
    float **const arrays[] = {&states->largest, &states->sum, &states->exact_largest,
                              &states->exact_sum, &states->exact_held, &states->coded,
                              &states->exact_coded, &states->shift};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) *arrays[i] = take(work, CHUNK);
    states->seen = (uint32_t *)(void *)take(work, CHUNK);
    tile->panels = take(work, TILE * key_columns);
    tile->exact_panels = take(work, TILE * key_dim);
    tile->rows = take(work, TILE * (key_columns > key_dim ? key_columns : key_dim));
    tile->values = take(work, TILE * (size_t)columns_of(work->sweep, 1));
    tile->coded = take(work, TILE);
    tile->span = take(work, TILE);
    tile->begin = (int32_t *)(void *)take(work, TILE);
    tile->end = (int32_t *)(void *)take(work, TILE);
    work->logits = take(work, BLOCK * STRIDE);
    work->exact_logits = take(work, BLOCK * STRIDE);
    work->shifts = take(work, BLOCK * STRIDE);
}

size_t kv_sweep_scratch(const struct kv_sweep *sweep)
{
    struct work work = {.sweep = sweep};
    lay_out(&work);
    return work.used;
}

/* -- tiles ------------------------------------------------------------------------------------- */

static int32_t clip(uint64_t token) { return token > INT32_MAX ? INT32_MAX : (int32_t)token; }

/* The tokens that may read a line are one interval: see the head of sweep.h. */
static void set_visibility(struct tile *tile, const struct kv_lines *lines, uint32_t window)
{
    for (uint32_t j = 0; j < TILE; j++) {
        tile->begin[j] = tile->end[j] = 0;
        if (j >= tile->n) continue;
        const uint32_t line = tile->first + j, position = lines->position[line];
        const uint32_t from = lines->from[line], until = lines->until[line];
        tile->begin[j] = clip(from > position ? from : position);
        tile->end[j] = clip(until);
        if (window && (uint64_t)position + window < until)
            tile->end[j] = clip((uint64_t)position + window);
    }
}

static void summarise_steps(struct tile *tile)
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

/* Whether any row of tokens first..last sees a line of the step. */
static bool step_seen(const struct tile *tile, uint32_t step, uint32_t first, uint32_t last)
{
    return (int64_t)tile->steps[step].first_begin <= last &&
           (int64_t)tile->steps[step].last_end > first;
}

static bool column_seen(const struct tile *tile, uint32_t column, uint32_t first, uint32_t last)
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

/* Lines that any row of tokens[0]..tokens[1] sees; products leave the others out where those are
 * many. */
static void choose_alive(struct tile *tile, const uint32_t tokens[2])
{
    tile->n_alive = 0;
    for (uint32_t j = 0; j < tile->n; j++)
        if (column_seen(tile, j, tokens[0], tokens[1])) tile->alive[tile->n_alive++] = j;
}

/* The alive rows side by side, in place. */
static void close_ranks(const struct tile *tile, float *rows, size_t dim)
{
    for (uint32_t i = 0; i < tile->n_alive; i++)
        if (tile->alive[i] != i)
            memcpy(rows + i * dim, rows + tile->alive[i] * dim, dim * sizeof *rows);
}

/* Lines that panels and values hold. */
static uint32_t loaded(const struct tile *tile)
{
    return tile->packed ? tile->n_alive : tile->n;
}

/* Recorded keys at the positions of the loaded lines, as float rows. */
static void widen_exact_keys(const struct kv_sweep *sweep, const struct tile *tile, float *rows)
{
    const struct kv_tensor *keys = sweep->compare->keys;
    const uint32_t dim = keys->dim;
    for (uint32_t i = 0; i < loaded(tile); i++) {
        const uint32_t line = tile->first + (tile->packed ? tile->alive[i] : i);
        const void *row = kv_tensor_row(keys, sweep->compare->head, sweep->lines.position[line]);
        float *out = rows + (size_t)i * dim;
        if (keys->dtype == KV_F16) sweep->kernels->widen_half(row, out, dim);
        else if (keys->dtype == KV_BF16) sweep->kernels->widen_bfloat(row, out, dim);
        else memcpy(out, row, dim * sizeof *out);
    }
}

/* Packs rows, and zeros for the panels that they do not reach. */
static void pack_rows(const struct kv_sweep *sweep, const struct tile *tile, uint32_t dim, float *panels)
{
    const uint32_t panel = sweep->kernels->panel;
    const uint32_t columns = (loaded(tile) + panel - 1) / panel * panel;
    sweep->kernels->pack_keys(tile->rows, loaded(tile), dim, panels);
    memset(panels + (size_t)columns * dim, 0, (size_t)(TILE - columns) * dim * sizeof *panels);
}

/* Begins the tile of lines from `first`; false when no token of tokens[0]..tokens[1] sees it. */
static bool enter_tile(struct work *work, uint32_t first, const uint32_t tokens[2])
{
    const struct kv_lines *lines = &work->sweep->lines;
    struct tile *tile = &work->tile;
    bool seen = false;
    tile->first = first;
    tile->packed = false;
    tile->n = lines->n - first < TILE ? lines->n - first : TILE;
    set_visibility(tile, lines, work->sweep->geometry->window);
    summarise_steps(tile);
    for (uint32_t s = 0; s < STEPS; s++) seen |= step_seen(tile, s, tokens[0], tokens[1]);
    return seen;
}

static void load_keys(struct work *work)
{
    const struct kv_lines *lines = &work->sweep->lines;
    struct tile *tile = &work->tile;
    lines->decode(lines->source, tile->first, tile->n, tile->rows, NULL);
    pack_rows(work->sweep, tile, columns_of(work->sweep, 0), tile->panels);
}

/* What a comparison needs of the loaded lines, for rows before `end`. */
static void load_comparison(struct work *work, uint32_t end)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_compare *compare = sweep->compare;
    const struct kv_lines *lines = &sweep->lines;
    struct tile *tile = &work->tile;
    const uint32_t dim = sweep->geometry->key_dim;
    const size_t bytes = (size_t)loaded(tile) * dim * sizeof(float);
    tile->any_coded = false;
    for (uint32_t j = 0; j < TILE; j++) {
        const bool coded = lines->coded && j < tile->n && lines->coded[tile->first + j];
        tile->coded[j] = coded;
        tile->any_coded |= coded;
    }
    const bool may_be = !tile->any_coded && columns_of(sweep, 0) == dim &&
                        (!compare->queries || compare->queries == sweep->rows.queries);
    if (may_be || end > compare->exact.rows) widen_exact_keys(sweep, tile, tile->exact_panels);
    tile->recorded = may_be && !memcmp(tile->rows, tile->exact_panels, bytes);
    if (tile->recorded || end <= compare->exact.rows) return;
    memcpy(tile->rows, tile->exact_panels, bytes);
    pack_rows(sweep, tile, dim, tile->exact_panels);
}

/* The same with values and whatever a comparison needs of the rows before `end`. Few lines in four
 * must be dead for leaving them out to pay. Logits that are kept for others are those of all
 * lines. */
static bool load_tile(struct work *work, uint32_t first, const uint32_t tokens[2], uint32_t end)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_lines *lines = &sweep->lines;
    struct tile *tile = &work->tile;
    if (!enter_tile(work, first, tokens)) return false;
    float *values = sweep->answers.outputs ? tile->values : NULL;
    lines->decode(lines->source, first, tile->n, tile->rows, values);
    choose_alive(tile, tokens);
    tile->packed = !sweep->kept.rows && 4 * tile->n_alive <= 3 * tile->n;
    if (tile->packed) {
        close_ranks(tile, tile->rows, columns_of(sweep, 0));
        if (values) close_ranks(tile, values, columns_of(sweep, 1));
    }
    pack_rows(sweep, tile, columns_of(sweep, 0), tile->panels);
    if (sweep->compare) load_comparison(work, end);
    return true;
}

/* -- logits of a block ------------------------------------------------------------------------- */

struct block {
    uint32_t first, n;             /* rows */
    uint32_t from, to;             /* columns of the tile, multiples of STEP and of GRAIN */
    uint32_t read;                 /* columns from .. from + read - 1 hold lines */
    uint32_t alive_from, alive_to; /* of a packed tile: its loaded lines among those columns */
    bool masked;                   /* what a packed tile left out is -infinity already */
    uint32_t open;                 /* every row sees the columns from .. open - 1 */
    int32_t last_begin, first_end; /* a token in [last_begin, first_end) sees every line read */
};

/* Which of a packed tile's lines a block reads. Where no exact logits are subtracted, lines left
 * out can be -infinity from the beginning: what all rows see is then that of the others. */
static void choose_lines(const struct tile *tile, struct block *block)
{
    uint32_t from = 0, to = tile->n_alive;
    while (from < to && tile->alive[from] < block->from) from++;
    while (to > from && tile->alive[to - 1] >= block->from + block->read) to--;
    block->alive_from = from, block->alive_to = to;
    block->masked = tile->recorded;
    if (!block->masked) return;
    block->last_begin = 0, block->first_end = INT32_MAX;
    for (uint32_t i = from; i < to; i++) {
        const int32_t begin = tile->begin[tile->alive[i]], end = tile->end[tile->alive[i]];
        if (begin > block->last_begin) block->last_begin = begin;
        if (end < block->first_end) block->first_end = end;
    }
}

/* Chooses the columns that a block must read; false when there are none. The last step ends after
 * the last column that is seen: weights past the end would be 0, which changes no sum. */
static bool choose_columns(const struct tile *tile, const uint32_t *tokens, struct block *block)
{
    const uint32_t first = tokens[block->first], last = tokens[block->first + block->n - 1];
    uint32_t from = 0, to = STEPS;
    while (from < to && !step_seen(tile, from, first, last)) from++;
    while (to > from && !step_seen(tile, to - 1, first, last)) to--;
    if (from == to) return false;
    block->from = from * STEP;
    block->to = to * STEP;
    while (block->to > block->from && !column_seen(tile, block->to - 1, first, last)) block->to--;
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
    if (tile->packed) choose_lines(tile, block);
    return true;
}

/* Capped logits of the block's rows and columns, not yet masked, rows `stride` floats apart; queries and
 * panels have `dim` columns. */
static void compute_logits(const struct kv_sweep *sweep, const struct block *block, const float *queries,
                           uint32_t dim, const float *panels, float *logits, uint32_t stride)
{
    const struct kv_geometry *geometry = sweep->geometry;
    const uint32_t panel = sweep->kernels->panel, columns = block->to - block->from;
    sweep->kernels->logits(queries + (size_t)block->first * dim, block->n, dim,
                           panels + (size_t)block->from * dim, (columns + panel - 1) / panel * panel,
                           (float)geometry->scale, logits + block->from, stride);
    if (geometry->softcap == 0) return;
    for (uint32_t r = 0; r < block->n; r++)
        sweep->kernels->softcap(logits + (size_t)r * stride + block->from, columns,
                                (float)geometry->softcap);
}

uint32_t kv_kept_stride(uint32_t lines) { return (lines + TILE - 1) / TILE * TILE; }

/* The block's kept logits, from the tile's first line on; NULL: they are not kept. */
static float *kept_of(const struct kv_kept *kept, const struct work *work, const struct block *block)
{
    if (block->first + block->n > kept->rows) return NULL;
    return kept->logits + (size_t)block->first * kept->stride + work->tile.first;
}

/* The same of the tile that is loaded, in the columns' places; 0 where a packed one left a line
 * out. */
static void tile_logits(struct work *work, const struct block *block, const float *queries,
                        uint32_t dim, const float *panels, float *logits)
{
    const struct tile *tile = &work->tile;
    if (!tile->packed) {
        compute_logits(work->sweep, block, queries, dim, panels, logits, STRIDE);
        return;
    }
    struct block close = *block;
    close.from = block->alive_from / work->sweep->kernels->panel * work->sweep->kernels->panel;
    close.to = block->alive_to;
    compute_logits(work->sweep, &close, queries, dim, panels, work->shifts, STRIDE);
    const float left_out = block->masked ? -INFINITY : 0;
    for (uint32_t r = 0; r < block->n; r++, logits += STRIDE) {
        const float *from = work->shifts + (size_t)r * STRIDE;
        for (uint32_t j = block->from; j < block->to; j++) logits[j] = left_out;
        for (uint32_t i = block->alive_from; i < block->alive_to; i++)
            logits[tile->alive[i]] = from[i];
    }
}

/* The answer's logits of a block, kept where that is asked for. */
static void answer_logits(struct work *work, const struct block *block)
{
    const struct kv_sweep *sweep = work->sweep;
    const uint32_t dim = columns_of(sweep, 0), stride = sweep->kept.stride;
    float *kept = kept_of(&sweep->kept, work, block);
    if (!kept) {
        tile_logits(work, block, sweep->rows.queries, dim, work->tile.panels, work->logits);
        return;
    }
    compute_logits(sweep, block, sweep->rows.queries, dim, work->tile.panels, kept, stride);
    for (uint32_t r = 0; r < block->n; r++)
        memcpy(work->logits + (size_t)r * STRIDE + block->from, kept + (size_t)r * stride + block->from,
               (block->to - block->from) * sizeof *kept);
}

/* -infinity where the token may not look, in a row of logits and in one beside it unless that is NULL;
 * returns how many columns it may read. */
static uint32_t mask_rows(const struct tile *tile, const struct block *block, uint32_t token,
                          float *restrict logits, float *restrict beside)
{
    const int32_t t = clip(token);
    if (t >= block->last_begin && t < block->first_end)
        return block->masked ? block->alive_to - block->alive_from : block->read;
    uint32_t seen = block->open - block->from;
    for (uint32_t j = block->open; beside && j < block->to; j++) {
        const uint32_t visible = (tile->begin[j] <= t) & (t < tile->end[j]);
        logits[j] = visible ? logits[j] : -INFINITY;
        beside[j] = visible ? beside[j] : -INFINITY;
        seen += visible;
    }
    if (beside) return seen;
    for (uint32_t j = block->open; j < block->to; j++) {
        const uint32_t visible = (tile->begin[j] <= t) & (t < tile->end[j]);
        logits[j] = visible ? logits[j] : -INFINITY;
        seen += visible;
    }
    return seen;
}

/* -- online softmax ---------------------------------------------------------------------------- */

/* exp(old - new) for a state that moves to a new, finite largest logit; 0 for an empty state. */
static float rescale_factor(const struct kv_kernels *kernels, float old, float new)
{
    if (old == new) return 1.0f;
    if (old == -INFINITY) return 0.0f;
    kernels->exp_sum(&old, 1, new);
    return old;
}

struct step { float factor, added; };   /* sum = sum * factor + added */

/* Turns a row's logits into weights relative to the row's largest logit so far; everything summed
 * before must shrink by the factor returned. */
static struct step soften(const struct kv_kernels *kernels, const struct block *block,
                          float *logits, float *largest, float *sum)
{
    const uint32_t columns = block->to - block->from;
    const float here = kernels->max(logits + block->from, columns);
    const float old = *largest;
    if (here > old) *largest = here;
    struct step step = {1, 0};
    if (*largest == -INFINITY) {   /* nothing seen yet: -inf minus -inf is no number */
        memset(logits + block->from, 0, columns * sizeof *logits);
        return step;
    }
    step.factor = rescale_factor(kernels, old, *largest);
    step.added = kernels->exp_sum(logits + block->from, columns, *largest);
    *sum = *sum * step.factor + step.added;
    return step;
}

/* Masses of spans: outputs of compare that serve as their own accumulators. */
static void add_span_mass(struct work *work, const struct block *block, uint32_t span)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_spans *spans = &sweep->compare->spans;
    struct tile *tile = &work->tile;
    bool any = false;
    for (uint32_t j = 0; j < TILE; j++) {
        const uint32_t position = j < tile->n ? sweep->lines.position[tile->first + j] : 0;
        const bool inside = j < tile->n && position >= spans->range[span][0] &&
                            position < spans->range[span][1];
        tile->span[j] = inside;
        any |= inside;
    }
    for (uint32_t r = 0; any && r < block->n; r++)
        sweep->compare->span_mass[(size_t)(block->first + r) * spans->n + span] +=
            sweep->kernels->dot(work->logits + (size_t)r * STRIDE + block->from,
                                tile->span + block->from, block->to - block->from);
}

/* The exact softmax of a row beside the answer's, whose step this was; `exact` NULL: it is the
 * same. */
static struct step soften_exact(struct work *work, const struct block *block, uint32_t state,
                                float *exact, struct step own)
{
    struct states *states = &work->states;
    if (exact)
        own = soften(work->sweep->kernels, block, exact, &states->exact_largest[state],
                     &states->exact_sum[state]);
    else
        states->exact_largest[state] = states->largest[state],
        states->exact_sum[state] = states->sum[state];
    states->exact_held[state] = states->exact_held[state] * own.factor + own.added;
    return own;
}

/* Adds a row's weights (already softened in `logits`) to the sums of the comparison. */
static void compare_row(struct work *work, const struct block *block, uint32_t r, uint32_t state,
                        float *exact_row, struct step own)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_kernels *kernels = sweep->kernels;
    struct states *states = &work->states;
    const size_t offset = (size_t)r * STRIDE + block->from, columns = block->to - block->from;
    const float *weights = work->logits + offset,
                *exact_weights = exact_row ? exact_row + block->from : weights;
    const float *coded = work->tile.coded + block->from;
    const struct step exact = soften_exact(work, block, state, exact_row, own);
    states->shift[state] =
        states->shift[state] * own.factor +
        (work->tile.recorded ? 0.0f : kernels->dot(weights, work->shifts + offset, columns));
    states->coded[state] *= own.factor;
    states->exact_coded[state] *= exact.factor;
    if (work->tile.any_coded) {
        states->coded[state] += kernels->dot(weights, coded, columns);
        states->exact_coded[state] += kernels->dot(exact_weights, coded, columns);
    }
    const uint32_t spans = sweep->compare->spans.n;
    if (own.factor != 1.0f && spans)
        kernels->scale(sweep->compare->span_mass + (size_t)(block->first + r) * spans, spans,
                       own.factor);
}

/* Whether the block's columns are lines of ascending positions without a gap. */
static bool in_a_row(const struct work *work, const struct block *block)
{
    const uint32_t *position = work->sweep->lines.position + work->tile.first + block->from;
    uint32_t j = 1;
    while (j < block->read && position[j] == position[0] + j) j++;
    return j >= block->read;
}

/* One row of exact logits that were kept by position; columns past the lines are 0. */
static void fetch_row(const struct work *work, const struct block *block, bool in_row, const float *kept,
                      float *exact)
{
    const uint32_t *position = work->sweep->lines.position + work->tile.first + block->from;
    if (in_row) memcpy(exact, kept + position[0], block->read * sizeof *exact);
    for (uint32_t j = 0; !in_row && j < block->read; j++) exact[j] = kept[position[j]];
    memset(exact + block->read, 0, (block->to - block->from - block->read) * sizeof *exact);
}

static void exact_logits(struct work *work, const struct block *block)
{
    const struct kv_compare *compare = work->sweep->compare;
    const struct kv_kept *kept = &compare->exact;
    if (block->first + block->n > kept->rows) {
        tile_logits(work, block, compare->queries ? compare->queries : work->sweep->rows.queries,
                    work->sweep->geometry->key_dim, work->tile.exact_panels, work->exact_logits);
        return;
    }
    const bool in_row = in_a_row(work, block);
    for (uint32_t r = 0; r < block->n; r++)
        fetch_row(work, block, in_row, kept->logits + (size_t)(block->first + r) * kept->stride,
                  work->exact_logits + (size_t)r * STRIDE + block->from);
}

/* logit - exact logit before masking, so that no infinity meets another. */
static void compute_shifts(struct work *work, const struct block *block)
{
    exact_logits(work, block);
    for (uint32_t r = 0; r < block->n; r++)
        for (size_t j = block->from; j < block->to; j++) {
            const size_t at = (size_t)r * STRIDE + j;
            work->shifts[at] = work->logits[at] - work->exact_logits[at];
        }
}

/* The exact logits of a row that are to be softened beside its own; NULL: its own are the same. */
static float *exact_row(struct work *work, const struct block *block, uint32_t r, uint32_t state)
{
    const struct states *states = &work->states;
    float *exact = work->exact_logits + (size_t)r * STRIDE;
    if (!work->tile.recorded) return exact;
    if (states->largest[state] == states->exact_largest[state] &&
        states->sum[state] == states->exact_sum[state])
        return NULL;
    memcpy(exact + block->from, work->logits + (size_t)r * STRIDE + block->from,
           (block->to - block->from) * sizeof *exact);
    return exact;
}

/* One row's logits become weights, in its softmax and in the comparison. */
static void attend_row(struct work *work, const struct block *block, uint32_t r, uint32_t state)
{
    const struct kv_sweep *sweep = work->sweep;
    const uint32_t row = block->first + r, value_dim = columns_of(sweep, 1);
    struct states *states = &work->states;
    float *logits = work->logits + (size_t)r * STRIDE;
    float *exact = sweep->compare ? exact_row(work, block, r, state) : NULL;
    states->seen[state] += mask_rows(&work->tile, block, sweep->rows.token[row], logits, exact);
    const struct step step =
        soften(sweep->kernels, block, logits, &states->largest[state], &states->sum[state]);
    if (sweep->answers.outputs && step.factor != 1.0f)
        sweep->kernels->scale(sweep->answers.outputs + (size_t)row * value_dim, value_dim,
                              step.factor);
    if (sweep->compare) compare_row(work, block, r, state, exact, step);
}

/* Adds the block's weighted values to the outputs. */
static void add_values(struct work *work, const struct block *block)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct tile *tile = &work->tile;
    const uint32_t dim = columns_of(sweep, 1);
    const float *weights = work->logits + block->from;
    uint32_t first = block->from, n = block->read;
    if (tile->packed) {
        first = block->alive_from, n = block->alive_to - first;
        for (uint32_t r = 0; r < block->n; r++)
            for (uint32_t i = 0; i < n; i++)
                work->shifts[(size_t)r * STRIDE + i] =
                    work->logits[(size_t)r * STRIDE + tile->alive[first + i]];
        weights = work->shifts;
    }
    sweep->kernels->accumulate(weights, block->n, STRIDE, tile->values + (size_t)first * dim, n,
                               dim, sweep->answers.outputs + (size_t)block->first * dim);
}

/* One block of rows against the loaded tile. chunk = the row whose state is the first. */
static void attend_block(struct work *work, struct block *block, uint32_t chunk)
{
    const struct kv_sweep *sweep = work->sweep;
    if (!choose_columns(&work->tile, sweep->rows.token, block)) return;
    answer_logits(work, block);
    if (sweep->compare && !work->tile.recorded) compute_shifts(work, block);
    for (uint32_t r = 0; r < block->n; r++) attend_row(work, block, r, block->first + r - chunk);
    if (sweep->answers.outputs) add_values(work, block);
    for (uint32_t s = 0; sweep->compare && s < sweep->compare->spans.n; s++)
        add_span_mass(work, block, s);
}

/* -- begin and end of a chunk ------------------------------------------------------------------ */

/* Natural logarithm of a positive double: x = 2^n m, log m = 2 atanh((m - 1) / (m + 1)), by its
 * series (terms up to s^19: 2e-16 for m in [sqrt 1/2, sqrt 2)). libm's differs between CPUs. */
static double logarithm(double x)
{
    int n;
    double m = frexp(x, &n);
    if (m < 0.70710678118654752) {
        m *= 2;
        n--;
    }
    const double s = (m - 1) / (m + 1), square = s * s;
    double series = 0;
    for (int k = 19; k >= 1; k -= 2) series = series * square + 1.0 / k;
    return n * 0.69314718055994531 + 2 * s * series;
}

static void begin_rows(struct work *work, uint32_t first, uint32_t n)
{
    const struct kv_sweep *sweep = work->sweep;
    const float *sinks = sweep->rows.sink_logit;
    struct states *states = &work->states;
    for (uint32_t i = 0; i < n; i++) {
        const float sink = sinks ? sinks[first + i] : -INFINITY;
        states->largest[i] = states->exact_largest[i] = sink;
        states->sum[i] = states->exact_sum[i] = sink > -INFINITY ? 1.0f : 0.0f;
        states->exact_held[i] = states->coded[i] = states->exact_coded[i] = states->shift[i] = 0;
        states->seen[i] = 0;
    }
    const size_t value_dim = columns_of(sweep, 1);
    if (sweep->answers.outputs)
        memset(sweep->answers.outputs + first * value_dim, 0, n * value_dim * sizeof(float));
    if (sweep->compare && sweep->compare->spans.n)
        memset(sweep->compare->span_mass + (size_t)first * sweep->compare->spans.n, 0,
               (size_t)n * sweep->compare->spans.n * sizeof(float));
}

/* Lines that exact attention reads at this token. */
static uint32_t exact_lines(const struct kv_sweep *sweep, uint32_t token)
{
    const uint32_t window = sweep->geometry->window;
    return window && window < token + 1 ? window : token + 1;
}

/* The comparison's sums become the quantities of sweep.h. When every position of exact attention
 * was read, its log-sum-exp is the one of the exact logits seen here: taking that instead of the
 * given float spares the result a cancellation (log-sum-exp near 10 has an ulp of 1e-6, divergences
 * of 8-bit codes are smaller), and gives exactly 0 for exact lines. */
static void finish_comparison(struct work *work, uint32_t row, uint32_t i)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct kv_compare *compare = sweep->compare;
    const struct states *states = &work->states;
    const double sum = (double)states->sum[i], exact_sum = (double)states->exact_sum[i];
    const bool complete = states->seen[i] == exact_lines(sweep, sweep->rows.token[row]);
    double divergence = INFINITY, held = 0, drift = 0;
    if (sum > 0) {
        /* log-sum-exp of the exact logits read here, minus the answer's. */
        const double gap = ((double)states->exact_largest[i] - (double)states->largest[i]) +
                           logarithm(exact_sum / sum);
        const double exact = (double)compare->exact_log_sum_exp[row];
        const double here = (double)states->exact_largest[i] + logarithm(exact_sum);
        /* log of the share of exact mass that lies on what was read */
        double share = complete ? 0.0 : here - exact;
        divergence = (double)states->shift[i] / sum + gap - share;
        float power = (float)share;
        sweep->kernels->exp_sum(&power, 1, 0.0f);
        held = (double)states->exact_held[i] / exact_sum * (double)power;
        drift = (double)states->coded[i] / sum -
                (double)states->exact_coded[i] / exact_sum * (double)power;
    }
    compare->divergence[row] = (float)divergence;
    compare->held_mass[row] = (float)held;
    compare->drift[row] = (float)drift;
    const float unit = sum > 0 ? (float)(1 / sum) : 0.0f;
    if (compare->spans.n)
        sweep->kernels->scale(compare->span_mass + (size_t)row * compare->spans.n,
                              compare->spans.n, unit);
}

static void finish_rows(struct work *work, uint32_t first, uint32_t n)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct states *states = &work->states;
    const uint32_t value_dim = columns_of(sweep, 1);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = first + i;
        const double sum = (double)states->sum[i];
        sweep->answers.log_sum_exp[row] =
            sum > 0 ? (float)((double)states->largest[i] + logarithm(sum)) : -INFINITY;
        if (sweep->answers.outputs && sum > 0)
            sweep->kernels->scale(sweep->answers.outputs + (size_t)row * value_dim, value_dim,
                                  (float)(1 / sum));
        if (sweep->compare) finish_comparison(work, row, i);
    }
}

void kv_sweep_run(const struct kv_sweep *sweep, float *scratch)
{
    struct work work = {.sweep = sweep, .next = scratch};
    lay_out(&work);
    for (uint32_t chunk = 0; chunk < sweep->rows.n; chunk += CHUNK) {
        const uint32_t left = sweep->rows.n - chunk, n = left < CHUNK ? left : CHUNK;
        const uint32_t tokens[2] = {sweep->rows.token[chunk], sweep->rows.token[chunk + n - 1]};
        begin_rows(&work, chunk, n);
        for (uint32_t line = 0; line < sweep->lines.n; line += TILE) {
            if (!load_tile(&work, line, tokens, chunk + n)) continue;
            for (uint32_t row = 0; row < n; row += BLOCK) {
                struct block block = {chunk + row, n - row < BLOCK ? n - row : BLOCK};
                attend_block(&work, &block, chunk);
            }
        }
        finish_rows(&work, chunk, n);
    }
}

/* -- weights ----------------------------------------------------------------------------------- */

/* Weights of one row against the loaded tile, in place of its logits. */
static void weigh_row(struct work *work, const struct block *block, uint32_t row, float *logits)
{
    const struct kv_sweep *sweep = work->sweep;
    const float shift = sweep->answers.log_sum_exp[row];
    const uint32_t columns = block->to - block->from;
    mask_rows(&work->tile, block, sweep->rows.token[row], logits, NULL);
    if (shift > -INFINITY) sweep->kernels->exp_sum(logits + block->from, columns, shift);
    else memset(logits + block->from, 0, columns * sizeof *logits);
}

static void weigh_block(struct work *work, struct block *block, double *column_sum, float *weights)
{
    const struct kv_sweep *sweep = work->sweep;
    const struct tile *tile = &work->tile;
    if (!choose_columns(tile, sweep->rows.token, block)) return;
    float *kept = kept_of(&sweep->kept, work, block);
    if (!kept)
        compute_logits(sweep, block, sweep->rows.queries, columns_of(sweep, 0), tile->panels, work->logits, STRIDE);
    for (uint32_t r = 0; r < block->n; r++) {
        const uint32_t row = block->first + r;
        float *logits = kept ? kept + (size_t)r * sweep->kept.stride : work->logits + (size_t)r * STRIDE;
        weigh_row(work, block, row, logits);
        double *sums = column_sum ? column_sum + tile->first + block->from : NULL;
        if (sums) sweep->kernels->add_wide(logits + block->from, block->read, sums);
        if (weights)
            memcpy(weights + (size_t)row * sweep->lines.n + tile->first + block->from,
                   logits + block->from, block->read * sizeof *weights);
    }
}

void kv_sweep_weights(const struct kv_sweep *sweep, double *column_sum, float *weights,
                      float *scratch)
{
    struct kv_sweep plain = *sweep;
    plain.compare = NULL;
    struct work work = {.sweep = &plain, .next = scratch};
    lay_out(&work);
    if (weights) memset(weights, 0, (size_t)sweep->rows.n * sweep->lines.n * sizeof *weights);
    if (!sweep->rows.n) return;
    const uint32_t tokens[2] = {sweep->rows.token[0], sweep->rows.token[sweep->rows.n - 1]};
    for (uint32_t line = 0; line < sweep->lines.n; line += TILE) {
        if (!enter_tile(&work, line, tokens)) continue;
        if (sweep->kept.rows < sweep->rows.n) load_keys(&work);
        for (uint32_t row = 0; row < sweep->rows.n; row += BLOCK) {
            const uint32_t left = sweep->rows.n - row;
            struct block block = {row, left < BLOCK ? left : BLOCK};
            weigh_block(&work, &block, column_sum, weights);
        }
    }
}

/* -- bound ------------------------------------------------------------------------------------- */

/* Let u = 2^-24, n lines in t = ceil(n / TILE) tiles, S = scale |q| |k| (Cauchy-Schwarz: no logit
 * is larger, nor is scale * sum |q_c k_c|). To first order in u; the factor 1.1 covers the rest.
 *
 * 1. A logit is wrong by at most L = 2 (dim + 2) u S (kernels.h) + u S (scale as float) and, with a
 *    cap, 32 u min(cap, S) more (tanh has slope <= 1).
 * 2. Its weight exp(s - M) is a product of at most 1 + t exponentials: the one of its tile and a
 *    factor for each later tile that raised the maximum. Each is wrong by 8 u, and by u |argument|
 *    from its subtraction; the arguments add up to at most Y = min(2 S', 60 ln 2) where it is not
 *    set to 0, S' being the largest |logit|; each product by u.
 *    Relative error of a weight: theta <= L + u Y + 8 u (1 + t) + u t.
 * 3. A weight set to 0 is below 2^-60 of the largest: n 2^-60 of the sum.
 * 4. The sum adds TILE / 16 + 4 terms in turn in the longest chain of a set (16 lanes at least),
 *    then t tiles: sigma <= (TILE / 16 + 4 + 2 t) u. Rounding in the output's chain: n + t sums
 *    (fused: one rounding; generic: two), omega <= 2 (n + t) u. Division and product: 3 u.
 *
 * The output is a weighted mean; errors of weights enter it and its denominator:
 * |error| <= value_max (2 theta + n 2^-60 * 2 + sigma + omega + 3 u). */
double kv_sweep_bound(const struct kv_geometry *geometry, uint32_t lines, double query_norm,
                      double key_norm, double value_max)
{
    const double u = 0x1p-24, n = lines, t = (lines + TILE - 1) / TILE;
    const double product = fabs(geometry->scale) * query_norm * key_norm;
    const bool capped = geometry->softcap > 0;
    const double largest = capped && geometry->softcap < product ? geometry->softcap : product;
    const double logit = (2 * (geometry->key_dim + 2.0) + 1) * u * product +
                         (capped ? 32 * u * largest : 0);
    const double argument = fmin(2 * largest, 42);
    const double theta = logit + u * argument + 8 * u * (1 + t) + u * t;
    const double sigma = (TILE / 16 + 4 + 2 * t) * u, omega = 2 * (n + t) * u;
    return 1.1 * value_max * (2 * theta + 2 * n * 0x1p-60 + sigma + omega + 3 * u);
}
