/* Shapes, and rows that no text has: finite answers, or a reason why not. */
#include "harness/check/check_shapes.h"

static enum kv_verdict finite_on(struct kv_check *check, const struct kv_check_shape *shape)
{
    struct kv_play play = kv_play_usual(check);
    struct kv_played played;
    play.audit = true;
    const enum kv_verdict verdict = kv_play_shape(check, &play, shape, &played);
    if (verdict != KV_PASS) return verdict;
    const bool finite = kv_played_finite(&played, &check->why);
    kv_played_forget(&played);
    return finite ? KV_PASS : KV_FAIL;
}

enum kv_verdict kv_check_accounts(struct kv_check *check)
{
    return finite_on(check, &kv_check_plain);
}

/* Takes over the fields of change that are not zero. */
static void change_shape(struct kv_check_shape *shape, const struct kv_check_shape *change)
{
    if (change->tokens) shape->tokens = change->tokens;
    if (change->prefill) shape->prefill = change->prefill;
    if (shape->question >= shape->prefill) shape->question = 0;
    if (change->kv_heads) shape->kv_heads = change->kv_heads;
    if (change->group) shape->group = change->group;
    if (change->key_dim) shape->key_dim = change->key_dim;
    if (change->value_dim) shape->value_dim = change->value_dim;
    if (change->window) shape->window = change->window;
    if (change->softcap > 0.0) shape->softcap = change->softcap;
    shape->sinks = change->sinks, shape->interleaved = change->interleaved;
    if (change->dtype) shape->dtype = change->dtype;
    if (change->rows) shape->rows = change->rows;
    shape->latent = change->latent;
}

/* What is said of the values alone could have no effect: the spec must be refused. */
static bool tells_values_apart(const struct kv_spec *spec)
{
    for (uint32_t c = 0; c < spec->n_caches; c++) {
        if (spec->caches[c].sided && spec->caches[c].values) return true;
        for (const struct kv_stage *s = kv_chain(&spec->caches[c], KV_KEYS); s; s = s->rest)
            if (!kv_stage_same_sides(s) || s->modifiers[0].exact_side) return true;
    }
    return false;
}

enum kv_verdict kv_check_on_shape(struct kv_check *check, const struct kv_check_shape *change)
{
    struct kv_check_shape shape = kv_check_plain;
    change_shape(&shape, change);
    const enum kv_verdict verdict = finite_on(check, &shape);
    if (verdict != KV_PASS || !shape.latent || !tells_values_apart(check->spec)) return verdict;
    kv_fail(&check->why, 0,
            "values that are columns of the keys: expected a refusal, found answers");
    return KV_FAIL;
}

const struct kv_shape_invariant kv_check_shapes[KV_CHECK_SHAPES] = {
    {{"answers_constant_rows", "all rows alike: finite answers"}, {.rows = KV_ROWS_CONSTANT}},
    {{"answers_zero_rows", "all zero: finite answers"}, {.rows = KV_ROWS_ZERO}},
    {{"answers_huge_rows", "rows of 65504: finite answers"}, {.rows = KV_ROWS_HUGE}},
    {{"answers_subnormal_rows", "rows below the smallest half: finite answers"},
     {.rows = KV_ROWS_SUBNORMAL}},
    {{"runs_on_head_dim_80", "head_dim 80, or a reason why not"}, {.key_dim = 80, .value_dim = 80}},
    {{"runs_on_unequal_dims", "keys of 96, values of 64"}, {.key_dim = 96, .value_dim = 64}},
    {{"runs_on_one_kv_head", "multi-query attention"}, {.kv_heads = 1, .group = 4}},
    {{"runs_without_groups", "multi-head attention"}, {.kv_heads = 3, .group = 1}},
    {{"runs_on_latents", "latent attention, whose values are columns of the keys"},
     {.kv_heads = 1, .group = 4, .key_dim = 96, .latent = true, .interleaved = true}},
    {{"runs_on_a_sliding_layer", "window, softcap, sink logits, interleaved rotation"},
     {.window = 40, .softcap = 20.0, .sinks = true, .interleaved = true}},
    {{"runs_on_bfloat", "a bfloat16 trace"}, {.dtype = KV_BF16}},
    {{"runs_on_f32", "an f32 trace"}, {.dtype = KV_F32}},
    {{"runs_on_one_prompt_token", "a prompt of one token"}, {.tokens = 40, .prefill = 1}},
    {{"runs_on_one_decode_token", "a single decode step"}, {.tokens = 257}}};
