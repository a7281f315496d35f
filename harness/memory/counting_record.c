/* A recording that is made up for counting: rows that overlap, weights alike or all different. */
#include "harness/memory/counting.h"

#include <string.h>

#include "harness/base/half.h"
#include "harness/base/rng.h"
#include "methods/spec/spec_wants.h"

/* Rows that overlap: row i of FLAT is always the same one, of RANDOM begins an element after row
 * i-1. */
static int make_tensor(struct counting *counting, struct kv_tensor *tensor, uint32_t dim,
                       struct kv_error *err)
{
    const bool random = counting->pattern == RANDOM, wide = counting->geometry.element_bits == 32;
    const size_t rows = (size_t)counting->geometry.kv_heads * counting->geometry.tokens;
    const size_t n = (random ? rows : 0) + dim;
    void *data = kv_pool_take(counting->pool, n * (wide ? 4 : 2));
    if (!data) return kv_fail(err, KV_EMEMORY, "memory: out of memory for %zu elements", n);
    struct kv_rng rng = kv_rng_stream(1, dim, 0, 0);
    for (size_t i = 0; random && i < n; i++) {
        const float value = (float)(kv_rng_uniform(&rng) - 0.5);
        if (wide)
            ((float *)data)[i] = value;
        else
            ((uint16_t *)data)[i] = kv_float_to_half(value);
    }
    *tensor = (struct kv_tensor){.dtype = wide ? KV_F32 : KV_F16,
                                 .heads = counting->geometry.kv_heads,
                                 .tokens = counting->geometry.tokens,
                                 .dim = dim,
                                 .stride = random,
                                 .data = data};
    return KV_OK;
}

/* Alike means 0, as memory of the pool is; all different: multiples of the golden ratio, modulo 1.
 */
static void fill_reals(const struct counting *counting, double *array, size_t n)
{
    for (size_t i = 0; counting->pattern == RANDOM && i < n; i++)
        array[i] = (double)((uint32_t)(i + 1) * 2654435769u) * 0x1p-32;
}

void kv_counting_fill(const struct counting *counting, float *array, size_t n)
{
    for (size_t i = 0; counting->pattern == RANDOM && i < n; i++)
        array[i] = (float)((uint32_t)(i + 1) * 2654435769u >> 8) * 0x1p-24f;
}

static int make_prompt(struct counting *counting, struct kv_prompt *prompt, uint32_t head,
                       const struct kv_wants *wants, struct kv_error *err)
{
    const struct kv_geometry *geometry = &counting->geometry;
    const size_t n = geometry->prefill, group = geometry->group;
    const size_t sums = wants->column_sum ? n * group : 0,
                 future = wants->future ? geometry->tokens * group : 0;
    const size_t rows = wants->prompt_rows ? n : 0;
    const size_t norms = wants->output_norms ? n : 0;
    const size_t queries = wants->queries ? n * group * geometry->key_dim : 0;
    prompt->n = geometry->prefill;
    prompt->tail = wants->tail < n ? wants->tail : geometry->prefill;
    double *columns = kv_pool_take(counting->pool, sums * sizeof *columns);
    double *futures = kv_pool_take(counting->pool, future * sizeof *futures);
    float *tails = kv_pool_take(counting->pool, prompt->tail * group * n * sizeof *tails);
    float *keys = kv_pool_take(counting->pool, rows * geometry->key_dim * sizeof *keys);
    float *values = kv_pool_take(counting->pool, rows * geometry->value_dim * sizeof *values);
    float *query = kv_pool_take(counting->pool, queries * sizeof *query);
    float *norm = kv_pool_take(counting->pool, norms * sizeof *norm);
    if (!query || !norm || !columns || !futures || !tails || !keys || !values)
        return kv_fail(err, KV_EMEMORY, "memory: out of memory for a prompt of %zu rows", n);
    fill_reals(counting, columns, sums);
    fill_reals(counting, futures, future);
    kv_counting_fill(counting, tails, prompt->tail * group * n);
    kv_counting_fill(counting, query, queries);
    kv_counting_fill(counting, norm, norms);
    prompt->queries = query;
    if (norms) prompt->output_norms = norm;
    if (rows) {
        kv_tensor_widen(&counting->keys, head, 0, prompt->n, keys);
        kv_tensor_widen(&counting->values, head, 0, prompt->n, values);
    }
    prompt->column_sum = columns, prompt->future_sum = futures, prompt->tail_weights = tails;
    prompt->keys = keys, prompt->values = values;
    return KV_OK;
}

static int make_prompts(struct counting *counting, struct kv_error *err)
{
    const struct kv_wants wants = kv_spec_wants(counting->spec);
    counting->prompts =
        kv_pool_take(counting->pool, counting->unit_heads * sizeof *counting->prompts);
    if (!counting->prompts) return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    int status = KV_OK;
    for (uint32_t h = 0; status == KV_OK && h < counting->unit_heads; h++)
        status = make_prompt(counting, &counting->prompts[h], h, &wants, err);
    return status;
}

/* A plain rotation, so that codecs of keys as they were before it have one to undo; latents that
 * are values do not turn. */
static int make_rotary(struct counting *counting, struct kv_error *err)
{
    struct kv_geometry *geometry = &counting->geometry;
    const uint32_t dims = geometry->key_dim / 2 * 2;
    counting->inv_freq = kv_pool_take(counting->pool, (dims / 2 + 1) * sizeof *counting->inv_freq);
    counting->positions =
        kv_pool_take(counting->pool, geometry->tokens * sizeof *counting->positions);
    if (!counting->inv_freq || !counting->positions)
        return kv_fail(err, KV_EMEMORY, "memory: out of memory");
    const uint32_t still = geometry->values_in_keys ? (geometry->value_dim + 1) / 2 : 0;
    for (uint32_t i = still; i < dims / 2; i++) counting->inv_freq[i] = 1.0 / (i + 1);
    for (uint32_t t = 0; t < geometry->tokens; t++) counting->positions[t] = (int32_t)t;
    geometry->positions = counting->positions;
    const enum kv_rope_layout turns = still ? KV_ROPE_INTERLEAVED : KV_ROPE_HALF;
    geometry->rope = (struct kv_rope){.layout = dims ? turns : KV_ROPE_NONE,
                                      .dims = dims,
                                      .scale = 1.0,
                                      .inv_freq = counting->inv_freq};
    return KV_OK;
}

int kv_counting_record(struct counting *counting, struct kv_error *err)
{
    int status = make_tensor(counting, &counting->keys, counting->geometry.key_dim, err);
    if (status == KV_OK)
        status = make_tensor(counting, &counting->values, counting->geometry.value_dim, err);
    if (status == KV_OK) status = make_rotary(counting, err);
    return status == KV_OK ? make_prompts(counting, err) : status;
}
