/* Making thresholds ready; see struct kv_cells. */
#include <math.h>

#include "methods/kernels/kernels.h"

/* Rounded thresholds lie above the lowest cell, so that its least word means what is out of range.
 * A product of three floats is off by less than 2^-6 of the 2^15 words; so far from a middle
 * between two words thresholds must keep. */
enum { LARGEST = KV_CELLS / 2 * KV_CELL - KV_CELL - 2, TRIES = 32, SUM_CODE = 1 << 12 };
static const double SURE = 0.5 - 0x1p-6;

/* The largest power of two up to 2^13 that keeps all thresholds among 16-bit integers; 0: there is
 * none. Codebooks are those of unit variance, of whose values one in 32000 is then out of range. */
static double steps_of(const float *thresholds, uint32_t n)
{
    double size = 0, steps = 0x1p13;
    for (uint32_t t = 0; t < n; t++) {
        if (!(fabs(thresholds[t]) <= LARGEST)) return 0;
        size = fabs(thresholds[t]) > size ? fabs(thresholds[t]) : size;
    }
    while (size * steps > LARGEST) steps *= 0.5;
    return steps;
}

static void set_edge(struct kv_cells *cells, int cell, int edge)
{
    cells->low[cell] = (uint8_t)(edge & 255);
    cells->high[cell] = (uint8_t)(edge >> 8 & 255);
}

/* False when a cell has two, or a threshold lies where rounding decides. */
static int place(struct kv_cells *cells, double steps)
{
    int last = -1;
    for (int cell = 0; cell < KV_CELLS; cell++) {
        set_edge(cells, cell, KV_OUT_OF_CELLS);
        cells->base[cell] = 255;
    }
    for (uint32_t t = 0; t < cells->n; t++) {
        const double at = cells->thresholds[t] * steps;
        const int edge = (int)rint(at), cell = (edge + KV_CELLS / 2 * KV_CELL) / KV_CELL;
        if (cell <= last || fabs(at - edge) > SURE) return 0;
        set_edge(cells, cell, edge);
        cells->base[cell] = (uint8_t)t;
        for (int above = cell + 1; above < KV_CELLS; above++) cells->base[above] = (uint8_t)t;
        last = cell;
    }
    return 1;
}

/* A word w becomes 2^12 times the code above the edge, and w - edge; without an edge, half a code
 * and its place in the cell. The lowest cell's edge is the least word, and its code 0. */
static void set_sums(struct kv_cells *cells)
{
    for (int cell = 0; cell < KV_CELLS; cell++) {
        const int first = (cell - KV_CELLS / 2) * KV_CELL;
        const int edge = (int16_t)(cells->high[cell] << 8 | cells->low[cell]);
        const int code = (uint8_t)(cells->base[cell] + 1);
        const int zero = cell > 0 && edge == KV_OUT_OF_CELLS ? first - SUM_CODE / 2 : edge;
        cells->sums[(cell + KV_CELLS / 2) % KV_CELLS] = (uint16_t)(code * SUM_CODE - zero);
    }
}

void kv_cells_prepare(struct kv_cells *cells, const float *thresholds, uint32_t n, float unit)
{
    *cells = (struct kv_cells){.thresholds = thresholds, .n = n, .unit = unit};
    const double largest = steps_of(thresholds, n);
    if (!(largest > 0 && unit >= 0x1p-40f && unit <= 0x1p40f)) return;
    for (int i = 0; i < TRIES && !cells->steps; i++) {
        const double steps = largest * (1 - i / 128.0);
        if (place(cells, steps)) cells->steps = (float)(unit * steps);
    }
    set_sums(cells);
}
