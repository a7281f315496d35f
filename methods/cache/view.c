/* Views; see view.h. */
#include "methods/cache/view.h"

#include <string.h>

/* Which kinds of rows are there. */
struct kinds {
    bool exact, coded;
};

static struct kinds kinds_of_lines(const struct kv_line_list *lines, int side)
{
    struct kinds kinds = {0};
    for (uint32_t i = 0; i < lines->n; i++)
        if (lines->place[side][i] >= KV_CODED)
            kinds.coded = true;
        else
            kinds.exact = true;
    return kinds;
}

/* Plain tiers leave no exact row to any answer. */
static struct kinds kinds_of_tiers(const struct kv_tiers *tiers)
{
    const bool all = tiers->coded_at_once && !tiers->sinks && !tiers->recent && tiers->flush == 1;
    return (struct kinds){.exact = !all, .coded = true};
}

static void see(struct kv_view *view, const struct kv_bank *bank, int side, uint32_t dim,
                struct kinds kinds, enum kv_turns turns)
{
    const uint32_t turned = kv_bank_turned_columns(bank, side ? KV_VALUES : KV_KEYS);
    const bool turn = turned && kinds.coded &&
                      (bank->must_turn || (turns == KV_TURNS_ALL && !kinds.exact && !bank->handed));
    view->turned[side] = turn ? turned : 0;
    view->recorded[side] = turn && !kinds.exact ? 0 : dim;
}

static uint32_t dim_of(const struct kv_cache *cache, int side)
{
    const struct kv_geometry *geometry = cache->plan.source.geometry;
    return side ? geometry->value_dim : geometry->key_dim;
}

struct kv_view kv_view_of_lines(const struct kv_cache *cache, uint32_t lane, enum kv_turns turns)
{
    const struct kv_held *held = &cache->lanes[lane];
    struct kv_view view;
    for (int side = 0; side < 2; side++)
        see(&view, held->bank[side], side, dim_of(cache, side), kinds_of_lines(&held->lines, side),
            turns);
    return view;
}

struct kv_view kv_view_of_lane(const struct kv_cache *cache, uint32_t lane)
{
    const struct kv_held *held = &cache->lanes[lane];
    struct kv_view view;
    for (int side = 0; side < 2; side++)
        see(&view, held->bank[side], side, dim_of(cache, side),
            kinds_of_tiers(&held->bank[side]->code->tiers), KV_TURNS_NEEDED);
    return view;
}

void kv_view_read(const struct kv_view *view, const struct kv_held *lane, enum kv_side side,
                  uint32_t n, const uint32_t *tokens, const uint32_t *places, float *out)
{
    const struct kv_bank *bank = lane->bank[side];
    const uint32_t recorded = view->recorded[side], columns = kv_view_columns(view, side);
    if (!view->turned[side]) {
        kv_bank_read(bank, lane->place_in[side], side, n, tokens, places, out);
        return;
    }
    if (!recorded) {
        kv_bank_read_turned(bank, side, n, places, out);
        return;
    }
    memset(out, 0, (size_t)n * columns * sizeof *out);
    for (uint32_t i = 0; i < n; i++, out += columns)
        if (places[i] >= KV_CODED)
            kv_bank_read_turned(bank, side, 1, places + i, out + recorded);
        else
            kv_bank_read(bank, lane->place_in[side], side, 1, tokens + i, places + i, out);
}

void kv_view_turn_query(const struct kv_view *view, const struct kv_held *lane, uint32_t token,
                        const float *query, uint32_t key_dim, float *out)
{
    const struct kv_code *code = lane->bank[0]->code;
    if (view->recorded[0]) memcpy(out, query, key_dim * sizeof *out);
    if (view->turned[0])
        code->type->turn->query(code, lane->place_in[0], token, query, out + view->recorded[0]);
}

void kv_view_turn_output(const struct kv_view *view, const struct kv_held *lane, const float *sum,
                         uint32_t value_dim, float *output)
{
    const struct kv_code *code = lane->bank[1]->code;
    if (view->recorded[1])
        memcpy(output, sum, value_dim * sizeof *output);
    else
        memset(output, 0, value_dim * sizeof *output);
    if (view->turned[1])
        code->type->turn->output(code, lane->place_in[1], sum + view->recorded[1], output);
}
