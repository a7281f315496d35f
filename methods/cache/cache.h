/* The cache: joins policies and codecs. It owns the lanes (held rows of each KV head, in order, with
 * the policies' state), the banks that store their rows, and the lines (which version of which row
 * was readable when). The harness drives it: prefill, then per step begin, answer, end. */
#ifndef KVBENCH_METHODS_CACHE_H
#define KVBENCH_METHODS_CACHE_H

#include "methods/cache/bank.h"
#include "methods/policy.h"
#include "methods/spec/spec.h"
#include "methods/sweep/sweep.h"

/* The lines of one lane, in the order in which they opened (methods/sweep/sweep.h). */
struct kv_line_list {
    uint32_t n;
    uint32_t *position, *from, *until;
    uint32_t *place[2];               /* of the key and of the value: struct kv_bank.where */
    uint8_t *coded;                   /* either side is read from lossy codes */
};

struct kv_held {                      /* one lane: a KV head's held rows */
    uint32_t head, n;
    uint32_t *positions;              /* [n] ascending tokens */
    float *state[KV_MAX_POLICIES];    /* [n][state_floats] */
    uint32_t budget[KV_MAX_POLICIES];
    struct kv_bank *bank[2];          /* of keys and of values; the same when one holds both */
    uint32_t place_in[2];             /* which lane of that bank this one is */
    struct kv_line_list lines;
    uint32_t *line_of;                /* [tokens] current line of a held row */
    uint32_t *dirty, n_dirty;         /* tokens whose line is new since the list was last emptied */
    uint8_t *is_dirty;                /* [tokens] */
};

struct kv_cache_plan {                /* what a cache is made of */
    struct kv_source source;
    const struct kv_cache_spec *spec;
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    const struct kv_prompt *prompts;  /* [n_heads] statistics, as kv_cache_wants asked */
    uint32_t first_head, n_heads;
    uint64_t seed;
    const struct kv_survey *survey;   /* what the layers said, when a policy asks for it; or NULL */
    struct kv_cache *rest;            /* takes what this one drops, or NULL */
    bool handed;                      /* this is a rest cache */
    bool garble;                      /* check mode: codes are spoiled after encoding */
    bool counts_only;                 /* bytes are charged, rows neither read, encoded nor kept; budgets are
                                       * settled by who asks (methods/cache/byte_law.h) */
    bool knows_trace;                 /* counts_only for a recording that is there: its prompt's length and
                                       * probes are what fits are refused by */
    const struct kv_fit_rows *calibration;   /* of this layer, or NULL: fits see the prompt */
};

struct kv_cache {
    struct kv_cache_plan plan;
    struct kv_held *lanes;            /* [n_heads] */
    struct kv_bank *banks; uint32_t n_banks;
    struct kv_chooser *choosers[KV_MAX_POLICIES];
    struct kv_wants wants[KV_MAX_POLICIES];
    struct kv_lane *views;            /* [n_heads] as shown to a policy */
    struct kv_prompt *prompts;        /* [n_heads] with the tail that this policy asked for */
    float *scores;  uint8_t *fates;   /* [n_heads][tokens] scratch of the views */
    float *rows[2]; uint8_t *changed; /* [tokens][dim], [tokens] of a lane, where a policy merges; or NULL */
    float *new_rows;                  /* [n_heads][key_dim + value_dim] of this step, when there is a policy */
    uint32_t now;                     /* first token that can read what changes now */
    uint32_t *block_tokens;           /* scratch of an encode */
    int64_t position_bytes;           /* charged a held row: a real cache must store its position */
    bool drops;                       /* some policy can drop rows */
    uint32_t settled_rows;            /* that a budget in bytes or bits came to; 0: there was none */
    struct kv_cache **members;        /* [n_members] caches of the layer group, this one first; or itself */
    uint32_t n_members, member;       /* of the first cache; which one this is */
    struct kv_cache *first;
};

/* All memory comes from plan->pool; there is nothing to destroy but the pool. */
int kv_cache_create(struct kv_cache **out, const struct kv_cache_plan *plan, struct kv_error *err);

