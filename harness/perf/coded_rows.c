/* Rows in atoms; see coded_rows.h. */
#include "harness/perf/coded_rows.h"

#include <stdio.h>
#include <string.h>

static int make_code(struct kv_coded_rows *coded, const struct kv_spec *spec, enum kv_side side,
                     uint32_t dim, struct kv_error *err)
{
    const struct kv_stage *stage = kv_chain(&spec->caches[0], side);
    const struct kv_setup setup = {.geometry = &coded->geometry,
                                   .kernels = &coded->kernels,
                                   .pool = coded->pool,
                                   .seed = 1,
                                   .n_heads = 1,
                                   .dim = dim,
                                   .side = side};
    if (spec->caches[0].n_policies || spec->n_caches > 1)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: expected codecs only", spec->text);
    return kv_create_code(&coded->code, stage, &setup, dim, err);
}

static int fit_and_encode(struct kv_coded_rows *coded, const float *rows, struct kv_error *err)
{
    struct kv_code *code = coded->code;
    uint32_t *positions = kv_pool_take(coded->pool, coded->n * sizeof *positions);
    if (!positions) return kv_fail(err, KV_EMEMORY, "%s: out of memory", code->type->name);
    for (uint32_t i = 0; i < coded->n; i++) positions[i] = i;
    const struct kv_sample sample = {.n = coded->n, .rows = rows, .positions = positions};
    const int status = code->type->fit ? code->type->fit(code, &sample, err) : KV_OK;
    if (status != KV_OK) return status;
    if (coded->n < code->block)
        return kv_fail(err, KV_EUNSUPPORTED, "%s: an atom has %u rows, more than %u",
                       code->type->name, code->block, coded->n);
    coded->n -= coded->n % code->block;
    coded->atoms = kv_pool_take(coded->pool, coded->n / code->block * kv_atom_bytes(code));
    if (!coded->atoms) return kv_fail(err, KV_EMEMORY, "%s: out of memory", code->type->name);
    uint8_t *atom = coded->atoms;
    for (uint32_t i = 0; i < coded->n; i += code->block, atom += kv_atom_bytes(code))
        code->type->encode(code, rows + (size_t)i * code->dim, atom);
    return KV_OK;
}

int kv_coded_rows_create(struct kv_coded_rows *coded, const struct kv_spec *spec,
                         const struct kv_kernels *kernels, enum kv_side side, const float *rows,
                         uint32_t n, uint32_t dim, struct kv_error *err)
{
    *coded = (struct kv_coded_rows){.pool = kv_pool_create(0), .kernels = *kernels, .n = n};
    coded->geometry = (struct kv_geometry){.model_layers = 1,
                                           .q_heads = 1,
                                           .kv_heads = 1,
                                           .group = 1,
                                           .key_dim = dim,
                                           .value_dim = dim,
                                           .tokens = n,
                                           .prefill = n,
                                           .element_bits = 16,
                                           .question_start = n,
                                           .scale = 1};
    if (!coded->pool) return kv_fail(err, KV_EMEMORY, "perf: out of memory");
    int status = make_code(coded, spec, side, dim, err);
    if (status == KV_OK) status = fit_and_encode(coded, rows, err);
    if (status != KV_OK) kv_coded_rows_free(coded);
    return status;
}

void kv_coded_rows_free(struct kv_coded_rows *coded)
{
    if (coded->pool) kv_pool_destroy(coded->pool);
    coded->pool = NULL;
}

uint32_t kv_coded_rows_columns(const struct kv_coded_rows *coded)
{
    const uint32_t turned = kv_turned_columns(coded->code, KV_KEYS);
    return turned ? turned : coded->code->dim;
}

static void decode_rows(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                        float *out)
{
    if (kv_turned_columns(code, KV_KEYS))
        code->type->turn->decode_turned(code, atoms, n_atoms, out);
    else
        code->type->decode(code, atoms, n_atoms, 0, code->dim, out);
}

void kv_coded_rows_read(const struct kv_coded_rows *coded, uint32_t first, uint32_t n, float *out,
                        float *spare)
{
    const struct kv_code *code = coded->code;
    const uint32_t block = code->block, dim = kv_coded_rows_columns(coded);
    while (n > 0) {
        const uint32_t inside = first % block;
        const uint8_t *atom = coded->atoms + first / block * kv_atom_bytes(code);
        uint32_t now = n < block - inside ? n : block - inside;
        if (inside == 0 && n >= block) {
            now = n / block * block;
            decode_rows(code, atom, now / block, out);
        } else {
            decode_rows(code, atom, 1, spare);
            memcpy(out, spare + (size_t)inside * dim, (size_t)now * dim * sizeof *out);
        }
        first += now, n -= now, out += (size_t)now * dim;
    }
}

int kv_perf_specs(struct kv_spec_list *list, const char *method, const char *own,
                  struct kv_error *err)
{
    char all[2048] = "";
    if (!method) return kv_spec_parse(list, own, err);
    if (strcmp(method, "all")) return kv_spec_parse(list, method, err);
    for (int i = 0; kv_codecs[i]; i++) {
        const size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", i ? "," : "", kv_codecs[i]->name);
    }
    return kv_spec_parse(list, all, err);
}
