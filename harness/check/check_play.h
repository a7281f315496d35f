/* Replays of small made-up layers, as the invariants of the conformance kit need them. */
#ifndef KVBENCH_HARNESS_CHECK_PLAY_H
#define KVBENCH_HARNESS_CHECK_PLAY_H

#include "harness/check/check.h"
#include "harness/check/check_layer.h"
#include "harness/replay/replay.h"

enum kv_verdict { KV_PASS, KV_FAIL, KV_SKIP };

struct kv_check { /* what an invariant may use */
    const struct kv_spec *spec;
    struct kv_kernels kernels, generic;
    struct kv_error why; /* of KV_FAIL and KV_SKIP */
};

struct kv_played { /* one layer replayed */
    uint32_t n_scored, q_heads, value_dim, tokens;
    uint32_t lanes, group; /* KV heads that the caches have, and query heads of each */
    size_t n; /* floats of outputs */
    float *outputs;
    uint8_t *held;        /* [lanes][tokens] 1: held by the main cache at the end */
    bool kept_whole;      /* a policy said of this layer that all of it stays, whatever its budget is */
    float *keys, *values; /* [lanes][tokens][dim] held rows as read; with kv_play.rows */
    struct kv_replay_account account;
};

struct kv_play { /* how to replay it */
    const struct kv_kernels *kernels;
    const struct kv_spec *spec;
    uint64_t seed;
    enum kv_road road;
    bool audit, garble, backwards; /* backwards: units from the last to the first */
    bool rows;                     /* keep what is read of each held row */
    struct kv_survey survey;       /* what all layers said of themselves; n = 0: this one alone did */
    const struct kv_played *from;  /* its rows are what is recorded (f32 shapes); or NULL */
};

/* The shape of most invariants. */
extern const struct kv_check_shape kv_check_plain;

struct kv_play kv_play_usual(const struct kv_check *check);

/* Replays a shape; KV_SKIP when the method does not support it, with its reason. kv_played_forget
 * frees. */
enum kv_verdict kv_play_shape(struct kv_check *check, const struct kv_play *play,
                              const struct kv_check_shape *shape, struct kv_played *played);
/* The answers of exact attention: the same replay with everything held as recorded. */
enum kv_verdict kv_play_exact(struct kv_check *check, const struct kv_check_shape *shape,
                              struct kv_played *played);
void kv_played_forget(struct kv_played *played);

bool kv_played_same(const struct kv_played *a, const struct kv_played *b);
/* |a - b| / |a|, or |a - b| where a is 0; of answers. */
double kv_check_distance(const float *a, const float *b, size_t n);
/* At most this, where only the order of sums is another: relative rounding of fp32 attention over some 300
 * rows, far above n * eps, far below any method. */
#define KV_PLAY_ROUNDING 2e-5
double kv_played_difference(const struct kv_played *a, const struct kv_played *b);
bool kv_played_finite(const struct kv_played *played, struct kv_error *why);
int64_t kv_played_resident(const struct kv_played *played);
int64_t kv_played_offloaded(const struct kv_played *played);
/* Of all steps, on the device and on the host. */
double kv_played_reads(const struct kv_played *played);

/* Nothing is stored of the values, so that nothing can be read of them. */
bool kv_played_no_values(const struct kv_played *played);

enum kv_verdict kv_check_skip(struct kv_check *check, const char *why);

/* Codecs that let layers go without rows: a later layer shows it. */
bool kv_check_leaves_layers_out(const struct kv_spec *spec);

/* Layers that one object serves under this spec, in the kit: 1, or as many as are made. */
uint32_t kv_check_group(const struct kv_spec *spec);

#endif
