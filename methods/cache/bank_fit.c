/* What a bank shows its codec before the first row is encoded; see bank.h. */
#include <math.h>
#include <string.h>

#include "methods/cache/bank_parts.h"
#include "methods/kernels/recorded_rows.h"
#include "methods/lags.h"
#include "methods/parts/eigen.h"
#include "methods/parts/gram.h"

struct fit {                       /* the rows of a fit, of the prompt or of a calibration */
    const struct kv_bank *bank;
    const struct kv_fit_rows *from;    /* [n_layers] */
    struct kv_rotary own;              /* of a calibration's positions */
    const struct kv_rotary *rotary;    /* NULL: keys as recorded */
    uint32_t n;
};

static const struct kv_prompt *prompt_of(const struct fit *fit, uint32_t lane)
{
    const struct kv_prompt *prompts = fit->from[lane / fit->bank->n_heads].prompts;
    return prompts ? prompts + lane % fit->bank->n_heads : NULL;
}

/* Squares of gradients of a lane's side, label's or fisher's, or NULL. */
static const float *squares_of(const struct fit *fit, uint32_t lane, int side, bool label)
{
    const struct kv_prompt *prompt = prompt_of(fit, lane);
    if (!prompt) return NULL;
    const struct kv_squares *squares = label ? &prompt->label : &prompt->fisher;
    return side ? squares->values : fit->bank->unrotated ? squares->unrotated_keys : squares->keys;
}

/* Squares of gradients in the order of rows; NULL in *out when the trace has none. */
static bool gather_squares(const struct fit *fit, bool label, const float **out)
{
    const struct kv_bank *bank = fit->bank;
    const int first = bank->side == KV_VALUES, end = bank->side == KV_KEYS ? 1 : 2;
    for (uint32_t lane = 0; lane < bank->n_lanes; lane++)
        for (int side = first; side < end; side++)
            if (!squares_of(fit, lane, side, label)) return true;
    float *row = kv_pool_take(bank->pool, (size_t)fit->n * bank->dim * sizeof *row);
    *out = row;
    for (uint32_t t = 0; row && t < fit->n; t++)
        for (uint32_t lane = 0; lane < bank->n_lanes; lane++)
            for (int side = first; side < end; side++) {
                const uint32_t dim = kv_side_dim(bank->sources->geometry, side ? KV_VALUES : KV_KEYS);
                memcpy(row, squares_of(fit, lane, side, label) + (size_t)t * dim, dim * sizeof *row);
                row += dim;
            }
    return row != NULL;
}

/* One query head of a lane: its n queries. */
static void gather_head(const struct fit *fit, const struct kv_fit_rows *from, uint32_t head, float *out)
{
    for (uint32_t i = 0; i < fit->n; i++, out += from->source.queries->dim) {
        kv_widen_rows(from->source.queries, head, from->first + i, 1, fit->bank->kernels, out);
        if (fit->rotary) kv_rotary_undo(fit->rotary, from->first + i, out);
    }
}

static bool gather_queries(const struct fit *fit, struct kv_sample *sample)
{
    const struct kv_bank *bank = fit->bank;
    const struct kv_geometry *geometry = bank->sources->geometry;
    const size_t head = (size_t)fit->n * geometry->key_dim;
    const uint32_t heads = bank->n_lanes * geometry->group;
    float *queries = kv_pool_take(bank->pool, heads * head * sizeof *queries);
    if (!queries) return false;
    sample->queries = queries, sample->n_queries = heads * fit->n;
    for (uint32_t q = 0; q < heads && !bank->counts_only; q++) {
        const uint32_t lane = q / geometry->group;
        const uint32_t kv_head = bank->first_head + lane % bank->n_heads;
        gather_head(fit, &fit->from[lane / bank->n_heads], kv_head * geometry->group + q % geometry->group,
                    queries + q * head);
    }
    return true;
}

/* What all queries are for a key before the rotation, at any lag: instead of them, the eigenvectors
 * of their squares' mean, each as long as the root of its eigenvalue. */
static int turn_by_lags(const struct fit *fit, struct kv_sample *sample, struct kv_error *err)
{
    const struct kv_bank *bank = fit->bank;
    const struct kv_geometry *geometry = fit->from->source.geometry;
    const uint32_t dim = geometry->key_dim;
    double *squares = kv_pool_take(bank->pool, (size_t)dim * dim * sizeof *squares);
    double *values = kv_pool_take(bank->pool, dim * sizeof *values);
    float *out = kv_pool_take(bank->pool, (size_t)dim * dim * sizeof *out);
    if (!squares || !values || !out)
        return kv_fail(err, KV_EMEMORY, "out of memory for squares of queries");
    kv_add_gram(bank->kernels, sample->queries, sample->n_queries, dim, dim, NULL, squares);
    kv_finish_gram(squares, dim);
    if (!kv_lags_average(squares, geometry, fit->from->first, fit->n, bank->pool))
        return kv_fail(err, KV_EMEMORY, "out of memory for the lags of queries");
    const int status = kv_eigen_symmetric(bank->kernels, squares, dim, values, err);
    for (uint32_t k = 0; k < dim; k++) {
        const double length = values[k] > 0 ? sqrt(values[k]) : 0.0;
        for (uint32_t c = 0; c < dim; c++)
            out[(size_t)k * dim + c] = (float)(length * squares[(size_t)k * dim + c]);
    }
    sample->queries = out, sample->n_queries = dim;
    return status;
}

static bool has_queries(const struct fit *fit)
{
    for (uint32_t l = 0; l < fit->bank->n_layers; l++)
        if (!fit->from[l].source.queries && !fit->bank->counts_only) return false;
    return true;
}

