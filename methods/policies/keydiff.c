/* keydiff: rows whose keys differ from the mean direction stay (Park et al., arXiv 2504.15364):
 * score = -cos(k, a), a = mean over the prompt's keys of k / |k|, per KV head; behind another policy
 * over those that it left. Acts on the prompt: whole, or (prompt_block=128, as the paper runs it) on blocks of
 * it, a over the rows held and those of the block. */
#include "methods/policy.h"

#include <math.h>
#include <string.h>

struct chooser { struct kv_chooser base; double *anchor; };   /* [key_dim] */

static void wants(const void *config, struct kv_wants *wants) { wants->prompt_rows = true; }

static int create(struct kv_chooser *self, const struct kv_setup *setup, struct kv_error *err)
{
    struct chooser *keydiff = (struct chooser *)self;
    if (!self->trim.prompt_only)
        return kv_fail(err, KV_EUNSUPPORTED, "keydiff: when=step: the mean direction is the prompt's");
    keydiff->anchor = kv_pool_reserve(setup->pool, KV_WORKSPACE,
                                      setup->geometry->key_dim * sizeof *keydiff->anchor);
    return keydiff->anchor ? KV_OK : kv_fail(err, KV_EMEMORY, "keydiff: out of memory");
}

static double norm(const float *key, uint32_t dim)
{
    double sum = 0.0;
    for (uint32_t c = 0; c < dim; c++) sum += (double)key[c] * key[c];
    return sum > 0.0 ? sqrt(sum) : 1.0;
}

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    double *anchor = ((struct chooser *)self)->anchor;
    for (uint32_t l = 0; l < n_lanes; l++) {
        const uint32_t dim = lanes[l].key_dim;
        const float *keys = lanes[l].prompt->keys;
        memset(anchor, 0, dim * sizeof *anchor);
        for (uint32_t i = 0; i < lanes[l].n; i++) {
            const float *key = keys + (size_t)lanes[l].positions[i] * dim;
            const double length = norm(key, dim);
            for (uint32_t c = 0; c < dim; c++) anchor[c] += key[c] / length;
        }
        for (uint32_t i = 0; i < lanes[l].n; i++) {
            const float *key = keys + (size_t)lanes[l].positions[i] * dim;
            double dot = 0.0;
            for (uint32_t c = 0; c < dim; c++) dot += key[c] * anchor[c];
            lanes[l].score[i] = (float)(-dot / norm(key, dim));   /* |a| is the same for all rows */
        }
    }
}

const struct kv_policy kv_policy_keydiff = {
    .name = "keydiff", .summary = "rows whose keys point elsewhere than most stay",
    .paper = "KeyDiff (Park et al., arXiv 2504.15364)", .self_size = sizeof(struct chooser),
    .trim = {.budget = {.share = 0.2}, .prompt_only = true},
    .wants = wants, .create = create, .score = score, .in_blocks = true};
