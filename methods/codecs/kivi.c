/* kivi: keys per channel, values per token, newest rows exact (Liu et al., arXiv 2402.02750; its
 * code jy-yuan/KIVI 876b4d2).
 *
 * The grid of `int`. Keys: groups of group_size tokens of one channel; the exact rows grow to
 * residual_length and are then encoded whole, so their number saws 0 .. residual_length - 1.
 * Values: groups of group_size channels of one token; the last residual_length rows are always
 * exact, the oldest beyond them is encoded. Both after the answer of their step (the paper's code).
 * Bits: b + 32 / group_size an encoded value, the exact rows apart. One object is one side: with a
 * span over both sides the two axes contradict, KV_EUNSUPPORTED.
 *
 * Departures: a constant group gives code 0 where the published code divides 0 by 0; the grid is
 * half precision where the code has the model's type; codes are packed as one bit stream, not in
 * words. */
#include "methods/parts/grid.h"

extern const struct kv_codec kv_codec_kivi;

struct config {
    uint32_t bits, group_size, residual_length;
};

static const struct kv_param params[] = {
    {"bits", KV_PARAM_U32, offsetof(struct config, bits), 2, 1, 8, NULL, "bits a code"},
    {"group_size", KV_PARAM_U32, offsetof(struct config, group_size), 32, 1, 4096, NULL,
     "tokens (keys) or channels (values) that share a grid"},
    {"residual_length", KV_PARAM_U32, offsetof(struct config, residual_length), 128, 1, 1u << 20,
     NULL, "exact rows: keys grow to it, values keep it; a multiple of group_size"},
    {0}};

struct kivi_code {
    struct kv_code code;
    struct kv_grid grid;
};

static int check(const struct config *config, const struct kv_setup *setup, struct kv_error *err)
{
    if (setup->side == KV_BOTH_SIDES)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "kivi: keys go by channel and values by token, a span must not join them");
    if (config->residual_length % config->group_size)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "kivi: residual_length %u is not a multiple of group_size %u",
                       config->residual_length, config->group_size);
    return KV_OK;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    int status = check(config, setup, err);
    if (status) return status;
    struct kivi_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "kivi: no memory");
    const bool keys = setup->side == KV_KEYS;
    status = kv_grid_create(&self->grid, setup, keys ? KV_GRID_CHANNEL : KV_GRID_TOKEN,
                            config->bits, config->group_size, err);
    if (status) return status;
    self->code = (struct kv_code){.type = &kv_codec_kivi,
                                  .dim = setup->dim,
                                  .block = self->grid.block,
                                  .payload_bytes = self->grid.payload_bytes,
                                  .metadata_bytes = kv_grid_metadata_bytes(&self->grid)};
    self->code.tiers = keys ? (struct kv_tiers){.flush = config->residual_length}
                            : (struct kv_tiers){.recent = config->residual_length, .flush = 1};
    *out = &self->code;
    return KV_OK;
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    kv_grid_encode(&((struct kivi_code *)code)->grid, rows, atom);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    kv_grid_decode(&((const struct kivi_code *)code)->grid, atoms, n_atoms, first_column, n_columns,
                   out);
}

const struct kv_codec kv_codec_kivi = {.name = "kivi",
                                       .summary =
                                           "keys per channel, values per token, newest rows exact",
                                       .paper = "KIVI (Liu et al., arXiv 2402.02750)",
                                       .params = params,
                                       .config_size = sizeof(struct config),
                                       .create = create,
                                       .encode = encode,
                                       .decode = decode};
