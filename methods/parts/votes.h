/* Votes: what the last prompt queries (the observation window) give to the rows before them, the
 * score of SnapKV and its kin. A policy that votes has a kv_vote_config first in its config,
 * KV_VOTE_PARAMS in its table, and kv_votes_wants and kv_votes_score among its hooks; the window's
 * own rows stay. */
#ifndef KVBENCH_METHODS_VOTES_H
#define KVBENCH_METHODS_VOTES_H

#include "methods/policy.h"

enum { KV_VOTES_MEAN, KV_VOTES_MAX };   /* of pooling, votes, group */
enum { KV_JOIN_AFTER, KV_JOIN_BEFORE }; /* the group's heads are joined after, before pooling */

struct kv_vote_config {
    uint32_t observation_window, kernel, pooling, votes, group, join;
    double gamma; /* CAKE: of the variance over the window's queries */
};

/* clang-format off */
#define KV_VOTE_PARAMS(w, k, p, j, g)                                                              \
    {"observation_window", KV_PARAM_U32, offsetof(struct kv_vote_config, observation_window),      \
     w, 1, 65536, NULL, "prompt queries that vote"},                                               \
    {"kernel", KV_PARAM_U32 | KV_PARAM_ODD, offsetof(struct kv_vote_config, kernel),               \
     k, 1, 255, NULL, "rows pooled together (odd)"},                                               \
    {"pooling", KV_PARAM_CHOICE, offsetof(struct kv_vote_config, pooling),                         \
     p, 0, 0, "mean|max", "how neighbours are pooled"},                                            \
    {"votes", KV_PARAM_CHOICE | KV_PARAM_LATER, offsetof(struct kv_vote_config, votes),            \
     0, 0, 0, "mean|max", "over the window's queries"},                                            \
    {"group", KV_PARAM_CHOICE | KV_PARAM_LATER, offsetof(struct kv_vote_config, group),            \
     0, 0, 0, "mean|max", "over the query heads of a KV head"},                                    \
    {"join", KV_PARAM_CHOICE | KV_PARAM_LATER, offsetof(struct kv_vote_config, join),              \
     j, 0, 0, "after|before", "the query heads are joined after pooling, or before"},              \
    {"gamma", KV_PARAM_REAL | KV_PARAM_LATER, offsetof(struct kv_vote_config, gamma),              \
     g, 0, 1e6, NULL, "weight of the votes' variance over the window's queries"}
/* clang-format on */

/* Hooks of a policy whose config begins with a kv_vote_config. */
void kv_votes_wants(const void *config, struct kv_wants *wants);
kv_hook kv_votes_score;

/* CAKE's preference of a layer: dispersion of the window's weights over the rows before it, -sum A
 * log(A + 1e-10), times their shift over time, the sum of their variances over the window's
 * queries; both over all query heads. 0 with fewer than two queries. */
double kv_votes_survey(const struct kv_chooser *self, const struct kv_lane *lanes, uint32_t n_lanes);

#endif
