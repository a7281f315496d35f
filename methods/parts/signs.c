#include "methods/parts/signs.h"

#include <math.h>
#include <string.h>

#include "methods/parts/codebook.h"
#include "methods/parts/codes.h"

static const double PI = 3.14159265358979323846;

static void reach_rows(struct kv_sketch *sketch, const float *rows)
{
    for (uint32_t r = 0; r < sketch->n; r++) {
        double square = 0;
        for (uint32_t c = 0; c < sketch->n; c++)
            square += (double)rows[(size_t)r * sketch->n + c] * rows[(size_t)r * sketch->n + c];
        const float length = (float)(1.0001 * sqrt(square));
        sketch->reach = length > sketch->reach ? length : sketch->reach;
    }
}

int kv_sketch_create(struct kv_sketch *sketch, const struct kv_setup *setup, uint32_t n,
                     uint32_t most, enum kv_sketch_kind kind, uint32_t stream, struct kv_error *err)
{
    struct kv_codebook sign;
    const bool gaussian = kind == KV_SKETCH_GAUSSIAN;
    *sketch = (struct kv_sketch){.n = n, .n_blocks = (most + n - 1) / n};
    if (sketch->n_blocks > KV_MOST_SKETCH_BLOCKS)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "a sketch of %u signs is more than %d times %u columns", most,
                       KV_MOST_SKETCH_BLOCKS, n);
    kv_codebook_fill(&sign, n, 1);
    sketch->mean_magnitude = gaussian ? sqrt(2 / PI) : sign.centroids[1] / sqrt(n);
    if (n == 1 && !gaussian) sketch->mean_magnitude = 1;
    sketch->projected = kv_pool_reserve(setup->pool, KV_WORKSPACE, n * sizeof(float));
    sketch->signs = kv_pool_reserve(setup->pool, KV_WORKSPACE, n * sizeof(float));
    sketch->bits = kv_pool_reserve(setup->pool, KV_WORKSPACE, n);
    if (!sketch->projected || !sketch->signs || !sketch->bits)
        return kv_fail(err, KV_EMEMORY, "no memory for a sketch of %u columns", n);
    int status = KV_OK;
    for (uint32_t b = 0; status == KV_OK && b < sketch->n_blocks; b++)
        status = kv_rotation_create(&sketch->blocks[b], setup, n,
                                    gaussian ? KV_ROTATE_GAUSSIAN : KV_ROTATE_HAAR,
                                    kv_rng_stream(setup->seed, stream, b, n), err);
    for (uint32_t b = 0; status == KV_OK && b < sketch->n_blocks && !setup->sizes_only; b++)
        reach_rows(sketch, sketch->blocks[b].matrix);
    return status;
}

static uint32_t in_block(uint32_t n, uint32_t m, uint32_t first)
{
    return m - first < n ? m - first : n;
}

uint32_t kv_sketch_bytes(uint32_t n, uint32_t m)
{
    return m / n * ((n + 7) / 8) + (m % n + 7) / 8;
}

/* Loops whose arrays are told to be apart: compilers make vectors of them. */

static void add_times(const float *restrict x, uint32_t n, float factor, float *restrict out)
{
    for (uint32_t i = 0; i < n; i++) out[i] += x[i] * factor;
}

/* The columns of a block of the sketch that the rows are in, one behind the other. */
static const float *columns_of(const struct kv_sketch *sketch, uint32_t block,
                               const struct kv_sketched *x)
{
    const uint32_t n = sketch->n;
    const float *all = sketch->blocks[block].transpose;
    if (!x->columns) return all;
    for (uint32_t i = 0; i < x->n_columns; i++)
        memcpy(x->spare + (size_t)i * n, all + (size_t)x->columns[i] * n, n * sizeof *all);
    return x->spare;
}

void kv_sketch_encode(const struct kv_sketch *sketch, const struct kv_sketched *x, uint32_t m,
                      uint8_t *packed, size_t apart)
{
    for (uint32_t b = 0, first = 0; first < m; b++, first += sketch->n) {
        const struct kv_projections projections = {.matrix = columns_of(sketch, b, x),
                                                   .rows = in_block(sketch->n, m, first),
                                                   .columns = x->n_columns,
                                                   .stride = sketch->n,
                                                   .reach = sketch->reach};
        sketch->blocks[b].kernels->project_signs(&projections, x->rows, x->n, packed, apart);
        packed += (projections.rows + 7) / 8;
    }
}

void kv_sketch_decode(const struct kv_sketch *sketch, const uint8_t *packed, uint32_t m,
                      float length, float *out)
{
    const struct kv_kernels *kernels = m ? sketch->blocks[0].kernels : NULL;
    const float factor = m ? (float)(length / (m * sketch->mean_magnitude)) : 0;
    /* A zero row has signs, too. */
    if (!(length > 0)) return;
    for (uint32_t b = 0, first = 0; first < m; b++, first += sketch->n) {
        const uint32_t n = in_block(sketch->n, m, first);
        kernels->unpack_bits(packed, n, 1, sketch->bits);
        kv_signs_of(sketch->bits, n, sketch->signs);
        for (uint32_t i = n; i < sketch->n; i++) sketch->signs[i] = 0;
        kv_rotation_undo(&sketch->blocks[b], sketch->signs, sketch->projected);
        add_times(sketch->projected, sketch->n, factor, out);
        packed += (n + 7) / 8;
    }
}
