/* Budgets of heads; see head_budget.h. */
#include "methods/head_budget.h"

#include <math.h>

#include "methods/trim.h"

static void raise_safe(const struct kv_trim *trim, struct kv_lane *lane, uint32_t *candidates,
                       uint32_t n)
{
    const uint32_t share = (uint32_t)((uint64_t)lane->budget * trim->floor_percent / 100);
    const uint32_t safe = share > 0 ? share : 1, shut = lane->n - n;
    const uint32_t raised = safe > shut ? safe - shut : 0;
    kv_drop_lowest(lane->score, candidates, n, n > raised ? n - raised : 0, lane->fate);
    kv_trim_candidates(trim, lane, candidates);
    for (uint32_t c = 0; c < n; c++) {
        if (lane->fate[candidates[c]] == KV_STAYS) lane->score[candidates[c]] = INFINITY;
        lane->fate[candidates[c]] = KV_STAYS;
    }
}

/* Unprotected rows of all lanes, numbered from lane 0's arrays; returns how many. */
static uint32_t list_all(const struct kv_trim *trim, struct kv_lane *lanes, uint32_t n_lanes,
                         uint32_t *candidates)
{
    const ptrdiff_t stride = n_lanes > 1 ? lanes[1].score - lanes[0].score : 0;
    uint32_t n = 0;
    for (uint32_t l = 0; l < n_lanes; l++) {
        const uint32_t listed = kv_trim_candidates(trim, &lanes[l], candidates + n);
        if (trim->floor == KV_FLOOR_SAFEGUARD && trim->floor_percent)
            raise_safe(trim, &lanes[l], candidates + n, listed);
        for (uint32_t c = 0; c < listed; c++) candidates[n + c] += l * (uint32_t)stride;
        n += listed;
    }
    return n;
}

/* Hundredths of a row that lane l is due beside its protected ones. */
static uint64_t due(const struct kv_trim *trim, uint64_t won, uint64_t equal)
{
    const uint32_t floor = trim->floor == KV_FLOOR_BLEND ? trim->floor_percent : 0;
    return won * (100 - floor) + equal * floor;
}

/* lanes[l].budget = whole rows of `due`, which stand in scratch[0] won and scratch[1] equal. */
static void give_whole_rows(const struct kv_trim *trim, struct kv_lane *lanes, uint32_t n_lanes)
{
    uint64_t missing = 0;
    for (uint32_t l = 0; l < n_lanes; l++) {
        const uint64_t exact = due(trim, lanes[l].scratch[0], lanes[l].scratch[1]);
        missing += exact % 100;
        lanes[l].budget += (uint32_t)(exact / 100) - lanes[l].scratch[1];
        lanes[l].scratch[0] = (uint32_t)(exact % 100);
    }
    for (missing /= 100; missing > 0; missing--) {
        uint32_t best = 0;
        for (uint32_t l = 1; l < n_lanes; l++)
            if (lanes[l].scratch[0] > lanes[best].scratch[0]) best = l;
        lanes[best].scratch[0] = 0;
        lanes[best].budget++;
    }
}

void kv_share_heads(const struct kv_trim *trim, struct kv_lane *lanes, uint32_t n_lanes)
{
    uint32_t *candidates = lanes[0].scratch, total = 0;
    for (uint32_t l = 0; l < n_lanes; l++) {
        const uint32_t shut = lanes[l].n - kv_trim_candidates(trim, &lanes[l], candidates);
        if (lanes[l].budget <= shut) return;
        total += lanes[l].budget - shut;
    }
    const uint32_t n = list_all(trim, lanes, n_lanes, candidates);
    kv_drop_lowest(lanes[0].score, candidates, n, n > total ? n - total : 0, lanes[0].fate);
    for (uint32_t l = 0; l < n_lanes; l++) {
        struct kv_lane *lane = &lanes[l];
        uint32_t stays = 0;
        for (uint32_t r = 0; r < lane->n; r++)
            stays += lane->fate[r] == KV_STAYS, lane->fate[r] = KV_STAYS;
        const uint32_t shut = lane->n - kv_trim_candidates(trim, lane, lane->scratch);
        lane->scratch[0] = stays - shut, lane->scratch[1] = lane->budget - shut;
    }
    give_whole_rows(trim, lanes, n_lanes);
}
