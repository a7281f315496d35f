#include "methods/parts/wrapper.h"

#include <stdlib.h>

struct kv_code kv_wrap_code(const struct kv_codec *type, uint32_t dim, const struct kv_code *inner)
{
    struct kv_code code = *inner;
    code.type = type, code.dim = dim;
    return code;
}

struct wrapped {
    struct kv_code code, *inner;
};

uint32_t kv_wrapped_used(const struct kv_code *outer, const uint8_t *atom)
{
    const struct kv_code *inner = ((const struct wrapped *)outer)->inner;
    if (!inner->type->used) return outer->metadata_bytes;
    return outer->metadata_bytes - inner->metadata_bytes + inner->type->used(inner, atom);
}

static int fit_mapped(const struct kv_code *outer, struct kv_code *inner,
                      const struct kv_sample *sample, kv_row_map *map, struct kv_error *err)
{
    float *rows = calloc((size_t)sample->n * inner->dim + 1, sizeof *rows);
    if (!rows)
        return kv_fail(err, KV_EMEMORY, "%s: no memory for %u prompt rows", outer->type->name,
                       sample->n);
    for (uint32_t i = 0; i < sample->n && !sample->sizes_only; i++)
        map(outer, sample->rows + (size_t)i * outer->dim, rows + (size_t)i * inner->dim);
    const struct kv_sample mapped = {.n = sample->n,
                                     .sizes_only = sample->sizes_only,
                                     .rows = rows,
                                     .positions = sample->positions};
    const int status = inner->type->fit(inner, &mapped, err);
    free(rows);
    return status;
}

int kv_fit_inner(struct kv_code *outer, struct kv_code *inner, const struct kv_sample *sample,
                 kv_row_map *map, struct kv_error *err)
{
    const int status = inner->type->fit ? fit_mapped(outer, inner, sample, map, err) : KV_OK;
    if (status) return status;
    outer->payload_bytes = inner->payload_bytes;
    outer->metadata_bytes = inner->metadata_bytes;
    return KV_OK;
}