/* What is known beside the rows; of what only counts, zeros. */
static bool gather_evidence(const struct fit *fit, struct kv_sample *sample)
{
    const struct kv_bank *bank = fit->bank;
    const float **w_o = kv_pool_take(bank->pool, bank->n_layers * sizeof *w_o);
    if (!w_o) return false;
    for (uint32_t l = 0; l < bank->n_layers; l++) w_o[l] = fit->from[l].source.w_o;
    sample->w_o = w_o, sample->hidden = fit->from->source.hidden;
    if (bank->wants_queries && has_queries(fit) && !gather_queries(fit, sample)) return false;
    if (bank->counts_only && (!bank->knows_trace || squares_of(fit, 0, bank->side == KV_VALUES, false))) {
        sample->fisher = sample->label =
            kv_pool_take(bank->pool, (size_t)fit->n * bank->dim * sizeof(float));
        return sample->fisher != NULL;
    }
    if (bank->counts_only) return true;
    return gather_squares(fit, false, &sample->fisher) && gather_squares(fit, true, &sample->label);
}

static bool gather_sample(const struct fit *fit, struct kv_sample *sample)
{
    const struct kv_bank *bank = fit->bank;
    float *row = kv_pool_take(bank->pool, (size_t)fit->n * bank->dim * sizeof *row);
    uint32_t *positions = kv_pool_take(bank->pool, fit->n * sizeof *positions);
    if (!row || !positions) return false;
    *sample = (struct kv_sample){.n = fit->n, .sizes_only = bank->counts_only,
                                 .counted = bank->knows_trace ? fit->from->n : 0, .rows = row,
                                 .positions = positions};
    for (uint32_t i = 0; i < fit->n; i++) {
        positions[i] = fit->from->first + i;
        for (uint32_t lane = 0; lane < bank->n_lanes; lane++)
            row = kv_bank_gather_lane(bank, &fit->from[lane / bank->n_heads].source, fit->rotary,
                              bank->first_head + lane % bank->n_heads, positions[i], row);
    }
    return gather_evidence(fit, sample);
}

int kv_fit_rows_check(const struct kv_fit_rows *from, const struct kv_geometry *own, const char *name,
                      struct kv_error *err)
{
    const struct kv_geometry *other = from->source.geometry;
    if (!other)
        return kv_fail(err, KV_ESKIPPED, "%s: calibration: %s", name,
                       from->missing ? from->missing : "no rows given");
    if (own->kv_heads == other->kv_heads && own->key_dim == other->key_dim &&
        own->value_dim == other->value_dim && own->q_heads == other->q_heads)
        return KV_OK;
    return kv_fail(err, KV_ESKIPPED,
                   "%s: calibration: layer %u has %u query and %u KV heads of %u and %u there,"
                   " %u and %u of %u and %u here",
                   name, own->layer, other->q_heads, other->kv_heads, other->key_dim,
                   other->value_dim, own->q_heads, own->kv_heads, own->key_dim, own->value_dim);
}

/* All layers that the bank serves. */
static int check_calibration(const struct kv_bank *bank, const struct kv_fit_rows *from,
                             struct kv_error *err)
{
    int status = KV_OK;
    for (uint32_t l = 0; status == KV_OK && l < bank->n_layers; l++)
        status = kv_fit_rows_check(&from[l], bank->sources[l].geometry, bank->code->type->name, err);
    return status;
}

/* A basis that was there before the text is the same for all texts. */
static void charge_as_shared(struct kv_bank *bank)
{
    kv_pool_charge(bank->pool, KV_BASIS_ONLINE, -bank->basis_bytes);
    kv_pool_charge(bank->pool, KV_BASIS_SHARED, bank->basis_bytes);
    bank->shared_bytes = bank->basis_bytes, bank->basis_bytes = 0;
    bank->calibrated = true;
}

static int turn_back(struct fit *fit, bool calibrated, struct kv_error *err)
{
    const struct kv_bank *bank = fit->bank;
    if (!bank->fits_unrotated) return KV_OK;
    fit->rotary = calibrated ? &fit->own : &bank->rotary;
    if (!calibrated || kv_rotary_create(&fit->own, fit->from->source.geometry, bank->pool)) return KV_OK;
    return kv_fail(err, KV_EMEMORY, "out of memory for rotary tables");
}

enum { COUNTED_SAMPLE = 1 };   /* rows that a bank is fitted on which only counts */

int kv_bank_fit_code(struct kv_bank *bank, const struct kv_fit_rows *from, bool calibrated,
                    struct kv_error *err)
{
    struct fit fit = {.bank = bank, .from = from, .n = from->n};
    /* The size of what is fitted must not hang on the number of rows. */
    if (bank->counts_only && fit.n > COUNTED_SAMPLE) fit.n = COUNTED_SAMPLE;
    const int64_t before = kv_pool_used(bank->pool, KV_BASIS_ONLINE);
    struct kv_sample sample;
    int status = calibrated ? check_calibration(bank, from, err) : KV_OK;
    if (status == KV_OK) status = turn_back(&fit, calibrated, err);
    if (status == KV_OK && !gather_sample(&fit, &sample))
        status = kv_fail(err, KV_EMEMORY, "out of memory for the rows of a fit");
    const bool lagged = bank->wants_lags && fit.rotary && bank->n_lanes == 1 && !bank->counts_only;
    if (status == KV_OK && lagged && sample.queries) status = turn_by_lags(&fit, &sample, err);
    if (status == KV_OK) status = bank->code->type->fit(bank->code, &sample, err);
    bank->basis_bytes += kv_pool_used(bank->pool, KV_BASIS_ONLINE) - before;
    if (status == KV_OK && calibrated) charge_as_shared(bank);
    return status;
}