/* Caches of n layers of one shape, with one spec, heads and pool; codecs that span layers serve all of
 * them. The first is the one to drive: it moves all members in step. */
int kv_cache_create_group(struct kv_cache **out, const struct kv_cache_plan *plans, uint32_t n,
                          struct kv_error *err);

/* Tokens 0..prefill-1 enter, the policies keep, the codecs are fitted and encode. */
int kv_cache_prefill(struct kv_cache *cache, struct kv_error *err);

/* One step: append token t and evict; `answer` is the harness's; then observe and the late encodes.
 * queries [n_members][n_heads][group][key_dim] of the step (for policies that look), NULL when none
 * does. */
void kv_cache_begin(struct kv_cache *cache, uint32_t t, const float *queries);
/* Asks the selecting policy which held rows the queries of one layer read (`reader`: the owner of the
 * rows, or one that shares them): reads [group][n] of the lane, all 1 when nobody selects. queries
 * [n_heads][group][key_dim]; logits [group][n] when wants.logits. */
void kv_cache_select(struct kv_cache *cache, const struct kv_geometry *reader, uint32_t t,
                     uint32_t lane, const float *queries, const float *logits, uint8_t *reads);
/* What a step gave to a lane's held rows: struct kv_lane. columns: scratch, that lanes may share. */
struct kv_observed { const float *weights; const uint32_t *places; uint32_t stride; float *columns; };
/* observed [n_members * n_heads], or NULL when nobody observes. */
void kv_cache_end(struct kv_cache *cache, uint32_t t, const struct kv_observed *observed);

/* Columns of a key and of a value as read: methods/cache/view.h. */
struct kv_view { uint32_t recorded[2], turned[2]; };

/* Decodes lines for the sweep: `source` of struct kv_lines is a kv_line_reader. */
struct kv_line_reader { const struct kv_cache *cache; uint32_t lane; struct kv_view view; };
kv_decode_lines kv_cache_decode_lines;

/* Decodes the current version of held rows tokens[0..n-1] of a lane, as recorded rows; or as a view
 * has them. A side may be NULL. */
void kv_cache_read(const struct kv_cache *cache, uint32_t lane, uint32_t n, const uint32_t *tokens,
                   float *keys, float *values);
void kv_cache_read_view(const struct kv_cache *cache, uint32_t lane, const struct kv_view *view, uint32_t n,
                        const uint32_t *tokens, float *keys, float *values);

struct kv_cache_bytes {               /* now, by side and class; resident but for what is offloaded */
    int64_t payload[2], metadata[2], residual[2], basis[2];   /* of keys and values */
    int64_t offloaded[2];             /* codes, metadata and exact rows of where=host: in no other class */
    int64_t shared;                   /* bases fitted on a calibration: not resident of one text */
    bool calibrated;                  /* some codec was fitted on a calibration */
    bool joint;                       /* one bank holds both sides: counted under keys */
    int64_t policy;                   /* state and arrays of the policies: metadata of neither side */
};
/* All that stays resident for a side. */
static inline int64_t kv_side_bytes(const struct kv_cache_bytes *bytes, int side)
{
    return bytes->payload[side] + bytes->metadata[side] + bytes->residual[side] + bytes->basis[side];
}
/* Metadata bytes of a held row in all policies' state and as its position. */
int64_t kv_cache_row_bytes(const struct kv_cache *cache);
/* Rows of this layer by the budget of policy p, which may be shared among layers. */
uint32_t kv_cache_layer_budget(const struct kv_cache *cache, uint32_t p);
/* Of this member: a bank that serves several layers is parted evenly among them. */
struct kv_cache_bytes kv_cache_count(const struct kv_cache *cache);

/* The cache and its lane that a lane of one of its banks is. */
struct kv_held *kv_cache_lane_of(struct kv_cache *cache, const struct kv_bank *bank, uint32_t i,
                                 struct kv_cache **member);

/* Check mode: every counter recounted from the lanes' lists. */
int kv_cache_audit(const struct kv_cache *cache, struct kv_error *err);

#endif
