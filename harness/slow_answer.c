/* The slow road's answers; see slow_answer.h. */
#include "harness/slow_answer.h"

#include <math.h>
#include <string.h>

#include "harness/mirror.h"
#include "harness/query_rows.h"

struct kv_slow {
    const struct kv_replay *replay;
    struct kv_cache *main, *rest;
    struct kv_mirror *mirrors;         /* [n_heads] */
    float *queries;                    /* [n_heads][group][key_dim] of the owner, this step */
    float *reader_queries;             /* likewise of the reader; the same when owner and reader are */
    float *logits, *weights, *exact;   /* [group][capacity] by slot */
    float *lane_values;                /* [group][tokens] by held row */
    uint8_t *reads;                    /* [group][tokens] by held row */
    float **observed;                  /* [n_heads] -> [group][n] */
    bool selects, observes;
    uint32_t stride;                   /* floats from one group member's slots to the next */
};

static bool observes(const struct kv_cache *cache)
{
    for (uint32_t p = 0; p < cache->plan.spec->n_policies; p++)
        if (cache->choosers[p]->type->observe) return true;
    return false;
}

static bool key_differs(const struct kv_cache *main, const struct kv_cache *rest)
{
    bool lossy = rest != NULL;
    for (uint32_t b = 0; b < main->n_banks; b++) lossy |= main->banks[b].lossy;
    return lossy;
}

int kv_slow_create(struct kv_slow **out, const struct kv_replay *replay, struct kv_cache *main,
                   struct kv_cache *rest, struct kv_pool *pool, struct kv_error *err)
{
    const struct kv_geometry *owner = &replay->owner->info->geometry;
    const struct kv_geometry *reader = &replay->reader->info->geometry;
    const uint32_t group = owner->group > reader->group ? owner->group : reader->group;
    const size_t slots = (size_t)owner->tokens + replay->kernels->panel, heads = replay->n_heads;
    struct kv_slow *slow = kv_pool_take(pool, sizeof *slow);
    if (!slow) return kv_fail(err, KV_EMEMORY, "out of memory for the slow road");
    *slow = (struct kv_slow){.replay = replay, .main = main, .rest = rest, .stride = (uint32_t)slots};
    slow->selects = kv_cache_selects(main->plan.spec);
    slow->observes = observes(main);
    slow->mirrors = kv_pool_take(pool, heads * sizeof *slow->mirrors);
    slow->queries = kv_pool_take(pool, heads * group * owner->key_dim * sizeof(float));
    slow->reader_queries = replay->owner == replay->reader
                               ? slow->queries
                               : kv_pool_take(pool, heads * group * owner->key_dim * sizeof(float));
    slow->logits = kv_pool_take(pool, group * slots * sizeof(float));
    slow->weights = kv_pool_take(pool, group * slots * sizeof(float));
    slow->exact = kv_pool_take(pool, group * slots * sizeof(float));
    slow->lane_values = kv_pool_take(pool, group * slots * sizeof(float));
    slow->reads = kv_pool_take(pool, group * slots);
    slow->observed = kv_pool_take(pool, heads * sizeof *slow->observed);
    if (!slow->mirrors || !slow->queries || !slow->reader_queries || !slow->logits ||
        !slow->weights || !slow->exact || !slow->lane_values || !slow->reads || !slow->observed)
        return kv_fail(err, KV_EMEMORY, "out of memory for the slow road");
    int status = KV_OK;
    for (uint32_t i = 0; status == KV_OK && i < heads; i++) {
        slow->observed[i] = kv_pool_take(pool, group * slots * sizeof(float));
        if (!slow->observed[i]) return kv_fail(err, KV_EMEMORY, "out of memory for the slow road");
        status = kv_mirror_create(&slow->mirrors[i], replay->kernels, owner,
                                  replay->exact_log_sum_exp && key_differs(main, rest), pool, err);
    }
    *out = slow;
    return status;
}

const float *kv_slow_queries(struct kv_slow *slow, uint32_t t)
{
    const struct kv_replay *replay = slow->replay;
    const struct kv_layer *layers[2] = {replay->owner, replay->reader};
    float *out[2] = {slow->queries, slow->reader_queries};
    for (int l = 0; l < (out[0] == out[1] ? 1 : 2); l++) {
        const struct kv_geometry *geometry = &layers[l]->info->geometry;
        for (uint32_t i = 0; i < replay->n_heads; i++)
            kv_widen_queries(layers[l], replay->first_head + i, &t, 1, replay->kernels,
                             out[l] + (size_t)i * geometry->group * geometry->key_dim);
    }
    return slow->queries;
}

