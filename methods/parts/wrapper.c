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

/* Everything but the rows; *queries is the caller's to free. */
static bool map_evidence(struct kv_sample *mapped, float **queries, const struct kv_code *outer,
                         const struct kv_sample *sample, kv_row_map *map, enum kv_map_kind kind)
{
    if (kind == KV_MAP_SHIFT) return true;
    mapped->behind = outer->type->name;
    mapped->queries = NULL, mapped->fisher = mapped->label = NULL, mapped->w_o = NULL;
    if (kind != KV_MAP_TURN || !sample->queries) return true;
    const size_t dim = outer->dim;
    *queries = calloc(sample->n_queries * dim + 1, sizeof **queries);
    for (size_t i = 0; *queries && i < sample->n_queries && !sample->sizes_only; i++)
        map(outer, sample->queries + i * dim, *queries + i * dim);
    mapped->queries = *queries;
    return *queries != NULL;
}

static int fit_mapped(const struct kv_code *outer, struct kv_code *inner,
                      const struct kv_sample *sample, kv_row_map *map, enum kv_map_kind kind,
                      struct kv_error *err)
{
    float *rows = calloc((size_t)sample->n * inner->dim + 1, sizeof *rows);
    if (!rows)
        return kv_fail(err, KV_EMEMORY, "%s: no memory for %u prompt rows", outer->type->name,
                       sample->n);
    for (uint32_t i = 0; i < sample->n && !sample->sizes_only; i++)
        map(outer, sample->rows + (size_t)i * outer->dim, rows + (size_t)i * inner->dim);
    struct kv_sample mapped = *sample;
    mapped.rows = rows;
    float *queries = NULL;
    const int status =
        map_evidence(&mapped, &queries, outer, sample, map, kind)
            ? inner->type->fit(inner, &mapped, err)
            : kv_fail(err, KV_EMEMORY, "%s: no memory for queries", outer->type->name);
    free(queries);
    free(rows);
    return status;
}

int kv_fit_lacks(const struct kv_sample *sample, const char *name, const char *what,
                 const char *missing, struct kv_error *err)
{
    if (sample->behind)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: %s of rows behind %s are not known", name, what,
                       sample->behind);
    return kv_fail(err, KV_ESKIPPED, "%s: %s", name, missing);
}

int kv_fit_inner(struct kv_code *outer, struct kv_code *inner, const struct kv_sample *sample,
                 kv_row_map *map, enum kv_map_kind kind, struct kv_error *err)
{
    const int status = inner->type->fit ? fit_mapped(outer, inner, sample, map, kind, err) : KV_OK;
    if (status) return status;
    outer->payload_bytes = inner->payload_bytes;
    outer->metadata_bytes = inner->metadata_bytes;
    return KV_OK;
}
