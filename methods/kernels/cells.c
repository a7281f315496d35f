/* Making thresholds ready; see struct kv_cells. */
#include <math.h>

#include "methods/kernels/kernels.h"

enum { LARGEST = 32766 }; /* of a rounded threshold: 32767 stands for none */

/* The largest power of two that keeps all thresholds among 16-bit integers; 0: there is none. */
static float steps_of(const float *thresholds, uint32_t n)
{
    float size = 0, steps = 0x1p14f;
    for (uint32_t t = 0; t < n; t++) {
        if (!(fabsf(thresholds[t]) <= (float)LARGEST)) return 0;
        size = fabsf(thresholds[t]) > size ? fabsf(thresholds[t]) : size;
    }
    while (size * steps > (float)LARGEST) steps *= 0.5f;
    return steps;
}

static void set_edge(struct kv_cells *cells, int cell, int edge)
{
    cells->low[cell] = (uint8_t)(edge & 255);
    cells->high[cell] = (uint8_t)(edge >> 8 & 255);
}

/* False when a cell has two. */
static int place(struct kv_cells *cells, float steps)
{
    int last = -1;
    for (int cell = 0; cell < KV_CELLS; cell++) set_edge(cells, cell, 32767);
    for (uint32_t t = 0; t < cells->n; t++) {
        const int edge = (int)rintf(cells->thresholds[t] * steps);
        const int cell = (edge + KV_CELLS / 2 * KV_CELL) / KV_CELL;
        if (cell <= last) return 0;
        set_edge(cells, cell, edge);
        for (int above = cell + 1; above < KV_CELLS; above++) cells->base[above] = (uint8_t)(t + 1);
        last = cell;
    }
    return 1;
}

void kv_cells_prepare(struct kv_cells *cells, const float *thresholds, uint32_t n, float unit)
{
    *cells = (struct kv_cells){.thresholds = thresholds, .n = n, .unit = unit};
    const float steps = steps_of(thresholds, n);
    if (steps > 0 && place(cells, steps)) cells->steps = unit * steps;
}
