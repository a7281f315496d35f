/* Trim; see trim.h. */
#include "methods/trim.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "methods/chunks.h"
#include "methods/head_budget.h"

bool kv_trim_acts(const struct kv_trim *trim, const struct kv_step *step,
                  const struct kv_lane *lanes, uint32_t n_lanes)
{
    if (trim->prompt_only && !step->prompt) return false;
    for (uint32_t i = 0; i < n_lanes; i++)
        if (lanes[i].n > lanes[i].budget) return true;
    return false;
}

/* A whole number in the order of scores: NaN is the least, zeros are equal. */
static int32_t rank_of(float score)
{
    const float x = score + 0.0f; /* -0 becomes 0 */
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int32_t rank = bits < 0 ? bits ^ INT32_MAX : bits;
    return x != x ? INT32_MIN : rank;
}

/* Which of n > 0 scores goes first: the last of the lowest, NaN before any number. */
static uint32_t find_lowest(const struct kv_kernels *kernels, const float *score, uint32_t n)
{
    float lowest, highest;
    uint32_t unordered = 0;
    for (uint32_t i = 0; i < n; i++) unordered |= isnan(score[i]) != 0;
    if (unordered) {
        while (!isnan(score[n - 1])) n--;
        return n - 1;
    }
    kernels->min_max(score, n, &lowest, &highest);
    while (score[n - 1] != lowest) n--;
    return n - 1;
}

/* Eight bits of a score's rank. */
static uint32_t digit_of(float score, uint32_t shift)
{
    return ((uint32_t)rank_of(score) ^ UINT32_C(0x80000000)) >> shift & 255;
}

void kv_drop_lowest(const float *score, uint32_t *candidates, uint32_t n, uint32_t m, uint8_t *fate)
{
    assert(m <= n);
    /* Digit by digit, the highest first: what is below the digit at which the m lowest end goes, what
     * has that digit is looked at again. */
    for (uint32_t shift = 32; shift > 0 && m > 0 && m < n;) {
        uint32_t counts[256] = {0}, digit = 0, below = 0, left = 0;
        shift -= 8;
        for (uint32_t c = 0; c < n; c++) counts[digit_of(score[candidates[c]], shift)]++;
        while (below + counts[digit] <= m) below += counts[digit++];
        for (uint32_t c = 0; c < n; c++) {
            const uint32_t i = candidates[c], own = digit_of(score[i], shift);
            fate[i] |= own < digit ? KV_DROP : KV_STAYS;
            candidates[left] = i;
            left += own == digit;
        }
        n = left, m -= below;
    }
    while (m-- > 0) fate[candidates[--n]] = KV_DROP; /* of equal ones the last */
}

struct kv_protected kv_trim_protected(const struct kv_trim *trim, uint32_t budget, uint32_t sinks)
{
    const uint32_t own = trim->prompt_only ? 0 : 1, room = budget > own ? budget - own : 0;
    const uint32_t share = (uint32_t)((uint64_t)budget * trim->recent_percent / 100);
    const uint32_t asked = trim->recent > share ? trim->recent : share;
    const uint32_t recent = asked > own ? asked : own;
    if (sinks > room) sinks = room;
    return (struct kv_protected){sinks, recent < budget - sinks ? recent : budget - sinks};
}

static struct kv_protected protected_of(const struct kv_trim *trim, const struct kv_lane *lane)
{
    uint32_t sinks = 0;
    while (sinks < lane->n && lane->positions[sinks] < trim->sinks) sinks++;
    return kv_trim_protected(trim, lane->budget, sinks);
}

uint32_t kv_trim_candidates(const struct kv_trim *trim, const struct kv_lane *lane,
                            uint32_t *candidates)
{
    const struct kv_protected shut = protected_of(trim, lane);
    uint32_t n = 0;
    for (uint32_t i = shut.sinks; i + shut.recent < lane->n; i++) candidates[n++] = i;
    return n;
}

/* What one step of decoding asks for. */
static void drop_one(const struct kv_trim *trim, const struct kv_kernels *kernels, struct kv_lane *lane)
{
    const struct kv_protected shut = protected_of(trim, lane);
    const uint32_t closed = shut.sinks + shut.recent;
    if (closed < lane->n)
        lane->fate[shut.sinks + find_lowest(kernels, lane->score + shut.sinks, lane->n - closed)] = KV_DROP;
}

/* CriticalKV's second stage: the best of the candidates by score stay whatever comes; the others
 * are then judged by what they could add to the layer's output. */