/* logits[g][slot], scaled and capped; free slots and keys outside the window are -infinity. */
static void compute_logits(const struct kv_slow *slow, const struct kv_geometry *geometry,
                           const struct kv_mirror *mirror, const float *panels, const float *queries,
                           uint32_t t, float *logits)
{
    const struct kv_kernels *kernels = slow->replay->kernels;
    const uint32_t columns = (mirror->n_slots + kernels->panel - 1) / kernels->panel * kernels->panel;
    const uint32_t first = geometry->window && t >= geometry->window ? t - geometry->window + 1 : 0;
    kernels->logits(queries, geometry->group, geometry->key_dim, panels, columns,
                    (float)geometry->scale, logits, slow->stride);
    for (uint32_t g = 0; g < geometry->group; g++) {
        float *row = logits + (size_t)g * slow->stride;
        if (geometry->softcap > 0.0) kernels->softcap(row, mirror->n_slots, (float)geometry->softcap);
        for (uint32_t s = 0; s < mirror->n_slots; s++)
            if (mirror->token_of[s] == UINT32_MAX || mirror->token_of[s] < first) row[s] = -INFINITY;
    }
}

/* Asks the policy which rows are read and hides the others; returns the stored bytes touched. */
static double hide_unread(struct kv_slow *slow, uint32_t t, uint32_t lane, float *logits)
{
    const struct kv_held *held = &slow->main->lanes[lane];
    const struct kv_mirror *mirror = &slow->mirrors[lane];
    const uint32_t group = mirror->geometry->group, n = held->n;
    for (uint32_t g = 0; g < group; g++)
        for (uint32_t i = 0; i < n; i++)
            slow->lane_values[g * n + i] =
                logits[(size_t)g * slow->stride + mirror->slot_of[held->positions[i]]];
    kv_cache_select(slow->main, t, lane, slow->queries, slow->lane_values, slow->reads);
    for (uint32_t g = 0; g < group; g++)
        for (uint32_t i = 0; i < n; i++)
            if (!slow->reads[g * n + i])
                logits[(size_t)g * slow->stride + mirror->slot_of[held->positions[i]]] = -INFINITY;
    double bytes = 0.0;
    for (int side = 0; side < (held->bank[0] == held->bank[1] ? 1 : 2); side++) {
        const struct kv_bank *bank = held->bank[side];
        uint32_t last_atom = UINT32_MAX;
        for (uint32_t i = 0; i < n; i++) {
            bool read = false;
            for (uint32_t g = 0; g < group; g++) read |= slow->reads[g * n + i];
            if (!read) continue;
            const uint32_t place = bank->where[held->positions[i]];
            const uint32_t atom = (place - KV_CODED) / bank->code->block;
            if (place < KV_CODED) bytes += (double)kv_bank_exact_row_bytes(bank) / bank->n_heads;
            else if (atom != last_atom) bytes += (double)kv_atom_bytes(bank->code) / bank->n_heads;
            last_atom = place < KV_CODED ? UINT32_MAX : atom;
        }
    }
    return bytes;
}

/* weights = softmax of one row of logits, 0 where hidden; returns the log of its denominator. */
static float softmax(const struct kv_kernels *kernels, const float *logits, uint32_t n,
                     const float *sink_logit, float *weights)
{
    float max = kernels->max(logits, n);
    if (sink_logit && *sink_logit > max) max = *sink_logit;
    if (max == -INFINITY) {
        memset(weights, 0, n * sizeof *weights);
        return -INFINITY;
    }
    memcpy(weights, logits, n * sizeof *weights);
    float sum = kernels->exp_sum(weights, n, max), sink = sink_logit ? *sink_logit : 0.0f;
    if (sink_logit) sum += kernels->exp_sum(&sink, 1, max);
    kernels->scale(weights, n, 1.0f / sum);
    return max + (float)log((double)sum);
}

/* What the answer's weights look like beside the exact ones; quantities as in methods/sweep.h. */
static void compare(const struct kv_slow *slow, const struct kv_mirror *mirror, const float *logits,
                    const float *weights, const float *exact_logits, float log_sum_exp, size_t row,
                    const struct kv_answer_arrays *out, float *scratch)
{
    const struct kv_replay *replay = slow->replay;
    const float exact_lse = replay->exact_log_sum_exp[row];
    const uint32_t n = mirror->n_slots;
    for (uint32_t s = 0; s < n; s++)
        scratch[s] = logits[s] == -INFINITY ? -INFINITY : exact_logits[s];
    replay->kernels->exp_sum(scratch, n, exact_lse);
    double divergence = 0.0, mass = 0.0, drift = 0.0;
    bool coded = false;
    for (uint32_t s = 0; s < n; s++) {
        if (logits[s] == -INFINITY) continue;
        mass += scratch[s];
        if (weights[s] > 0.0f) divergence += (double)weights[s] * ((double)logits[s] - exact_logits[s]);
        if (mirror->coded[s]) drift += (double)weights[s] - scratch[s], coded = true;
    }
    out->divergence[row] = mass > 0.0 ? (float)(divergence - log_sum_exp + exact_lse) : 0.0f;
    out->held_mass[row] = (float)mass;
    out->drift[row] = coded ? (float)drift : NAN;
    for (uint32_t span = 0; span < replay->spans.n; span++) {
        double on_span = 0.0;
        for (uint32_t s = 0; s < n; s++)
            if (logits[s] != -INFINITY && mirror->token_of[s] >= replay->spans.range[span][0] &&
                mirror->token_of[s] < replay->spans.range[span][1])
                on_span += weights[s];
        out->span_mass[row * replay->spans.n + span] = (float)on_span;
    }
}

