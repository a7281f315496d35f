/* What the parts of the sweep share; nobody outside of this folder includes it. Chunks, tiles and
 * blocks: run.c. */
#ifndef KVBENCH_METHODS_SWEEP_PARTS_H
#define KVBENCH_METHODS_SWEEP_PARTS_H

#include <stdbool.h>

#include "methods/kernels/ready.h"
#include "methods/kernels/strips.h"
#include "methods/sweep/sweep.h"

enum {
    TILE = KV_READY_TILE,
    BLOCK = KV_SWEEP_BLOCK,
    CHUNK = 22 * BLOCK, /* rows of 128 columns: 2 MiB of queries and outputs */
    STEP = 64,
    STEPS = TILE / STEP,
    MAX_PANEL = 64
};
enum { GRAIN = 16 };         /* columns that a block reads end at a multiple */
enum { STRIDE = TILE + 16 }; /* rows a KiB apart would share few sets of a cache */

_Static_assert(STEP % MAX_PANEL == 0, "a step is whole panels in every set");
_Static_assert(STEP % GRAIN == 0, "a step is whole grains");
_Static_assert(CHUNK % BLOCK == 0, "whose logits are kept finds the same blocks again, chunks or not");

/* What a chunk's rows carry from tile to tile; all [CHUNK]. */
struct states {
    float *largest, *sum;             /* the answer's softmax */
    float *exact_largest, *exact_sum; /* softmax of the exact logits of the same lines */
    float *exact_held;                /* exact_sum without the sink logit */
    float *coded, *exact_coded;       /* the parts of sum and exact_sum from coded lines */
    float *shift;                     /* sum of exp(logit - largest) (logit - exact logit) */
    uint32_t *seen;                   /* lines seen */
};

/* Keys of a tile. */
struct tile_keys {
    float *panels; /* [dim][panel] each */
    float *ready;  /* the same, where tile.ready */
    uint32_t dim;
};

/* One decoded tile, and which of its lines a token may read: begin <= token < end. */
struct tile {
    uint32_t n;
    uint32_t line[TILE], position[TILE]; /* of its columns; ascending lines, side by side unless they were gathered */
    struct tile_keys keys, exact; /* as read, and as recorded */
    float *values;                /* [TILE][value_dim] */
    float *ready_values;          /* the same, where ready */
    struct kv_strips strips;      /* else, in strip_room where they are laid anew */
    float *strip_room;
    bool ready; /* products by keys and values made ready (kernels.h): the chunk has many rows */
    float *rows;                  /* [TILE][key_dim] before packing */
    float *coded, *span;          /* [TILE] 1 or 0: dot with weights gives a mass */
    int32_t *begin, *end;         /* [TILE]; lines past n have begin = end = 0 */
    bool any_coded;
    bool recorded; /* keys are the recorded ones, bit for bit, and so are queries */
    bool packed;   /* panels and values hold the alive lines only; never where ready */
    uint32_t n_alive;
    uint32_t alive[TILE]; /* columns that a row of the chunk sees, ascending */
    uint16_t places[TILE / GRAIN]; /* the same as bits */
    struct {
        int32_t first_begin, last_begin, first_end, last_end;
    } steps[STEPS];
};

struct work {
    const struct kv_sweep *sweep;
    float scale, unit;            /* logits are scaled by the first; the rest, for softmaxes */
    struct states states;
    struct tile tile;
    float *logits, *exact_logits; /* [BLOCK][STRIDE] */
    float *close;                 /* the same, of a packed tile's loaded lines */
    struct { /* of a block, from the tile's first column on: in logits, or where they are kept */
        float *logits;
        uint32_t stride;
    } own;
    struct { /* of a block, from its first column on: in exact_logits, or where they are already */
        const float *logits;
        uint32_t stride;
    } exact;
    float *next;                           /* scratch not yet handed out */
    size_t used;
};

struct block {
    uint32_t first, n;             /* rows */
    uint32_t from, to;             /* columns of the tile, multiples of STEP and of GRAIN */
    uint32_t read;                 /* columns from .. from + read - 1 hold lines */
    uint32_t alive_from, alive_to; /* of a packed tile: its loaded lines among those columns */
    uint32_t open;                 /* every row sees the columns from .. open - 1 */
    int32_t last_begin, first_end; /* a token in [last_begin, first_end) sees every line read */
};

struct steps { /* of a block's rows: sum = sum * factor + added */
    float factors[BLOCK], added[BLOCK];
};

/* Columns of a key or a value as the lines have them. */
static inline uint32_t kv_sweep_columns(const struct kv_sweep *sweep, int side)
{
    const uint32_t own = side ? sweep->geometry->value_dim : sweep->geometry->key_dim;
    return sweep->lines.columns[side] ? sweep->lines.columns[side] : own;
}

static inline int32_t kv_clip_token(uint64_t token)
{
    return token > INT32_MAX ? INT32_MAX : (int32_t)token;
}

/* Lines that panels and values hold. */
static inline uint32_t kv_tile_loaded(const struct tile *tile)
{
    return tile->packed ? tile->n_alive : tile->n;
}

