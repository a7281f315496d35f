/* A policy: which tokens stay, and which are read. It sees lanes (the held rows of a KV head), and
 * marks fates or, mostly, only gives a score: one shared rule, trim, does budgets, sinks, recent
 * rows and pooled heads. It never sees codes and never computes attention. interface.md section 3. */
#ifndef KVBENCH_METHODS_POLICY_H
#define KVBENCH_METHODS_POLICY_H

#include "methods/setup.h"

enum { KV_STAYS = 0, KV_DROP = 1 };
enum { KV_MERGES_KEYS = 1, KV_MERGES_VALUES = 2 };
enum kv_scope { KV_ONE_HEAD, KV_LAYER_HEADS };   /* lanes per call: one KV head, all of the layer */

/* Mean squares of a loss's gradient by the entries of K and V, [n][dim]: how much an error of the entry
 * matters. From the trace's probes (harness/replay/probe_squares.h), so an oracle: they lie on decode steps. */
struct kv_squares { const float *keys, *unrotated_keys, *values; };

/* Statistics of the prompt under full causal attention, computed once per layer for all who ask. */
struct kv_prompt {
    uint32_t n;                   /* prompt rows */
    const float *keys, *values;   /* [n][dim] recorded, when wants.prompt_rows; after the prompt's call gone */
    const double *column_sum;     /* [group][n] softmax weight of a query head, summed over prompt queries */
    const double *future_sum;     /* [group][tokens] the same over all queries: oracles only */
    const float *output_norms;    /* [n] |W_o v|_1, mean over the group; NULL without w_o */
    uint32_t tail;                /* rows of tail_weights: the last `tail` prompt queries */
    const float *tail_weights;    /* [tail][group][n], 0 where not visible */
    const float *queries;         /* [group][n][key_dim] recorded, when wants.queries; likewise */
    struct kv_squares fisher, label;   /* when wants.fisher, wants.label and the trace has them, else NULL */
};

struct kv_lane {                  /* one KV head as shown to a policy, for the length of one call */
    uint32_t head, group, key_dim, value_dim;
    uint32_t n;                   /* held rows */
    uint32_t budget;              /* trim's budget of this lane */
    const uint32_t *positions;    /* [n] ascending tokens */
    float *state;                 /* [n][state_floats] the policy's; 0 for a new row; dies with the row */
    float *score;                 /* [n] out of score: higher stays */
    uint8_t *fate;                /* [n] out of keep and evict */
    uint32_t *scratch;            /* [n] of trim and hooks; lanes' arrays lie at one distance from each other */
    uint8_t *reads;               /* [group][n] out of select: 1 = read */
    const float *queries;         /* [group][key_dim] of this step; NULL after the prompt */
    const float *key, *value;     /* this step's new row as recorded; NULL after the prompt */
    const float *weights;         /* [group][stride] observe: this step's; 0 where not visible */
    const uint32_t *places;       /* [n] a row's column in weights */
    uint32_t stride;
    float *columns;               /* [stride] scratch of observe */
    const float *logits;          /* [group][n] select, when wants.logits: scaled, capped */
    const struct kv_prompt *prompt;
    float *keys, *values;         /* [n][dim] merge: of rows that may change, as a reader sees them; NULL
                                   * of a side that merges does not name */
    uint8_t *changed;             /* [n] out of merge: 1 = the row is another now */
};

struct kv_step {
    const struct kv_geometry *geometry;
    const struct kv_kernels *kernels;
    bool prompt;                  /* the call after the prefill; otherwise a decode step */
    uint32_t token;               /* the newest token held */
    uint64_t seed;
};

/* How the layers of a model share the budget (layer_budget.h). */
enum kv_layer_budget {
    KV_LAYERS_UNIFORM, KV_LAYERS_PYRAMID, KV_LAYERS_INVERTED, KV_LAYERS_PYRAMID_INTEGER,
    KV_LAYERS_PYRAMID_KVPRESS, KV_LAYERS_CAKE
};
enum kv_floor { KV_FLOOR_BLEND, KV_FLOOR_SAFEGUARD };   /* of pooled heads */

/* Parameters of every policy that gives a score: protection, timing, how layers and heads share the
 * budget, and the units in which rows stay. Zero is the plain setting of each. */