/* The scored answer of a lane: outputs, and the comparison when there is an exact reference. */
static void answer(struct kv_slow *slow, uint32_t lane, uint32_t t, uint32_t scored)
{
    const struct kv_replay *replay = slow->replay;
    const struct kv_geometry *geometry = &replay->reader->info->geometry;
    const struct kv_mirror *mirror = &slow->mirrors[lane];
    const uint32_t head = replay->first_head + lane, group = geometry->group;
    const size_t row = ((size_t)head * replay->n_scored + scored) * group;
    const float *queries = slow->reader_queries + (size_t)lane * group * geometry->key_dim;
    float *outputs = replay->answers.outputs + row * geometry->value_dim;
    memset(outputs, 0, (size_t)group * geometry->value_dim * sizeof *outputs);
    replay->kernels->accumulate(slow->weights, group, slow->stride, mirror->values, mirror->n_slots,
                                geometry->value_dim, outputs);
    if (!replay->exact_log_sum_exp) return;
    const float *exact = slow->logits;
    if (mirror->exact_keys) {
        compute_logits(slow, geometry, mirror, mirror->exact_keys, queries, t, slow->exact);
        exact = slow->exact;
    }
    for (uint32_t g = 0; g < group; g++)
        compare(slow, mirror, slow->logits + (size_t)g * slow->stride,
                slow->weights + (size_t)g * slow->stride, exact + (size_t)g * slow->stride,
                replay->answers.log_sum_exp[row + g], row + g, &replay->answers, slow->lane_values);
}

/* Softmax of all group rows of a lane; the denominators' logs go to log_sum_exp when not NULL. */
static void weigh(struct kv_slow *slow, const struct kv_geometry *geometry, uint32_t lane,
                  float *log_sum_exp)
{
    const uint32_t head = slow->replay->first_head + lane;
    for (uint32_t g = 0; g < geometry->group; g++) {
        const float *sink =
            geometry->sink_logits ? geometry->sink_logits + head * geometry->group + g : NULL;
        const float lse = softmax(slow->replay->kernels, slow->logits + (size_t)g * slow->stride,
                                  slow->mirrors[lane].n_slots, sink,
                                  slow->weights + (size_t)g * slow->stride);
        if (log_sum_exp) log_sum_exp[g] = lse;
    }
}

static void keep_observed(struct kv_slow *slow, uint32_t lane)
{
    const struct kv_held *held = &slow->main->lanes[lane];
    const struct kv_mirror *mirror = &slow->mirrors[lane];
    for (uint32_t g = 0; g < mirror->geometry->group; g++)
        for (uint32_t i = 0; i < held->n; i++)
            slow->observed[lane][(size_t)g * held->n + i] =
                slow->weights[(size_t)g * slow->stride + mirror->slot_of[held->positions[i]]];
}

double kv_slow_step(struct kv_slow *slow, uint32_t t, uint32_t scored)
{
    const struct kv_replay *replay = slow->replay;
    const struct kv_geometry *owner = &replay->owner->info->geometry;
    const struct kv_geometry *reader = &replay->reader->info->geometry;
    const bool same = replay->owner == replay->reader;
    double bytes = 0.0;
    for (uint32_t lane = 0; lane < replay->n_heads; lane++) {
        struct kv_mirror *mirror = &slow->mirrors[lane];
        const size_t head = replay->first_head + lane;
        const size_t row = scored == UINT32_MAX ? 0 : (head * replay->n_scored + scored) * reader->group;
        float *lse = scored == UINT32_MAX ? NULL : replay->answers.log_sum_exp + row;
        kv_mirror_refresh(mirror, slow->main, lane);
        if (slow->rest) kv_mirror_refresh(mirror, slow->rest, lane);
        compute_logits(slow, owner, mirror, mirror->keys,
                       slow->queries + (size_t)lane * owner->group * owner->key_dim, t, slow->logits);
        if (slow->selects) bytes += hide_unread(slow, t, lane, slow->logits);
        weigh(slow, owner, lane, same ? lse : NULL);
        if (slow->observes) keep_observed(slow, lane);
        if (scored == UINT32_MAX) continue;
        if (!same) {
            /* A reader of shared K, V: the owner's queries decided, its own are answered. */
            compute_logits(slow, reader, mirror, mirror->keys,
                           slow->reader_queries + (size_t)lane * reader->group * reader->key_dim, t,
                           slow->logits);
            weigh(slow, reader, lane, lse);
        }
        answer(slow, lane, t, scored);
    }
    return bytes;
}

const float *const *kv_slow_weights(const struct kv_slow *slow)
{
    return slow->observes ? (const float *const *)slow->observed : NULL;
}
