/* int: round-to-nearest integers with a half-precision grid a group (replay.md "Methods"; the
 * float-zero grid of KIVI, arXiv 2402.02750, without its windows).
 *
 *     scale = f16((max - min) / (2^b - 1)), minimum = f16(min), as kept
 *     code = clamp(rint((x - minimum) / scale), 0, 2^b - 1); x_hat = code * scale + minimum
 *
 * grid=symmetric: scale = f16(max |x| / (2^(b-1) - 1)), code = clamp(rint(x / scale), -2^(b-1),
 * 2^(b-1) - 1), x_hat = code * scale; 2 bytes a group instead of 4. At 2 bits that leaves -1, 0
 * and 1.
 *
 * Bytes: axis=token: ceil(b * dim / 8) + 4 a group of group_size channels, each row on its own;
 * axis=channel: group_size tokens of one channel make a group, an atom is group_size rows of
 * ceil(b * dim * group_size / 8) + 4 dim bytes. Rows are encoded at once, the current one included;
 * a block of rows (axis=channel) when it is full, after the answer of its last row. With
 * residual_length the newest rows stay exact as in KIVI, and are encoded after the answer of their
 * step: axis=token keeps the last residual_length, axis=channel lets them grow to residual_length
 * and encodes them whole. Departures: none; an f16 scale or minimum that would be infinite is the
 * largest half. */
#include "methods/parts/grid.h"

extern const struct kv_codec kv_codec_int;

struct config {
    uint32_t bits, axis, group_size, symmetric, residual_length;
};

static const struct kv_param params[] = {
    {"bits", KV_PARAM_U32, offsetof(struct config, bits), 4, 1, 8, NULL, "bits a code"},
    {"axis", KV_PARAM_CHOICE, offsetof(struct config, axis), KV_GRID_TOKEN, 0, 0, "token|channel",
     "a group is channels of one token, or tokens of one channel"},
    {"group_size", KV_PARAM_U32, offsetof(struct config, group_size), 64, 1, 4096, NULL,
     "values that share a grid (token: at most a row)"},
    {"grid", KV_PARAM_CHOICE | KV_PARAM_LATER, offsetof(struct config, symmetric), 0, 0, 0,
     "asymmetric|symmetric", "with a minimum, or about 0"},
    {"residual_length", KV_PARAM_U32 | KV_PARAM_LATER, offsetof(struct config, residual_length), 0,
     0, 1u << 20, NULL, "newest rows kept exact; axis=channel: a multiple of group_size"},
    {0}};

struct int_code {
    struct kv_code code;
    struct kv_grid grid;
};

static int check(const struct config *config, struct kv_error *err)
{
    if (config->symmetric && config->bits < 2)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "int: a symmetric grid of 1 bit has no level but 0; see the codec sign");
    if (config->axis == KV_GRID_CHANNEL && config->residual_length % config->group_size)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "int: residual_length %u is not a multiple of group_size %u",
                       config->residual_length, config->group_size);
    return KV_OK;
}

/* With a residual the tiers are KIVI's, of its keys or its values. */
static struct kv_tiers tiers_of(const struct config *config, uint32_t block)
{
    const uint32_t residual = config->residual_length;
    if (!residual) return (struct kv_tiers){.flush = block, .coded_at_once = block == 1};
    return config->axis == KV_GRID_CHANNEL ? (struct kv_tiers){.flush = residual}
                                           : (struct kv_tiers){.recent = residual, .flush = 1};
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    int status = check(config, err);
    if (status) return status;
    struct int_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "int: no memory");
    status = kv_grid_create(&self->grid, setup,
                            config->axis | (config->symmetric ? KV_GRID_SYMMETRIC : 0u),
                            config->bits, config->group_size, err);
    if (status) return status;
    self->code = (struct kv_code){.type = &kv_codec_int,
                                  .dim = setup->dim,
                                  .block = self->grid.block,
                                  .payload_bytes = self->grid.payload_bytes,
                                  .metadata_bytes = kv_grid_metadata_bytes(&self->grid),
                                  .tiers = tiers_of(config, self->grid.block)};
    *out = &self->code;
    return KV_OK;
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    kv_grid_encode(&((struct int_code *)code)->grid, rows, atom);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    kv_grid_decode(&((const struct int_code *)code)->grid, atoms, n_atoms, first_column, n_columns,
                   out);
}

const struct kv_codec kv_codec_int = {
    .name = "int",
    .summary = "integers on a grid of its own a group: minimum and scale in half precision",
    .paper = "round to nearest; grid of KIVI (Liu et al., arXiv 2402.02750)",
    .params = params,
    .config_size = sizeof(struct config),
    .create = create,
    .encode = encode,
    .decode = decode};