struct kv_trim {
    struct kv_budget budget;
    uint32_t judges;              /* kv_wants.judges, once the policy was asked: protected, too */
    uint32_t sinks, recent;       /* protected: positions < sinks, the last `recent` held rows */
    uint32_t recent_percent;      /* protected: that share of the budget, rounded down */
    uint32_t prompt_only;         /* 1: acts once, after the prefill; decoded tokens come on top */
    uint32_t every, every_percent;/* rows (or percent of the budget) that a step drops at once */
    uint32_t layer_budget, beta;  /* enum kv_layer_budget; ratio of a pyramid's mean and top layer */
    uint32_t pooled_heads;        /* 1: one budget for all heads of the layer, shared by score */
    uint32_t floor_percent, floor;/* of pooled heads: what each keeps of an equal share; enum kv_floor */
    uint32_t shared_heads;        /* 1: scores summed over heads, the same rows stay in all */
    uint32_t chunk;               /* rows stay in whole chunks of so many positions; 0 = singly */
    uint32_t cache_positions;     /* 1: answers number rows by their slots (harness/replay/renumber.h) */
    uint32_t prompt_block;        /* the prompt enters in blocks of so many rows, trimmed after each; 0 = whole */
    uint32_t output_percent;      /* of the budget, chosen by score x |W_o v|_1; the rest by score */
};

/* What every layer said of itself before any was cut: pass 1 of a run whose policies ask for it. */
struct kv_survey { uint32_t n, here; const double *preference; };   /* layers; this one; [n] */

struct kv_wants {
    uint32_t state_floats, tail;  /* floats of state a row; rows of tail_weights */
    uint32_t judges;              /* newest prompt rows whose queries score the others: they stay */
    bool column_sum, logits, prompt_rows, output_norms, future;
    bool queries, fisher, label;  /* of codecs, too: the prompt's queries; squares of probe gradients */
    bool all_lags;                /* codecs: sample->queries count by their squares alone (setup.h) */
};

struct kv_chooser {               /* first member of every policy object */
    const struct kv_policy *type;
    const void *config;
    struct kv_trim trim;
};

typedef void kv_hook(struct kv_chooser *self, const struct kv_step *step, struct kv_lane *lanes,
                     uint32_t n_lanes);

struct kv_policy {
    const char *name, *summary, *paper;
    enum kv_scope scope;
    const struct kv_param *params;          /* its own; trim's are added when it has a score */
    size_t config_size, self_size;          /* self is allocated zeroed; config copied */
    struct kv_trim trim;                    /* defaults; budget.tokens 0 = no budget parameter */
    void (*wants)(const void *config, struct kv_wants *wants);   /* pure; NULL = nothing */
    int (*create)(struct kv_chooser *self, const struct kv_setup *setup, struct kv_error *err);
    /* Before any layer is cut: how much of a shared budget this one should have, 0 or more; lanes are all
     * its heads, with their prompt statistics and nothing else. Optional; for layer_budget=cake. */
    double (*survey)(const struct kv_chooser *self, const struct kv_lane *lanes, uint32_t n_lanes);
    /* Metadata bytes of one lane that create or hooks charge beside the state of rows, once so many tokens
     * came and none was dropped. NULL: none; that of a policy with such arrays must be given. */
    int64_t (*arrays)(const void *config, const struct kv_geometry *geometry, uint32_t tokens);
    kv_hook *keep;      /* after the prompt: marks fates; beside score it only takes in evidence */
    kv_hook *evict;     /* each step after the append: marks fates */
    kv_hook *score;     /* higher stays; trim does the rest */
    kv_hook *select;    /* which rows this step reads; nothing is dropped */
    kv_hook *observe;   /* this step's weights */
    kv_hook *merge;     /* at a step, between fates and their execution: what goes may change what stays. A
                         * changed row is a new exact row at its old position. One lane at a time */
    uint32_t merges;    /* sides that merge changes: KV_MERGES_KEYS, KV_MERGES_VALUES */
    uint32_t (*heirs)(const void *config);   /* staying rows behind a dropped one that merge may change */
    bool (*random)(const void *config);   /* optional: depends on the seed */
    bool oracle;        /* knows what no system can: flagged */
    bool in_blocks;     /* judges a row by the rows held beside it alone: the prompt may come in blocks */
    bool by_position;   /* a row's score follows from its position: heads keep the same rows */
};

#endif
