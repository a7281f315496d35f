/* none: values that are not stored; their keys stay.
 *
 * decode: 0. Behind `rest` it is the fate of rows whose value goes while their key still has its
 * place in the softmax (h2o:budget=64+rest+v.none): no mass moves to the rows that stay, and what
 * the dropped ones would have added is missing from the answer. In a first cache recent= and sinks=
 * say which values stay (v.none:recent=64); center=mean reads every dropped one as the prompt's
 * mean value.
 *
 * Bytes of a value: none. A key without a row cannot be found again: keys are refused. */
#include <string.h>

#include "methods/codec.h"

extern const struct kv_codec kv_codec_none;

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    if (setup->side != KV_VALUES)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "none: a query finds no row without its key: expected v.none");
    struct kv_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "none: no memory");
    *self = (struct kv_code){.type = &kv_codec_none,
                             .dim = setup->dim,
                             .block = 1,
                             .tiers = {.flush = 1, .coded_at_once = true}};
    *out = self;
    return KV_OK;
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    (void)code, (void)rows, (void)atom;
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    (void)atoms, (void)first_column;
    memset(out, 0, (size_t)n_atoms * code->block * n_columns * sizeof *out);
}

const struct kv_codec kv_codec_none = {.name = "none",
                                       .summary = "values that are not stored, and read as 0",
                                       .paper = "-",
                                       .create = create,
                                       .encode = encode,
                                       .decode = decode};
