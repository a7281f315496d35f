/* Extremes of banks; see row_extremes.h.
 *
 * The bytes of a bank are a saw: they grow with every exact row and fall when a block is encoded,
 * `flush` rows later by the same height again. So the extremes of a range of rows are within a
 * tooth of its ends; and for lanes with a common sum only the place within a tooth matters, which
 * is a knapsack over remainders. */
#include "harness/memory/row_extremes.h"

#include <stdlib.h>

enum { LONGEST_SEARCH = 1 << 22 }; /* sums that are looked at: 5 ms */

#define UNKNOWN (-((int64_t)1 << 60)) /* less than what bytes come to, even by their sum with: */
#define NEVER (-((int64_t)1 << 62))

bool kv_bank_stores_singly(const struct kv_bank *bank)
{
    const struct kv_tiers *tiers = &bank->code->tiers;
    return !bank->later && bank->code->block == 1 && tiers->flush == 1 && tiers->recent == 0;
}

/* Rows after which a bank has grown by whole blocks alone. */
static uint32_t tooth_of(const struct kv_bank *bank)
{
    return bank->code->tiers.flush == UINT32_MAX ? 1 : bank->code->tiers.flush;
}

void kv_bank_count_extreme(struct kv_bank *bank, const struct kv_row_range *range,
                           enum kv_extreme extreme)
{
    const uint32_t tooth = tooth_of(bank);
    const uint32_t width = range->most - range->least;
    const uint32_t skip = extreme == KV_MOST && width > tooth ? width - tooth : 0;
    const uint32_t end = extreme == KV_MOST || width < tooth ? width : tooth;
    uint32_t best[2] = {range->least, range->sinks[1]};
    int64_t found = 0;
    for (uint32_t n = range->least + skip; n <= range->least + end; n++)
        for (uint32_t s = range->sinks[0]; s <= range->sinks[1]; s++) {
            kv_bank_count_held(bank, n, n - range->steps, s);
            const int64_t bytes = kv_bank_row_bytes(bank);
            const bool first = n == range->least + skip && s == range->sinks[0];
            if (first || (bytes - found) * extreme > 0) found = bytes, best[0] = n, best[1] = s;
        }
    kv_bank_count_held(bank, best[0], best[0] - range->steps, best[1]);
}

/* -- lanes that share ------------------------------------------------------------------------- */

struct search {
    struct kv_cache *cache;
    const struct kv_held_rows *held;
    enum kv_extreme extreme;
    uint32_t lanes, least, settled; /* rows: of a lane at least; from where on teeth are alike */
    uint32_t tooth;
    bool wraps;     /* remainders of a tooth; else every number of rows there is */
    int64_t height; /* of a tooth */
    /* [tooth] bytes of a lane less its whole teeth, negative where the least is sought; [1]: of one
     * that has settled */
    int64_t *gain[2];
    uint32_t *rows[2];
    int64_t *sums;    /* [2][tooth] */
    uint32_t *choice; /* [lanes][tooth] */
};

/* A lane's banks that serve no other lane. */
static uint32_t banks_of(const struct kv_held *lane, struct kv_bank **banks)
{
    uint32_t n = 0;
    for (int side = 0; side < 2; side++)
        if (lane->bank[side]->n_lanes == 1 && (side == 0 || lane->bank[1] != lane->bank[0]))
            banks[n++] = lane->bank[side];
    return n;
}

static int64_t count_lane(const struct search *search, uint32_t lane, uint32_t rows)
{
    const uint32_t steps = search->held->n - search->held->prompt;
    struct kv_bank *banks[2];
    const uint32_t n = banks_of(&search->cache->lanes[lane], banks);
    int64_t bytes = 0;
    for (uint32_t b = 0; b < n; b++) {
        struct kv_row_range range = kv_held_range(banks[b], search->held, false);
        range.least = range.most = rows + steps;
        kv_bank_count_extreme(banks[b], &range, search->extreme);
        bytes += kv_bank_row_bytes(banks[b]);
    }
    return bytes;
}

static uint32_t common_multiple(uint32_t a, uint32_t b)
{
    uint64_t multiple = a;
    while (multiple % b && multiple < LONGEST_SEARCH) multiple += a;
    return (uint32_t)multiple;
}

/* False when there is no tooth to speak of. */
static bool measure_teeth(struct search *search)
{
    struct kv_bank *banks[2];
    const uint32_t n = banks_of(&search->cache->lanes[0], banks);
    search->tooth = 1, search->settled = search->least;
    for (uint32_t b = 0; b < n; b++)
        for (const struct kv_bank *bank = banks[b]; bank; bank = bank->later) {
            const struct kv_tiers *tiers = &bank->code->tiers;
            search->tooth = common_multiple(search->tooth, tooth_of(bank));
            const uint64_t quiet = (uint64_t)tiers->sinks + tiers->recent + tooth_of(bank);
            if (quiet >= LONGEST_SEARCH || search->tooth >= LONGEST_SEARCH) return false;
            if (quiet > search->settled) search->settled = (uint32_t)quiet;
        }
    const uint64_t room = (uint64_t)search->lanes * (search->held->prompt - search->least);
    const uint64_t wanted =
        (uint64_t)search->lanes * (search->settled - search->least + search->tooth);
    search->wraps = room >= wanted && search->held->prefill >= search->settled + search->tooth;
    if (!search->wraps) search->tooth = room < LONGEST_SEARCH ? (uint32_t)room + 1 : LONGEST_SEARCH;
    return (uint64_t)search->tooth * search->tooth * search->lanes <= LONGEST_SEARCH;
}

