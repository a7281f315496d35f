/* mla: what is stored of which columns. See codecs/mla.c. */
#include "methods/codecs/mla/mla_parts.h"

static int find_pairs(struct mla_code *self, struct kv_error *err)
{
    const struct kv_rope *rope = self->rope;
    const uint32_t half = rope->layout == KV_ROPE_NONE ? 0 : rope->dims / 2;
    self->pairs = kv_pool_reserve(self->pool, KV_WORKSPACE, half * sizeof *self->pairs);
    self->frequencies = kv_pool_reserve(self->pool, KV_WORKSPACE, half * sizeof(double));
    if (half && (!self->pairs || !self->frequencies))
        return kv_fail(err, KV_EMEMORY, "mla: no memory");
    const bool interleaved = rope->layout == KV_ROPE_INTERLEAVED;
    for (uint32_t i = 0; i < half; i++) {
        if (!(rope->inv_freq[i] > 0 || rope->inv_freq[i] < 0)) continue; /* it does not turn */
        const uint32_t n = self->shape.n_pairs++;
        self->pairs[n][0] = interleaved ? 2 * i : i;
        self->pairs[n][1] = interleaved ? 2 * i + 1 : i + half;
        self->frequencies[n] = rope->inv_freq[i];
    }
    return KV_OK;
}

/* How many components are kept, and of which groups. */
static int part_pairs(struct mla_shape *shape, const struct mla_config *config,
                      struct kv_error *err)
{
    const uint32_t n = shape->n_pairs, dims = kv_budget_tokens(config->rope, 2 * n);
    shape->fold = shape->collapse = 1;
    if (!n) return KV_OK;
    shape->kept = dims / 2;
    if (dims % 2 || !shape->kept || (n % shape->kept && shape->kept % n) ||
        shape->kept > shape->heads * n)
        return kv_fail(
            err, KV_EUNSUPPORTED,
            "mla: rope: expected an even part or whole multiples of %u rotary dimensions, at most"
            " %u times, found %u",
            2 * n, shape->heads, dims);
    shape->collapse = shape->kept < n ? n / shape->kept : 1;
    shape->fold = config->fold ? config->fold : shape->collapse;
    if (shape->fold % shape->collapse || n % shape->fold)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "mla: fold: expected a multiple of %u that parts %u pairs, found %u",
                       shape->collapse, n, shape->fold);
    shape->each = shape->kept / (n / shape->fold);
    shape->tail = 2 * shape->kept;
    return KV_OK;
}

/* A layer that attends to latents: its other columns are the rotary part. */
static int take_latents(struct mla_code *self, struct kv_error *err)
{
    struct mla_shape *shape = &self->shape;
    for (uint32_t i = 0; i < shape->n_pairs; i++)
        if (self->pairs[i][0] < shape->value || self->pairs[i][1] < shape->value)
            return kv_fail(err, KV_EUNSUPPORTED, "mla: the values are columns of keys that rotate");
    if (shape->heads != 1)
        return kv_fail(err, KV_EUNSUPPORTED, "mla: %u heads of keys that hold their values",
                       shape->heads);
    shape->latent_already = true;
    shape->tail = shape->key - shape->value;
    return KV_OK;
}

int kv_mla_take_shape(struct mla_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    const struct mla_config *config = setup->config;
    const struct kv_geometry *geometry = setup->geometry;
    struct mla_shape *shape = &self->shape;
    const bool already = geometry->values_in_keys;
    if (setup->n_heads != geometry->kv_heads || setup->n_layers > 1 ||
        setup->side != (already ? KV_KEYS : KV_BOTH_SIDES))
        return kv_fail(err, KV_EUNSUPPORTED,
                       "mla: expected keys and values of all heads in one row (span=all)");
    *shape = (struct mla_shape){.heads = setup->n_heads,
                                .key = geometry->key_dim,
                                .value = geometry->value_dim,
                                .lane = geometry->key_dim + (already ? 0 : geometry->value_dim),
                                .dim = setup->dim,
                                .fold = 1};
    int status = find_pairs(self, err);
    if (status == KV_OK)
        status = already ? take_latents(self, err) : part_pairs(shape, config, err);
    if (status != KV_OK) return status;
    const uint32_t most = already ? shape->value : shape->dim - shape->tail;
    const uint32_t asked =
        already && config->rank.share > 0 ? most : kv_budget_tokens(config->rank, shape->dim);
    shape->rank = asked < most ? asked : most;
    shape->whole =
        shape->rank == most &&
        (already || (shape->heads == 1 && shape->fold == 1 && shape->kept == shape->n_pairs));
    return shape->rank ? KV_OK : kv_fail(err, KV_EUNSUPPORTED, "mla: rank: no latent is kept");
}

double kv_mla_frequency(const struct mla_code *self, uint32_t component)
{
    const struct mla_shape *shape = &self->shape;
    const uint32_t group = component / shape->each, a = component % shape->each;
    return self->frequencies[group * shape->fold + a * shape->collapse % shape->fold];
}
