/* A codec on its own; see claim_codec.h. */
#include "harness/claims/claim_codec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int make_code(struct kv_claim_codec *codec, const char *spec, const struct kv_setup *like,
                     struct kv_error *err)
{
    int status = kv_spec_parse(&codec->specs, spec, err);
    if (status != KV_OK) return status;
    const struct kv_spec *parsed = codec->specs.specs;
    if (codec->specs.n != 1 || parsed->n_caches != 1 || parsed->caches[0].n_policies)
        return kv_fail(err, KV_EINPUT, "claim: %s: expected one spec of codecs only", spec);
    struct kv_setup setup = *like;
    status = kv_create_code(&codec->code, parsed->caches[0].codec, &setup, setup.dim, err);
    if (status != KV_OK) return status;
    if (codec->code->type->traits & KV_FITS_PROMPT)
        return kv_fail(err, KV_EUNSUPPORTED, "%s must see a prompt before it encodes", spec);
    codec->atom = malloc(kv_atom_bytes(codec->code));
    return codec->atom ? KV_OK : kv_fail(err, KV_EMEMORY, "claim: %s: no memory", spec);
}

int kv_claim_codec_open(struct kv_claim_codec *codec, const char *spec, uint32_t dim,
                        enum kv_side side, uint32_t head, uint64_t seed,
                        const struct kv_kernels *kernels, struct kv_error *err)
{
    *codec = (struct kv_claim_codec){.pool = kv_pool_create(0)};
    if (!codec->pool) return kv_fail(err, KV_EMEMORY, "claim: %s: no memory", spec);
    codec->geometry = (struct kv_geometry){
        .model_layers = 1, .q_heads = head + 1, .kv_heads = head + 1, .group = 1, .key_dim = dim,
        .value_dim = dim, .tokens = 2, .prefill = 1, .element_bits = 16, .scale = 1};
    const struct kv_setup setup = {.geometry = &codec->geometry, .kernels = kernels,
                                   .pool = codec->pool, .seed = seed, .head = head, .dim = dim,
                                   .side = side};
    const int status = make_code(codec, spec, &setup, err);
    if (status != KV_OK) kv_claim_codec_close(codec);
    return status;
}

void kv_claim_codec_close(struct kv_claim_codec *codec)
{
    free(codec->atom);
    if (codec->pool) kv_pool_destroy(codec->pool);
    kv_spec_free(&codec->specs);
    *codec = (struct kv_claim_codec){0};
}

void kv_claim_round_trip(struct kv_claim_codec *codec, const float *rows, uint32_t n,
                         float *decoded)
{
    struct kv_code *code = codec->code;
    for (uint32_t first = 0; first + code->block <= n; first += code->block) {
        const size_t at = (size_t)first * code->dim;
        code->type->encode(code, rows + at, codec->atom);
        code->type->decode(code, codec->atom, 1, 0, code->dim, decoded + at);
    }
}

/* A weight that underflowed to 0 in the exact row counts as 2^-60, where exp_sum cuts off. */
double kv_claim_divergence(const float *answer, const float *exact, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        if (answer[i] > 0) sum += answer[i] * log(answer[i] / fmax(exact[i], 0x1p-60));
    return sum;
}

int kv_claim_cannot(int status, double *figure, char reason[256], const struct kv_error *err)
{
    if (status != KV_EUNSUPPORTED && status != KV_EUSAGE && status != KV_EENVIRONMENT)
        return status;
    *figure = NAN;
    snprintf(reason, 256, "%.255s", err->text);
    return KV_OK;
}
