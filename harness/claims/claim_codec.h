/* One codec stage of a spec on its own, for claims about rows: encode, decode, nothing else. */
#ifndef KVBENCH_HARNESS_CLAIMS_CLAIM_CODEC_H
#define KVBENCH_HARNESS_CLAIMS_CLAIM_CODEC_H

#include "harness/claims/claims.h"
#include "methods/spec/spec.h"

struct kv_claim_codec {
    struct kv_spec_list specs;
    struct kv_geometry geometry;
    struct kv_pool *pool;
    struct kv_code *code;
    uint8_t *atom;
};

/* Makes the codec of a spec without policies for rows of dim columns; head and seed as a cache
 * would give them. KV_EUNSUPPORTED for a codec that must see a prompt first. */
int kv_claim_codec_open(struct kv_claim_codec *codec, const char *spec, uint32_t dim,
                        enum kv_side side, uint32_t head, uint64_t seed,
                        const struct kv_kernels *kernels, struct kv_error *err);
void kv_claim_codec_close(struct kv_claim_codec *codec);

/* rows [n][dim] -> decoded [n][dim]; n is a multiple of the codec's block. */
void kv_claim_round_trip(struct kv_claim_codec *codec, const float *rows, uint32_t n,
                         float *decoded);

/* KL(a_hat || a) of two rows of softmax weights: the direction of attention_kl. */
double kv_claim_divergence(const float *answer, const float *exact, uint32_t n);

/* An error that only means "not on this machine, not with this build": NaN, with the reason. */
int kv_claim_cannot(int status, double *figure, char reason[256], const struct kv_error *err);

#endif
