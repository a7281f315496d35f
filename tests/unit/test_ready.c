/* Lines that stay ready between products (methods/kernels/ready.h), with a set that makes plain copies: what is
 * kept, made again and left in scratch shows in how many lines it makes. */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "methods/kernels/ready.h"

enum { DIM = 32, PANEL = 64, LINES = 640, ROWS = 3 };

static uint32_t n_made;

/* [line][DIM] */
static void make_values(const float *values, uint32_t n, uint32_t dim, float *ready)
{
    memcpy(ready, values, (size_t)n * dim * sizeof *ready);
    n_made += n;
}

static void make_keys(const float *panels, uint32_t columns, uint32_t dim, float *ready)
{
    for (uint32_t j = 0; j < columns; j++)
        for (uint32_t c = 0; c < dim; c++)
            ready[j * dim + c] = panels[(size_t)(j / PANEL) * PANEL * dim + (size_t)c * PANEL + j % PANEL];
    n_made += columns;
}

static void add_sums(const float *weights, uint32_t rows, uint32_t stride, const float *ready, uint32_t first,
                     uint32_t n, uint32_t dim, const float *factors, float *outputs)
{
    (void)factors;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t j = 0; j < n; j++)
            for (uint32_t c = 0; c < dim; c++)
                outputs[r * dim + c] += weights[r * stride + j] * ready[(size_t)(first + j) * dim + c];
}

static void take_logits(const float *queries, uint32_t rows, uint32_t dim, const float *ready, uint32_t first,
                        uint32_t columns, float scale, float *logits, uint32_t stride)
{
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t j = 0; j < columns; j++) {
            float sum = 0;
            for (uint32_t c = 0; c < dim; c++) sum += queries[r * dim + c] * ready[(size_t)(first + j) * dim + c];
            logits[r * stride + j] = scale * sum;
        }
}

static const struct kv_kernels copies = {
    .panel = PANEL, .ready_cell = KV_READY_CELL * KV_READY_CELL, .ready_keys = make_keys, .ready_values = make_values,
    .ready_logits = take_logits, .ready_sums = add_sums};

/* Lines as rows and as panels, kept both ways, and rows that meet them. */
struct meeting {
    float values[LINES][DIM], panels[LINES * DIM], rows[ROWS][LINES], scratch[2 * KV_READY_TILE * DIM];
    struct kv_kept_ready kept[2];
};

static void set_line(struct meeting *m, uint32_t line, float x)
{
    for (uint32_t c = 0; c < DIM; c++) {
        m->values[line][c] = x + (float)c;
        m->panels[(size_t)(line / PANEL) * PANEL * DIM + (size_t)c * PANEL + line % PANEL] = x + (float)c;
    }
    for (int side = 0; side < 2; side++) kv_kept_mark(&m->kept[side], line);
}

static struct meeting *make_meeting(void)
{
    struct meeting *m = aligned_alloc(64, (sizeof *m + 63) / 64 * 64);
    memset(m, 0, sizeof *m);
    const uint32_t lines = kv_kept_lines(&copies, LINES);
    cr_assert_eq(lines, 768, "whole tiles of 256");
    const size_t bytes = kv_kept_floats(&copies, lines, DIM) * sizeof(float);
    for (int side = 0; side < 2; side++)
        m->kept[side] = (struct kv_kept_ready){lines, malloc(bytes), malloc(lines / KV_READY_CELL)};
    for (uint32_t j = 0; j < LINES; j++) {
        set_line(m, j, (float)(j % 7) - 3);
        for (uint32_t r = 0; r < ROWS; r++) m->rows[r][j] = (float)((r + j) % 5) - 2;
    }
    for (int side = 0; side < 2; side++) memset(m->kept[side].states, KV_CELL_STALE, lines / KV_READY_CELL);
    return m;
}

static void free_meeting(struct meeting *m)
{
    for (int side = 0; side < 2; side++) free(m->kept[side].cells), free(m->kept[side].states);
    free(m);
}

/* Both products, with what is kept and from scratch: the same numbers; returns how many lines were made where they
 * are kept. */
static uint32_t meet(struct meeting *m)
{
    static float logits[2][ROWS][LINES], sums[2][ROWS][DIM];
    uint32_t made = 0;
    memset(sums, 0, sizeof sums);
    for (int keeps = 0; keeps < 2; keeps++) {
        n_made = 0;
        kv_many_logits(&copies, m->scratch, keeps ? &m->kept[0] : NULL, m->rows[0], ROWS, DIM, m->panels, LINES, 0.5f,
                       logits[keeps][0], LINES);
        kv_many_sums(&copies, m->scratch, keeps ? &m->kept[1] : NULL, m->rows[0], ROWS, LINES, m->values[0], LINES,
                     DIM, sums[keeps][0]);
        made = n_made;
    }
    cr_expect_arr_eq(logits[0], logits[1], sizeof logits[0]);
    cr_expect_arr_eq(sums[0], sums[1], sizeof sums[0]);
    return made;
}

Test(ready, lines_are_made_once_and_then_a_cell_for_each_change)
{
    struct meeting *m = make_meeting();
    cr_expect_eq(meet(m), 2 * LINES);
    cr_expect_eq(meet(m), 0);
    set_line(m, 33, 9), set_line(m, 40, 8), set_line(m, 600, -9);
    cr_expect_eq(meet(m), 2 * 2 * KV_READY_CELL, "one cell of the first tile, one of the last");
    cr_expect_eq(meet(m), 0);
    free_meeting(m);
}

Test(ready, a_tile_that_changes_much_is_made_in_scratch_until_it_rests)
{
    struct meeting *m = make_meeting();
    meet(m);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t cell = 0; cell < 3; cell++) set_line(m, cell * KV_READY_CELL + round, 5);
        cr_expect_eq(meet(m), 2 * KV_READY_TILE, "the first tile whole");
    }
    cr_expect_eq(meet(m), 2 * 3 * KV_READY_CELL, "what rests is kept again");
    cr_expect_eq(meet(m), 0);
    free_meeting(m);
}

Test(ready, lines_past_the_kept_ones_are_made_each_time)
{
    struct meeting *m = make_meeting();
    m->kept[0].lines = m->kept[1].lines = KV_READY_TILE;
    meet(m);
    set_line(m, LINES - 1, 4);
    cr_expect_eq(meet(m), 2 * (LINES - KV_READY_TILE));
    free_meeting(m);
}

Test(ready, sets_that_make_nothing_ready_keep_nothing)
{
    const struct kv_kernels none = {.panel = PANEL};
    cr_expect_eq(kv_kept_lines(&none, LINES), 0);
    cr_expect_eq(kv_kept_lines(&copies, 1), KV_READY_TILE);
    cr_expect_eq(kv_kept_lines(&copies, 100000), KV_READY_KEPT);
}