/* Hands out the scratch that work->next points at; NULL there: it is only counted (work->used). */
void kv_sweep_lay_out(struct work *work);

/* Finds who may read the tile's lines: the tokens of a line are one interval (the head of sweep.h); those of a
 * step are from the first to the last. */
void kv_tile_look(struct tile *tile, const struct kv_lines *lines, uint32_t window);

/* Whether any row of tokens first..last sees a line of the step. */
bool kv_step_seen(const struct tile *tile, uint32_t step, uint32_t first, uint32_t last);

/* The same of one line of the tile. */
bool kv_column_seen(const struct tile *tile, uint32_t column, uint32_t first, uint32_t last);

/* Whether all rows of tokens first..last see all lines of the tile, which is whole. */
bool kv_tile_open(const struct tile *tile, uint32_t first, uint32_t last);

/* Chooses the columns that a block must read; false when there are none. The last step ends after
 * the last column that is seen: weights past the end would be 0, which changes no sum. */
bool kv_block_choose(const struct tile *tile, const uint32_t *tokens, struct block *block);

/* Whether rows of tokens first..last see every line that the block reads: nothing to mask. */
bool kv_block_open(const struct block *block, uint32_t first, uint32_t last);

/* -infinity where the token may not look, in a row of logits and in one beside it unless that is
 * NULL; returns how many columns it may read. What a packed tile left out is so already. */
uint32_t kv_block_mask(const struct work *work, const struct block *block, uint32_t token,
                       float *logits, float *beside);

/* Begins the tile of lines from `first`; false when no token of tokens[0]..tokens[1] sees it. */
bool kv_tile_enter(struct work *work, uint32_t first, const uint32_t tokens[2]);

/* Panels of the tile that was entered: keys alone. */
void kv_tile_load_keys(struct work *work);

/* Makes a tile of lines from `first` on, with keys, values and whatever a comparison needs of rows row .. row + n - 1,
 * whose first and last token are given; returns the line after it. No lines (tile.n): no row sees any of them. */
uint32_t kv_tile_load(struct work *work, uint32_t first, const uint32_t tokens[2], uint32_t row, uint32_t n);

/* Capped logits of the block's rows and columns in work->unit, not yet masked, rows `stride` floats apart;
 * queries have as many columns as keys. */
void kv_block_compute(const struct work *work, const struct block *block, const float *queries,
                      const struct tile_keys *keys, float *logits, uint32_t stride);

/* A row of kept logits, by line or position; NULL: they are not kept. */
float *kv_kept_row(const struct kv_kept *kept, uint32_t row);

/* The shifts of weights that are kept of the block's rows in the loaded tile. */
float *kv_kept_shifts(const struct work *work, const struct block *block);

/* Whether all of rows first .. first + n - 1 are kept. */
bool kv_kept_all(const struct kv_kept *kept, uint32_t first, uint32_t n);

/* kv_block_compute of a packed tile's loaded lines, side by side: columns alive_from .. alive_to. */
void kv_block_close_logits(const struct work *work, const struct block *block,
                           const float *queries, const struct tile_keys *keys, float *close);

/* Such columns in their places; `rest` where the tile left a line out. */
void kv_block_spread(const struct work *work, const struct block *block, const float *close,
                     float rest, float *out);

/* The answer's logits of a block become its own, kept where that is asked for. */
void kv_block_logits(struct work *work, const struct block *block);

/* Turns the block's logits into weights relative to each row's largest logit so far; everything summed
 * before must shrink by its row's factor. */
void kv_soften(struct work *work, const struct block *block, float *largest, struct steps *steps);

void kv_take_steps(float *sums, const struct steps *steps, uint32_t n);

/* Natural logarithm of a positive double: x = 2^n m, log m = 2 atanh((m - 1) / (m + 1)), by its
 * series (terms up to s^19: 2e-16 for m in [sqrt 1/2, sqrt 2)). libm's differs between CPUs. */
double kv_logarithm(double x);

/* Masses of spans: outputs of compare that serve as their own accumulators. */
void kv_compare_spans(struct work *work, const struct block *block, uint32_t span);

/* Finds the exact logits of a block whose own are there, not yet masked. */
void kv_compare_exact(struct work *work, const struct block *block);

/* Those of row r that must be masked as the row's own; NULL: they are open, or its own. */
float *kv_compare_masked(struct work *work, const struct block *block, uint32_t r);

/* kv_soften, and the same of the exact logits, whose sums and the comparison's move on; factors: the own
 * steps'. */
void kv_compare_soften(struct work *work, const struct block *block, uint32_t state, float factors[BLOCK]);

/* The comparison's sums become the quantities of sweep.h. When every position of exact attention
 * was read, its log-sum-exp is the one of the exact logits seen here: taking that instead of the
 * given float spares the result a cancellation (log-sum-exp near 10 has an ulp of 1e-6, divergences
 * of 8-bit codes are smaller), and gives exactly 0 for exact lines. */
void kv_compare_finish(struct work *work, uint32_t row, uint32_t i);

#endif