static bool reserve(struct search *search)
{
    const size_t n = search->tooth;
    for (int s = 0; s < 2; s++) {
        search->gain[s] = calloc(n, sizeof **search->gain);
        search->rows[s] = calloc(n, sizeof **search->rows);
    }
    search->sums = calloc(2 * n, sizeof *search->sums);
    search->choice = calloc(n * search->lanes, sizeof *search->choice);
    return search->gain[0] && search->gain[1] && search->rows[0] && search->rows[1] &&
           search->sums && search->choice;
}

static void release(struct search *search)
{
    for (int s = 0; s < 2; s++) free(search->gain[s]), free(search->rows[s]);
    free(search->sums), free(search->choice);
}

/* The best that a lane can do at each remainder. */
static void fill_gains(struct search *search)
{
    const uint32_t least = search->least, most = search->held->prefill;
    if (search->wraps)
        search->height = count_lane(search, 0, search->settled + search->tooth) -
                         count_lane(search, 0, search->settled);
    const uint32_t end = search->wraps ? search->settled - least + search->tooth : search->tooth;
    for (uint32_t r = 0; r < search->tooth; r++) search->gain[0][r] = search->gain[1][r] = NEVER;
    for (uint32_t o = 0; o < end && least + o <= most; o++) {
        const uint32_t r = o % search->tooth;
        const int64_t gain =
            (count_lane(search, 0, least + o) - search->height * (o / search->tooth)) *
            search->extreme;
        for (int s = 0; s < 2; s++) {
            if (s == 1 && search->wraps && least + o < search->settled) continue;
            if (gain <= search->gain[s][r]) continue;
            search->gain[s][r] = gain, search->rows[s][r] = least + o;
        }
    }
}

/* Rows r of one more lane behind a sum, as far as they do not wrap, or from where they do. */
static void add_rows(const int64_t *gain, uint32_t first, uint32_t end, int64_t before,
                     int64_t *after, uint32_t *choice)
{
    for (uint32_t r = first; r < end; r++) {
        const int64_t sum = before + gain[r];
        if (sum > after[r - first]) after[r - first] = sum, choice[r - first] = r;
    }
}

/* All lanes so far come to the sum `from`; one more with each remainder. */
static void add_lane(struct search *search, uint32_t lane, const int64_t *before, int64_t *after)
{
    const uint32_t tooth = search->tooth;
    const int64_t *gain =
        search->gain[lane == 0]; /* whole teeth that are left over go to this one */
    const int64_t height = search->height * search->extreme;
    uint32_t *choice = search->choice + (size_t)lane * tooth;
    for (uint32_t i = 0; i < tooth; i++) after[i] = UNKNOWN;
    for (uint32_t from = 0; from < tooth; from++) {
        if (before[from] == UNKNOWN) continue;
        add_rows(gain, 0, tooth - from, before[from], after + from, choice + from);
        if (search->wraps)
            add_rows(gain, tooth - from, tooth, before[from] - height, after, choice);
    }
}

/* Goes back from the wanted sum and gives every lane its rows; false when there is no way. */
static bool give_rows(struct search *search, const int64_t *sums)
{
    const uint32_t tooth = search->tooth;
    const uint64_t room = (uint64_t)search->lanes * (search->held->prompt - search->least);
    uint64_t rows = (uint64_t)search->lanes * search->held->prompt;
    uint32_t at = (uint32_t)(room % tooth);
    if (sums[at] == UNKNOWN) return false;
    for (uint32_t lane = search->lanes; lane-- > 0;) {
        const uint32_t r = search->choice[(size_t)lane * tooth + at];
        const uint32_t n = search->rows[lane == 0][r];
        if (rows < n) return false;
        rows -= n;
        at = r > at ? at + tooth - r : at - r;
        count_lane(search, lane, lane == 0 ? n + (uint32_t)rows : n);
    }
    return true;
}

static bool search_lanes(struct search *search)
{
    const uint32_t tooth = search->tooth;
    fill_gains(search);
    for (uint32_t i = 1; i < tooth; i++) search->sums[i] = UNKNOWN;
    for (uint32_t lane = 0; lane < search->lanes; lane++) {
        const size_t from = (size_t)(lane % 2) * tooth;
        add_lane(search, lane, search->sums + from, search->sums + tooth - from);
    }
    return give_rows(search, search->sums + (size_t)(search->lanes % 2) * tooth);
}

bool kv_lanes_count_extreme(struct kv_cache *cache, const struct kv_held_rows *held,
                            enum kv_extreme extreme)
{
    struct search search = {.cache = cache,
                            .held = held,
                            .extreme = extreme,
                            .lanes = cache->plan.n_heads,
                            .least = held->least};
    bool done = measure_teeth(&search) && reserve(&search);
    if (done) done = search_lanes(&search);
    release(&search);
    return done;
}
