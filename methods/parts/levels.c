/* A few levels and a magnitude a group; see levels.h. */
#include "methods/parts/levels.h"

#include "methods/parts/codes.h"

const struct kv_param kv_levels_params[] = {
    {"group_size", KV_PARAM_U32, offsetof(struct kv_levels_config, group_size), 64, 1, 4096, NULL,
     "channels that share a magnitude (at most a row)"},
    {0}};

int kv_levels_create(struct kv_code **out, const struct kv_setup *setup,
                     const struct kv_codec *type, uint32_t payload_bytes, uint32_t spare,
                     struct kv_error *err)
{
    const struct kv_levels_config *config = setup->config;
    const uint32_t dim = setup->dim, group = config->group_size < dim ? config->group_size : dim;
    struct kv_levels *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    uint8_t *codes = kv_pool_reserve(setup->pool, KV_WORKSPACE, dim + spare);
    if (!self || !codes) return kv_fail(err, KV_EMEMORY, "%s: no memory for a row", type->name);
    self->kernels = setup->kernels, self->group = group, self->codes = codes;
    self->code = (struct kv_code){.type = type,
                                  .dim = dim,
                                  .block = 1,
                                  .payload_bytes = payload_bytes,
                                  .metadata_bytes = 2 * kv_groups(dim, group),
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

void kv_levels_decode(const struct kv_code *code, const float *table, kv_levels_unpack *unpack,
                      const uint8_t *atom, uint32_t first, uint32_t n, float *out)
{
    const struct kv_levels *self = (const struct kv_levels *)code;
    const struct kv_grouped row = {self->kernels, table, self->group, code, atom, kv_half_scale};
    kv_look_up_groups(&row, unpack(self, atom, first, n), first, n, out);
}
