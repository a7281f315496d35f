/* How a reader sees the rows of one lane: as recorded, or turned (struct kv_turn in codec.h). Where
 * both kinds are held, a key is the recorded columns followed by the turned ones, with zeros for
 * what it is not, and a query is both of its forms: each row meets the form that is meant for it.
 * Sums of values likewise, whose turned part is turned back at the end. */
#ifndef KVBENCH_METHODS_VIEW_H
#define KVBENCH_METHODS_VIEW_H

#include "methods/cache/cache.h"

/* What rows a reader must be able to meet, in which form it wishes to. */
enum kv_turns { KV_TURNS_NEEDED, KV_TURNS_ALL };

/* Of the lines of a lane; with KV_TURNS_ALL rows are turned as well where that only saves time. */
struct kv_view kv_view_of_lines(const struct kv_cache *cache, uint32_t lane, enum kv_turns turns);
/* Of whatever a lane may hold while decoding. */
struct kv_view kv_view_of_lane(const struct kv_cache *cache, uint32_t lane);

static inline uint32_t kv_view_columns(const struct kv_view *view, int side)
{
    return view->recorded[side] + view->turned[side];
}

static inline bool kv_view_is_recorded(const struct kv_view *view)
{
    return !view->turned[0] && !view->turned[1];
}

/* Rows of a lane's side: out [n][columns]. places[i] is what `where` was for tokens[i]. */
void kv_view_read(const struct kv_view *view, const struct kv_held *lane, enum kv_side side,
                  uint32_t n, const uint32_t *tokens, const uint32_t *places, float *out);
/* A recorded query of a token -> what meets the view's keys. */
void kv_view_turn_query(const struct kv_view *view, const struct kv_held *lane, uint32_t token,
                        const float *query, uint32_t key_dim, float *out);
/* A sum of the view's values -> what it is of recorded ones. */
void kv_view_turn_output(const struct kv_view *view, const struct kv_held *lane, const float *sum,
                         uint32_t value_dim, float *output);

#endif
