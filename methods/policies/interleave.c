/* interleave: local and global layers in turn, put upon any model (Gemma 3 report, arXiv
 * 2503.19786, section 2.1: five local layers to a global one; Gemma 4 and others: four).
 *
 * Of locals + 1 consecutive layers of the model the one at place `global_at` (default: the last)
 * keeps every row; the others keep the last budget rows, the current one included, and the sinks if
 * any. Depth is the model's, not the recording's. Any other map: `window:budget=..:layers=..`.
 *
 * Bytes: held rows. Nothing is charged beside them.
 *
 * Departures: the model was not trained so; the error is that of a model switched over untrained.
 * The window is a budget as any evictor's, by default a share of the prompt; Gemma 3 has 1024
 * tokens (512 in its smallest): budget=512.
 */
#include "methods/policy.h"

struct config {
    uint32_t locals, global;
};

static const struct kv_param params[] = {
    {"locals", KV_PARAM_U32, offsetof(struct config, locals), 5, 0, 1024, NULL,
     "local layers to every global one"},
    {"global_at", KV_PARAM_U32, offsetof(struct config, global), 1024, 0, 1024, NULL,
     "place of the global layer among locals + 1; beyond them: the last"},
    {0}};

static int create(struct kv_chooser *self, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = self->config;
    const uint32_t place = config->global < config->locals ? config->global : config->locals;
    (void)err;
    if (setup->geometry->layer % (config->locals + 1) == place)
        self->trim.budget = (struct kv_budget){.tokens = UINT32_MAX};
    return KV_OK;
}

static void score(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                  uint32_t n_lanes)
{
    (void)self, (void)step;
    for (uint32_t l = 0; l < n_lanes; l++)
        for (uint32_t i = 0; i < lanes[l].n; i++) lanes[l].score[i] = (float)i;
}

const struct kv_policy kv_policy_interleave = {
    .name = "interleave",
    .summary = "most layers see a window, every sixth (or so) sees all",
    .paper = "local-global attention (Gemma 3 report, arXiv 2503.19786), untrained",
    .params = params,
    .config_size = sizeof(struct config),
    .trim = {.budget = {.share = 0.2}},
    .create = create,
    .score = score,
    .in_blocks = true,
    .by_position = true};