static void rescore(const struct kv_trim *trim, struct kv_lane *lane, uint32_t *candidates,
                    uint32_t n)
{
    const uint32_t first = (uint32_t)((uint64_t)lane->budget * (100 - trim->output_percent) / 100);
    const uint32_t shut = lane->n - n, chosen = first > shut ? first - shut : 0;
    kv_drop_lowest(lane->score, candidates, n, n > chosen ? n - chosen : 0, lane->fate);
    kv_trim_candidates(trim, lane, candidates);
    for (uint32_t c = 0; c < n; c++) {
        const uint32_t i = candidates[c];
        const float norm = lane->prompt->output_norms[lane->positions[i]];
        lane->score[i] = lane->fate[i] == KV_DROP ? (lane->score[i] + 1e-4f) * norm : INFINITY;
        lane->fate[i] = KV_STAYS;
    }
}

static void trim_lane(const struct kv_trim *trim, const struct kv_kernels *kernels, struct kv_lane *lane,
                      uint32_t at_once)
{
    if (lane->n <= lane->budget) return;
    uint32_t excess = lane->n - lane->budget, *candidates = lane->scratch;
    if (excess < at_once) excess = at_once;
    if (excess == 1 && !trim->output_percent) {
        drop_one(trim, kernels, lane);
        return;
    }
    const uint32_t n = kv_trim_candidates(trim, lane, candidates);
    if (trim->output_percent) rescore(trim, lane, candidates, n);
    kv_drop_lowest(lane->score, candidates, n, excess < n ? excess : n, lane->fate);
}

uint32_t kv_trim_at_once(const struct kv_trim *trim, uint32_t budget)
{
    const uint32_t share = (uint32_t)((uint64_t)budget * trim->every_percent / 100);
    return trim->every > share ? trim->every : share;
}

bool kv_lanes_hold_the_same(const struct kv_lane *lanes, uint32_t n_lanes)
{
    for (uint32_t l = 1; l < n_lanes; l++)
        if (lanes[l].n != lanes[0].n || memcmp(lanes[l].positions, lanes[0].positions,
                                               lanes[0].n * sizeof *lanes[0].positions) != 0)
            return false;
    return true;
}

/* sums[i] += one's value at the position of into's row i, where it holds it. */
static void add_lane(const struct kv_lane *into, const struct kv_lane *one, const float *values,
                     float *sums)
{
    for (uint32_t i = 0, j = 0; i < into->n; i++) {
        while (j < one->n && one->positions[j] < into->positions[i]) j++;
        if (j < one->n && one->positions[j] == into->positions[i]) sums[i] += values[j];
    }
}

void kv_sum_lanes(struct kv_lane *lanes, uint32_t n_lanes, float *(*of)(struct kv_lane *lane))
{
    for (uint32_t l = 0; l < n_lanes; l++) {
        float *sums = (float *)lanes[l].scratch;
        memset(sums, 0, lanes[l].n * sizeof *sums);
        for (uint32_t m = 0; m < n_lanes; m++) add_lane(&lanes[l], &lanes[m], of(&lanes[m]), sums);
    }
    for (uint32_t l = 0; l < n_lanes; l++)
        memcpy(of(&lanes[l]), lanes[l].scratch, lanes[l].n * sizeof(float));
}

static float *score_of(struct kv_lane *lane)
{
    return lane->score;
}

/* Every lane gets the sum of the scores of all. */
static void share_scores(struct kv_lane *lanes, uint32_t n_lanes)
{
    if (!kv_lanes_hold_the_same(lanes, n_lanes)) {
        kv_sum_lanes(lanes, n_lanes, score_of);
        return;
    }
    for (uint32_t i = 0; i < lanes[0].n; i++) {
        float sum = 0.0f;
        for (uint32_t l = 0; l < n_lanes; l++) sum += lanes[l].score[i];
        for (uint32_t l = 0; l < n_lanes; l++) lanes[l].score[i] = sum;
    }
}

void kv_trim_apply(const struct kv_trim *trim, const struct kv_step *step, struct kv_lane *lanes,
                   uint32_t n_lanes)
{
    if (trim->prompt_only && !step->prompt) return;
    if (trim->shared_heads) share_scores(lanes, n_lanes);
    if (trim->pooled_heads && step->prompt) kv_share_heads(trim, lanes, n_lanes);
    for (uint32_t i = 0; i < n_lanes; i++)
        if (!trim->chunk || !kv_trim_chunks(trim, &lanes[i]))
            trim_lane(trim, step->kernels, &lanes[i], step->prompt ? 0 : kv_trim_at_once(trim, lanes[i].budget));
}
