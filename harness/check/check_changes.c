/* Changed layers; see check_changes.h. */
#include "harness/check/check_changes.h"

#include <math.h>
#include <string.h>

#include "harness/check/check_subject.h"

/* fmax would do, but the aarch64 gcc 12 crashes on its reductions. NaN counts as largest. */
static double larger(double a, double b) { return a != a || b <= a ? a : b; }

/* The usual play of two layers; unless it passes nothing of either is left to forget. */
static enum kv_verdict play_both(struct kv_check *check, const struct kv_check_shape *first,
                                 const struct kv_check_shape *second, struct kv_played *a, struct kv_played *b)
{
    struct kv_play play = kv_play_usual(check);
    enum kv_verdict verdict = kv_play_shape(check, &play, first, a);
    if (verdict != KV_PASS) return verdict;
    verdict = kv_play_shape(check, &play, second, b);
    if (verdict != KV_PASS) kv_played_forget(a);
    return verdict;
}

enum kv_verdict kv_check_future(struct kv_check *check)
{
    if (kv_subject_is_oracle(check)) return kv_check_skip(check, "an oracle");
    struct kv_check_shape changed = kv_check_plain;
    changed.changed_from = 280;
    struct kv_played a, b;
    enum kv_verdict verdict = play_both(check, &kv_check_plain, &changed, &a, &b);
    if (verdict != KV_PASS) return verdict;
    const uint32_t group = a.group, before = changed.changed_from - kv_check_plain.prefill;
    for (uint32_t h = 0; verdict == KV_PASS && h < a.lanes; h++) {
        const size_t first = (size_t)h * a.n_scored * group * a.value_dim;
        if (memcmp(a.outputs + first, b.outputs + first, (size_t)before * group * a.value_dim * sizeof(float)))
            verdict = KV_FAIL, kv_fail(&check->why, 0, "an answer before token %u changed with the tokens after it", changed.changed_from);
    }
    if (verdict == KV_PASS && kv_played_same(&a, &b))
        verdict = kv_played_no_values(&a)
                      ? kv_check_skip(check, "no value is stored")
                      : (kv_fail(&check->why, 0, "the changed tokens changed nothing at all"), KV_FAIL);
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

static bool reads_turned_rows(const struct kv_check *check)
{
    const struct kv_stage *stage = check->spec->caches[0].codec;
    return stage && stage->codec->turn && stage->codec->turn->row;
}

static bool codes_latents_of_heads(const struct kv_check *check)
{
    const struct kv_stage *stage = kv_chain(&check->spec->caches[0], KV_KEYS);
    return stage && stage->rest && stage->modifiers[0].span & KV_SPAN_HEADS;
}

static bool pools_heads(const struct kv_stage *stage) { return stage->trim.pooled_heads; }

/* Of two heads' equal claims on a row of a shared budget the first one's goes before, and that is another
 * head's once they are swapped: other rows stay. */
static bool shares_otherwise(const struct kv_check *check, const struct kv_played *a, const struct kv_played *b)
{
    const size_t half = (size_t)a->lanes / 2 * a->tokens;
    return kv_subject_has(check, pools_heads) &&
           (memcmp(a->held, b->held + half, half) != 0 || memcmp(a->held + half, b->held, half) != 0);
}

enum kv_verdict kv_check_swapped_heads(struct kv_check *check)
{
    for (int side = 0; side < 2; side++)
        for (const struct kv_stage *s = kv_chain(&check->spec->caches[0], side); s; s = s->rest)
            if (kv_chain(&check->spec->caches[0], side)->modifiers[0].span & KV_SPAN_HEADS &&
                s->codec->traits & KV_ORDERED_HEADS)
                return kv_check_skip(check, "heads have different parts to play");
    if (check->spec->random) return kv_check_skip(check, "depends on the head by its seed");
    /* Of f32 rows: among equal halves of a row that joins heads the lower column goes first, and that is
     * another head's once they are swapped. */
    struct kv_check_shape straight = kv_check_plain, swapped;
    straight.dtype = KV_F32;
    swapped = straight, swapped.swapped = true;
    struct kv_played a, b;
    enum kv_verdict verdict = play_both(check, &straight, &swapped, &a, &b);
    if (verdict != KV_PASS) return verdict;
    const size_t half = a.n / 2;
    double delta = 0.0;
    for (size_t i = 0; i < a.n; i++)
        delta = larger(delta, fabs((double)a.outputs[i] - b.outputs[(i + half) % a.n]));
    /* Sums over heads change their order; latents of all heads go to the other half or code beside them. */
    if (delta > (reads_turned_rows(check) || codes_latents_of_heads(check) ? 0x1p-11 : 1e-4))
        verdict = shares_otherwise(check, &a, &b)
                      ? kv_check_skip(check, "of equal claims on a shared budget the first head's goes before")
                      : (kv_fail(&check->why, 0, "answers of swapped heads differ by %.3g", delta), KV_FAIL);
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}

enum kv_verdict kv_check_prompt_end(struct kv_check *check)
{
    if (kv_subject_has(check, kv_chooses_rows) || kv_subject_fits_prompt(check))
        return kv_check_skip(check, "the end of the prompt is an event for this method");
    if (check->spec->n_caches > 1) return kv_check_skip(check, "two caches");
    struct kv_check_shape later = kv_check_plain;
    later.prefill = 272;
    struct kv_played a, b;
    enum kv_verdict verdict = play_both(check, &kv_check_plain, &later, &a, &b);
    if (verdict != KV_PASS) return verdict;
    const size_t row = (size_t)a.group * a.value_dim;
    double delta = 0.0;
    for (uint32_t h = 0; h < a.lanes; h++)
        for (size_t i = 0; i < b.n_scored * row; i++) {
            const float *x = a.outputs + ((size_t)h * a.n_scored + 16) * row, *y = b.outputs + (size_t)h * b.n_scored * row;
            delta = larger(delta, fabs((double)x[i] - y[i]));
        }
    if (delta > 1e-4)
        verdict = KV_FAIL, kv_fail(&check->why, 0, "answers differ by %.3g", delta);
    kv_played_forget(&a);
    kv_played_forget(&b);
    return verdict;
}
