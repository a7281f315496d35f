/* Chunks; see chunks.h. */
#include "methods/chunks.h"

#include <math.h>
#include <string.h>

#include "methods/trim.h"

/* One past the last held row at a position of the same chunk as row `from`. */
static uint32_t end_of(const struct kv_lane *lane, uint32_t from, uint32_t size)
{
    const uint32_t which = lane->positions[from] / size;
    uint32_t end = from + 1;
    while (end < lane->n && lane->positions[end] / size == which) end++;
    return end;
}

/* fate of a chunk's first row = KV_DROP where no row of it is protected; returns how many have one.
 * A chunk is known by its first row: firsts[0 .. *n_chunks - 1]. */
static uint32_t list_chunks(const struct kv_trim *trim, struct kv_lane *lane, uint32_t *firsts,
                            uint32_t *n_chunks)
{
    uint32_t shut = 0, n = 0;
    const uint32_t open_rows = kv_trim_candidates(trim, lane, firsts);
    for (uint32_t c = 0; c < open_rows; c++) lane->fate[firsts[c]] = KV_DROP;
    for (uint32_t i = 0, end; i < lane->n; i = end) {
        bool stays = false;
        end = end_of(lane, i, trim->chunk);
        for (uint32_t r = i; r < end; r++) stays = stays || lane->fate[r] == KV_STAYS;
        lane->fate[i] = stays ? KV_STAYS : KV_DROP;
        firsts[n++] = i;
        shut += stays;
    }
    *n_chunks = n;
    return shut;
}

static float score_of(const struct kv_lane *lane, uint32_t first, uint32_t end)
{
    double sum = 0.0;
    if (lane->fate[first] == KV_STAYS) return INFINITY;
    for (uint32_t i = first; i < end; i++) sum += lane->score[i];
    return (float)(sum / (end - first));
}

bool kv_trim_chunks(const struct kv_trim *trim, struct kv_lane *lane)
{
    if (lane->n <= lane->budget) return true;
    const uint32_t room = lane->budget / trim->chunk;
    uint32_t *firsts = lane->scratch, n;
    const uint32_t shut = list_chunks(trim, lane, firsts, &n);
    if (room == 0 || shut > room) {
        memset(lane->fate, KV_STAYS, lane->n);
        return false;
    }
    for (uint32_t c = 0; c < n; c++)
        lane->score[firsts[c]] = score_of(lane, firsts[c], c + 1 < n ? firsts[c + 1] : lane->n);
    memset(lane->fate, KV_STAYS, lane->n);
    kv_drop_lowest(lane->score, firsts, n, n > room ? n - room : 0, lane->fate);
    for (uint32_t i = 0, end; i < lane->n; i = end) {
        end = end_of(lane, i, trim->chunk);
        memset(lane->fate + i, lane->fate[i], end - i);
    }
    return true;
}
