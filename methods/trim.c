/* Trim; see trim.h. */
#include "methods/trim.h"

#include <assert.h>

bool kv_trim_acts(const struct kv_trim *trim, const struct kv_step *step,
                  const struct kv_lane *lanes, uint32_t n_lanes)
{
    if (trim->prompt_only && !step->prompt) return false;
    for (uint32_t i = 0; i < n_lanes; i++)
        if (lanes[i].n > lanes[i].budget) return true;
    return false;
}

/* True when row a goes before row b. */
static bool goes_first(const float *score, uint32_t a, uint32_t b)
{
    const bool a_nan = score[a] != score[a], b_nan = score[b] != score[b];
    if (a_nan != b_nan) return a_nan;
    if (a_nan || score[a] == score[b]) return a > b;
    return score[a] < score[b];
}

void kv_drop_lowest(const float *score, uint32_t *candidates, uint32_t n, uint32_t m, uint8_t *fate)
{
    assert(m <= n);
    /* Quickselect (Hoare): afterwards the first m candidates are those that go. The order is total,
     * so the set does not depend on the pivots. */
    int64_t low = 0, high = n;
    while (high - low > 1 && low < m && m < high) {
        const uint32_t pivot = candidates[low + (high - low) / 2];
        int64_t i = low, j = high - 1;
        while (i <= j) {
            while (goes_first(score, candidates[i], pivot)) i++;
            while (goes_first(score, pivot, candidates[j])) j--;
            if (i > j) break;
            const uint32_t swap = candidates[i];
            candidates[i++] = candidates[j];
            candidates[j--] = swap;
        }
        if (m <= j) high = j + 1;
        else if (m > i) low = i;
        else break;
    }
    for (uint32_t i = 0; i < m; i++) fate[candidates[i]] = KV_DROP;
}

static uint32_t recent_rows(const struct kv_trim *trim, uint32_t budget)
{
    const uint32_t share = (uint32_t)((uint64_t)budget * trim->recent_percent / 100);
    return trim->recent > share ? trim->recent : share;
}

/* Lists the rows that are not protected; returns how many. */
static uint32_t list_candidates(const struct kv_trim *trim, const struct kv_lane *lane,
                                uint32_t *candidates)
{
    const uint32_t recent = recent_rows(trim, lane->budget);
    const uint32_t end = lane->n > recent ? lane->n - recent : 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < end; i++)
        if (lane->positions[i] >= trim->sinks) candidates[n++] = i;
    return n;
}

/* A budget below what is protected: all candidates go, then the oldest protected rows that are not
 * sinks, then the latest sinks. */
static void drop_protected(struct kv_lane *lane, uint32_t sinks, uint32_t excess)
{
    for (uint32_t i = 0; i < lane->n && excess > 0; i++)
        if (lane->fate[i] == KV_STAYS && lane->positions[i] >= sinks) lane->fate[i] = KV_DROP, excess--;
    for (uint32_t i = lane->n; i-- > 0 && excess > 0;)
        if (lane->fate[i] == KV_STAYS) lane->fate[i] = KV_DROP, excess--;
}

static void trim_lane(const struct kv_trim *trim, struct kv_lane *lane, uint32_t *candidates)
{
    if (lane->n <= lane->budget) return;
    const uint32_t excess = lane->n - lane->budget, n = list_candidates(trim, lane, candidates);
    const uint32_t m = excess < n ? excess : n;
    kv_drop_lowest(lane->score, candidates, n, m, lane->fate);
    if (excess > m) drop_protected(lane, trim->sinks, excess - m);
}

/* Shares the lanes' summed budget by score over all heads; every lane keeps its protected rows. The
 * lanes' arrays lie at equal distances, so one index names a row of any lane. */
static void share_pool(const struct kv_trim *trim, struct kv_lane *lanes, uint32_t n_lanes)
{
    const ptrdiff_t stride = n_lanes > 1 ? lanes[1].score - lanes[0].score : 0;
    uint32_t *candidates = lanes[0].scratch, total = 0, rows = 0, n = 0;
    for (uint32_t i = 0; i < n_lanes; i++) {
        total += lanes[i].budget, rows += lanes[i].n;
        const uint32_t listed = list_candidates(trim, &lanes[i], candidates + n);
        for (uint32_t c = 0; c < listed; c++) candidates[n + c] += i * (uint32_t)stride;
        n += listed;
    }
    const uint32_t excess = rows > total ? rows - total : 0;
    kv_drop_lowest(lanes[0].score, candidates, n, excess < n ? excess : n, lanes[0].fate);
    for (uint32_t i = 0; i < n_lanes; i++) {
        lanes[i].budget = 0;
        for (uint32_t r = 0; r < lanes[i].n; r++) lanes[i].budget += lanes[i].fate[r] == KV_STAYS;
    }
}

void kv_trim_apply(const struct kv_trim *trim, const struct kv_step *step, struct kv_lane *lanes,
                   uint32_t n_lanes)
{
    if (trim->prompt_only && !step->prompt) return;
    if (trim->pooled_heads && step->prompt) {
        share_pool(trim, lanes, n_lanes);
        return;
    }
    for (uint32_t i = 0; i < n_lanes; i++) trim_lane(trim, &lanes[i], lanes[i].scratch);
}
