/* mla: multi-head attention turned into latent attention after training. One latent for keys and
 * values of all heads, and one rotary part beside it, as DeepSeek-V2 stores (arXiv 2405.04434,
 * equations 37 to 47); found from rows as TransMLA does (Meng et al., arXiv 2502.07864).
 *
 * Fit, per layer, on keys before rotation (double, not centred); P rotary pairs (x, y) a head:
 *   1. RoRoPE and FreqFold: `fold` neighbouring pairs of all heads are one group. Of each group the
 *      same number of leading eigenvectors u of sum x x^T + y y^T are kept, rope / 2 in all;
 *      component a turns with frequency (a * collapse) mod fold of its group, collapse = 2 P /
 * rope.
 *   2. The other components lose their rotation. a = E|k_nope| / E|v|; Z = the `rank` leading
 *      eigenvectors of the Gram matrix of [k_nope / a, v] over all heads.
 *
 * Stored: c = Z^T [k_nope / a, v] and k_R, rotated at its own position, in one row of the inner
 * codec (default f16). Read without unpacking: a query of KV head j at position i meets it as
 * [a Z_kj^T q, R_i u_j q], q before rotation; its answer is Z_vj (weighted sum of c). u and Z are
 * halves. A layer that attends to latents already (values are the keys' first columns) keeps these,
 * and the other columns for k_R as recorded. As many latents as columns are the columns themselves,
 * exact, and cost no basis: such a layer by default.
 *
 * rank: latents, or a share of all columns of K and V (latents that a layer has already are cut by
 * a number only); at most all that is not k_R. rope: dimensions of k_R, or a share of the 2 P, or
 * whole multiples of 2 P.
 *
 * Bytes: the inner codec's for rank + rope columns a token (K and V, all heads); the basis
 * 2 heads (d_k + d_v) rank + heads fold rope + 4. key_error and value_error are those of rows
 * mapped back, each key rotated at its own position: what the rank costs, not what the lost
 * rotation does.
 *
 * Departures: eigenvectors of the rows (what the published code takes); no damping, which moves no
 * eigenvector; the fitted maps are charged, where a conversion folds them into projections; balance
 * is the paper's equation 20, where the published code takes mean column norms; no fine-tuning.
 * Rows of exact tiers stay keys and values of heads. Directions without energy are none. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/parts/codes.h"
#include "methods/parts/eigen.h"
#include "methods/parts/wrapper.h"
#include "methods/rotary.h"

extern const struct kv_codec kv_codec_mla;

struct config {
    struct kv_budget rank, rope;
    uint32_t fold;
};

static const struct kv_param params[] = {
    {"rank", KV_PARAM_BUDGET, offsetof(struct config, rank), 0.25, 1, 1048576, NULL,
     "latents of a layer: a number, or a share of the columns of K and V"},
    {"rope", KV_PARAM_BUDGET, offsetof(struct config, rope), 0.5, 1, 1048576, NULL,
     "dimensions that keep their rotation: a number, or a share of a head's"},
    {"fold", KV_PARAM_U32, offsetof(struct config, fold), 0, 0, 4096, NULL,
     "neighbouring frequencies taken for one; 0: as few as rope allows"},
    {0}};

struct shape {
    uint32_t heads, key, value, lane, dim;        /* columns of a lane, of a recorded row */
    uint32_t n_pairs, kept, fold, collapse, each; /* pairs; components kept, of each group */
    uint32_t rank, tail;                          /* columns of c; of k_R */
    bool latent_already, whole;
};

struct rotation { /* by token: cosine and sine of n angles */
    uint32_t n;
    float *cosine, *sine;
};

struct mla_code {
    struct kv_code code, *inner;
    const struct kv_kernels *kernels;
    const struct kv_geometry *geometry;
    struct kv_pool *pool;
    struct shape shape;
    uint32_t (*pairs)[2];       /* [n_pairs] columns of a key */
    double *frequencies;        /* [n_pairs] */
    struct rotation own, turns; /* of the pairs, of the components kept */
    float *directions;          /* [kept][heads][fold] */
    float *basis;               /* [dim, or value where latents are recorded][rank] */
    float balance;
    uint32_t *columns;    /* [rank] of the recorded row, when whole */
    float *row, *latents; /* [dim]; [block][rank + tail] */
};

/* ---- create ---- */

static int find_pairs(struct mla_code *self, struct kv_error *err)
{
    const struct kv_rope *rope = &self->geometry->rope;
    const uint32_t half = rope->layout == KV_ROPE_NONE ? 0 : rope->dims / 2;
    self->pairs = kv_pool_reserve(self->pool, KV_WORKSPACE, half * sizeof *self->pairs);
    self->frequencies = kv_pool_reserve(self->pool, KV_WORKSPACE, half * sizeof(double));
    if (half && (!self->pairs || !self->frequencies))
        return kv_fail(err, KV_EMEMORY, "mla: no memory");
    const bool interleaved = rope->layout == KV_ROPE_INTERLEAVED;
    for (uint32_t i = 0; i < half; i++) {
        if (!(rope->inv_freq[i] > 0 || rope->inv_freq[i] < 0)) continue; /* it does not turn */
        const uint32_t n = self->shape.n_pairs++;
        self->pairs[n][0] = interleaved ? 2 * i : i;
        self->pairs[n][1] = interleaved ? 2 * i + 1 : i + half;
        self->frequencies[n] = rope->inv_freq[i];
    }
    return KV_OK;
}

/* How many components are kept, and of which groups. */
static int part_pairs(struct shape *shape, const struct config *config, struct kv_error *err)
{
    const uint32_t n = shape->n_pairs, dims = kv_budget_tokens(config->rope, 2 * n);
    shape->fold = shape->collapse = 1;
    if (!n) return KV_OK;
    shape->kept = dims / 2;
    if (dims % 2 || !shape->kept || (n % shape->kept && shape->kept % n) ||
        shape->kept > shape->heads * n)
        return kv_fail(
            err, KV_EUNSUPPORTED,
            "mla: rope: expected an even part or whole multiples of %u rotary dimensions, at most"
            " %u times, found %u",
            2 * n, shape->heads, dims);
    shape->collapse = shape->kept < n ? n / shape->kept : 1;
    shape->fold = config->fold ? config->fold : shape->collapse;
    if (shape->fold % shape->collapse || n % shape->fold)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "mla: fold: expected a multiple of %u that parts %u pairs, found %u",
                       shape->collapse, n, shape->fold);
    shape->each = shape->kept / (n / shape->fold);
    shape->tail = 2 * shape->kept;
    return KV_OK;
}

/* A layer that attends to latents: its other columns are the rotary part. */
static int take_latents(struct mla_code *self, struct kv_error *err)
{
    struct shape *shape = &self->shape;
    for (uint32_t i = 0; i < shape->n_pairs; i++)
        if (self->pairs[i][0] < shape->value || self->pairs[i][1] < shape->value)
            return kv_fail(err, KV_EUNSUPPORTED, "mla: the values are columns of keys that rotate");
    if (shape->heads != 1)
        return kv_fail(err, KV_EUNSUPPORTED, "mla: %u heads of keys that hold their values",
                       shape->heads);
    shape->latent_already = true;
    shape->tail = shape->key - shape->value;
    return KV_OK;
}

static int take_shape(struct mla_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    const struct kv_geometry *geometry = setup->geometry;
    struct shape *shape = &self->shape;
    const bool already = geometry->values_in_keys;
    if (setup->n_heads != geometry->kv_heads || setup->n_layers > 1 ||
        setup->side != (already ? KV_KEYS : KV_BOTH_SIDES))
        return kv_fail(err, KV_EUNSUPPORTED,
                       "mla: expected keys and values of all heads in one row (span=all)");
    *shape = (struct shape){.heads = setup->n_heads,
                            .key = geometry->key_dim,
                            .value = geometry->value_dim,
                            .lane = geometry->key_dim + (already ? 0 : geometry->value_dim),
                            .dim = setup->dim,
                            .fold = 1};
    int status = find_pairs(self, err);
    if (status == KV_OK)
        status = already ? take_latents(self, err) : part_pairs(shape, config, err);
    if (status != KV_OK) return status;
    const uint32_t most = already ? shape->value : shape->dim - shape->tail;
    const uint32_t asked =
        already && config->rank.share > 0 ? most : kv_budget_tokens(config->rank, shape->dim);
    shape->rank = asked < most ? asked : most;
    shape->whole =
        shape->rank == most &&
        (already || (shape->heads == 1 && shape->fold == 1 && shape->kept == shape->n_pairs));
    return shape->rank ? KV_OK : kv_fail(err, KV_EUNSUPPORTED, "mla: rank: no latent is kept");
}

static int make_rotation(struct mla_code *self, struct rotation *rotation, uint32_t n,
                         struct kv_error *err)
{
    const size_t size = (size_t)self->geometry->tokens * n * sizeof(float);
    rotation->n = n;
    rotation->cosine = kv_pool_reserve(self->pool, KV_WORKSPACE, size);
    rotation->sine = kv_pool_reserve(self->pool, KV_WORKSPACE, size);
    if (n && (!rotation->cosine || !rotation->sine))
        return kv_fail(err, KV_EMEMORY, "mla: no memory for rotations");
    return KV_OK;
}

static double frequency_of(const struct mla_code *self, uint32_t component)
{
    const struct shape *shape = &self->shape;
    const uint32_t group = component / shape->each, a = component % shape->each;
    return self->frequencies[group * shape->fold + a * shape->collapse % shape->fold];
}

static void fill_rotations(struct mla_code *self)
{
    for (uint32_t t = 0; t < self->geometry->tokens; t++) {
        const double position = self->geometry->positions[t];
        for (uint32_t i = 0; i < self->own.n + self->turns.n; i++) {
            const bool kept = i >= self->own.n;
            struct rotation *rotation = kept ? &self->turns : &self->own;
            const uint32_t k = kept ? i - self->own.n : i;
            double cosine, sine;
            kv_cos_sin(position * (kept ? frequency_of(self, k) : self->frequencies[k]), &cosine,
                       &sine);
            rotation->cosine[(size_t)t * rotation->n + k] = (float)cosine;
            rotation->sine[(size_t)t * rotation->n + k] = (float)sine;
        }
    }
}

static uint32_t basis_rows(const struct shape *shape)
{
    return shape->latent_already ? shape->value : shape->dim;
}

/* The columns that latents are, when they are columns; directions of one component each. */
static void set_whole(struct mla_code *self)
{
    const struct shape *shape = &self->shape;
    uint32_t n = 0;
    for (uint32_t c = 0; c < (shape->latent_already ? shape->value : shape->dim); c++) {
        bool rotates = false;
        for (uint32_t i = 0; i < shape->n_pairs; i++)
            rotates |= c == self->pairs[i][0] || c == self->pairs[i][1];
        if (!rotates) self->columns[n++] = c;
    }
    for (uint32_t k = 0; k < shape->kept; k++) self->directions[k] = 1.0f;
}

static int reserve(struct mla_code *self, struct kv_error *err)
{
    const struct shape *shape = &self->shape;
    const size_t directions = (size_t)shape->kept * shape->heads * shape->fold;
    const size_t basis = shape->whole ? 0 : (size_t)basis_rows(shape) * shape->rank;
    self->directions = kv_pool_reserve(self->pool, KV_WORKSPACE, directions * sizeof(float));
    self->basis = kv_pool_reserve(self->pool, KV_WORKSPACE, basis * sizeof(float));
    self->columns = kv_pool_reserve(self->pool, KV_WORKSPACE, shape->rank * sizeof *self->columns);
    self->row = kv_pool_reserve(self->pool, KV_WORKSPACE, shape->dim * sizeof(float));
    if ((directions && !self->directions) || (basis && !self->basis) || !self->columns ||
        !self->row)
        return kv_fail(err, KV_EMEMORY, "mla: no memory for rank %u of %u columns", shape->rank,
                       shape->dim);
    int status = make_rotation(self, &self->own, shape->latent_already ? 0 : shape->n_pairs, err);
    if (status == KV_OK) status = make_rotation(self, &self->turns, shape->kept, err);
    if (status == KV_OK) fill_rotations(self);
    if (status == KV_OK && shape->whole) set_whole(self);
    return status;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct mla_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "mla: no memory");
    self->kernels = setup->kernels, self->pool = setup->pool, self->geometry = setup->geometry;
    self->balance = 1.0f;
    int status = take_shape(self, setup, err);
    if (status == KV_OK && !setup->sizes_only) status = reserve(self, err);
    if (status != KV_OK) return status;
    const uint32_t width = self->shape.rank + self->shape.tail;
    status = kv_create_code(&self->inner, setup->rest, setup, width, err);
    if (status != KV_OK) return status;
    self->code = kv_wrap_code(&kv_codec_mla, width, self->inner);
    *out = &self->code;
    return KV_OK;
}

/* ---- to the latents and back ---- */

/* x' = (x c - y s, y c + x s) of a key's pairs; direction -1 turns back. */
static void turn_key(const struct mla_code *self, uint32_t token, float direction, float *key)
{
    const float *cosine = self->own.cosine + (size_t)token * self->own.n;
    const float *sine = self->own.sine + (size_t)token * self->own.n;
    for (uint32_t i = 0; i < self->own.n; i++) {
        float *x = key + self->pairs[i][0], *y = key + self->pairs[i][1];
        const float first = *x, s = sine[i] * direction;
        *x = first * cosine[i] - *y * s;
        *y = first * s + *y * cosine[i];
    }
}

static void turn_part(const struct mla_code *self, uint32_t token, float direction, float *part)
{
    const uint32_t n = self->turns.n;
    const float *cosine = self->turns.cosine + (size_t)token * n,
                *sine = self->turns.sine + (size_t)token * n;
    for (uint32_t k = 0; k < n; k++) {
        const float x = part[k], s = sine[k] * direction;
        part[k] = x * cosine[k] - part[n + k] * s;
        part[n + k] = x * s + part[n + k] * cosine[k];
    }
}

/* The kept components of one head's key or query, added to part: first all x, then all y. */
static void add_components(const struct mla_code *self, uint32_t lane, const float *key,
                           float *part)
{
    const struct shape *shape = &self->shape;
    for (uint32_t k = 0; k < shape->kept; k++) {
        const float *u = self->directions + ((size_t)k * shape->heads + lane) * shape->fold;
        const uint32_t(*pairs)[2] =
            (const uint32_t(*)[2])self->pairs + k / shape->each * shape->fold;
        for (uint32_t f = 0; f < shape->fold; f++) {
            part[k] += u[f] * key[pairs[f][0]];
            part[shape->kept + k] += u[f] * key[pairs[f][1]];
        }
    }
}

/* Takes kept components off the keys of a row, all lanes. */
static void take_off(const struct mla_code *self, const float *part, float *row)
{
    const struct shape *shape = &self->shape;
    for (uint32_t k = 0; k < shape->kept; k++)
        for (uint32_t c = 0; c < shape->heads * shape->fold; c++) {
            const float u = self->directions[(size_t)k * shape->heads * shape->fold + c];
            const uint32_t *pair = self->pairs[k / shape->each * shape->fold + c % shape->fold];
            float *key = row + (size_t)(c / shape->fold) * shape->lane;
            key[pair[0]] -= u * part[k], key[pair[1]] -= u * part[shape->kept + k];
        }
}

static void whole_latents(const struct mla_code *self, const float *row, float *latents)
{
    for (uint32_t r = 0; r < self->shape.rank; r++) latents[r] = row[self->columns[r]];
}

/* A row of keys before rotation and values, all lanes; is balanced in place. */
static void to_latents(const struct mla_code *self, float *before, float *latents)
{
    const struct shape *shape = &self->shape;
    if (shape->whole) {
        whole_latents(self, before, latents);
        return;
    }
    for (uint32_t h = 0; !shape->latent_already && h < shape->heads; h++)
        self->kernels->scale(before + (size_t)h * shape->lane, shape->key, 1.0f / self->balance);
    self->kernels->rotate(self->basis, shape->rank, basis_rows(shape), before, latents);
}

static void turn_row(const struct kv_code *code, uint32_t token, const float *row, float *turned)
{
    const struct mla_code *self = (const struct mla_code *)code;
    const struct shape *shape = &self->shape;
    float *before = self->row, *part = turned + shape->rank;
    memcpy(before, row, shape->dim * sizeof *row);
    if (shape->latent_already) {
        to_latents(self, before, turned);
        memcpy(part, row + shape->value, shape->tail * sizeof *part);
        return;
    }
    memset(part, 0, shape->tail * sizeof *part);
    for (uint32_t h = 0; h < shape->heads; h++) {
        float *key = before + (size_t)h * shape->lane;
        turn_key(self, token, -1.0f, key);
        /* Columns of their own keep the rotation that they were recorded with, to the bit. */
        add_components(self, h, shape->whole ? row + (size_t)h * shape->lane : key, part);
    }
    if (!shape->whole) {
        take_off(self, part, before);
        turn_part(self, token, 1.0f, part);
    }
    to_latents(self, before, turned);
}

/* n columns of the recorded row from `first` on, as the latents have them; added. */
static void from_latents(const struct mla_code *self, const float *latents, uint32_t first,
                         uint32_t n, float factor, float *out)
{
    const struct shape *shape = &self->shape;
    if (shape->whole) {
        for (uint32_t r = 0; r < shape->rank; r++)
            if (self->columns[r] >= first && self->columns[r] < first + n)
                out[self->columns[r] - first] += latents[r];
        return;
    }
    for (uint32_t c = 0; c < n; c++)
        out[c] += factor * self->kernels->dot(self->basis + (size_t)(first + c) * shape->rank,
                                              latents, shape->rank);
}

static void turn_back(const struct kv_code *code, uint32_t token, const float *turned, float *row)
{
    const struct mla_code *self = (const struct mla_code *)code;
    const struct shape *shape = &self->shape;
    memset(row, 0, shape->dim * sizeof *row);
    if (shape->latent_already) {
        from_latents(self, turned, 0, shape->value, 1.0f, row);
        memcpy(row + shape->value, turned + shape->rank, shape->tail * sizeof *row);
        return;
    }
    float *part = self->row; /* tail <= dim */
    memcpy(part, turned + shape->rank, shape->tail * sizeof *part);
    turn_part(self, token, -1.0f, part);
    for (uint32_t h = 0; h < shape->heads; h++) {
        float *key = row + (size_t)h * shape->lane;
        from_latents(self, turned, h * shape->lane, shape->key, self->balance, key);
        from_latents(self, turned, h * shape->lane + shape->key, shape->value, 1.0f,
                     key + shape->key);
        for (uint32_t k = 0; k < shape->kept; k++) {
            const float *u = self->directions + ((size_t)k * shape->heads + h) * shape->fold;
            for (uint32_t f = 0; f < shape->fold; f++) {
                const uint32_t *pair = self->pairs[k / shape->each * shape->fold + f];
                key[pair[0]] += u[f] * part[k], key[pair[1]] += u[f] * part[shape->kept + k];
            }
        }
        turn_key(self, token, 1.0f, key);
    }
}

static void turn_query(const struct kv_code *code, uint32_t lane, uint32_t token,
                       const float *query, float *turned)
{
    const struct mla_code *self = (const struct mla_code *)code;
    const struct shape *shape = &self->shape;
    float *before = self->row, *part = turned + shape->rank;
    memset(before, 0, shape->dim * sizeof *before);
    memcpy(before, query, shape->key * sizeof *before);
    if (shape->latent_already) {
        to_latents(self, before, turned);
        memcpy(part, query + shape->value, shape->tail * sizeof *part);
        return;
    }
    turn_key(self, token, -1.0f, before);
    memset(part, 0, shape->tail * sizeof *part);
    add_components(self, lane, shape->whole ? query : before, part);
    if (shape->whole) {
        whole_latents(self, before, turned);
        return;
    }
    turn_part(self, token, 1.0f, part);
    self->kernels->rotate(self->basis + (size_t)lane * shape->lane * shape->rank, shape->rank,
                          shape->key, before, turned);
    self->kernels->scale(turned, shape->rank, self->balance);
}

static void turn_output(const struct kv_code *code, uint32_t lane, const float *turned,
                        float *output)
{
    const struct mla_code *self = (const struct mla_code *)code;
    const struct shape *shape = &self->shape;
    const uint32_t first = shape->latent_already ? 0 : lane * shape->lane + shape->key;
    from_latents(self, turned, first, shape->value, 1.0f, output);
}

static uint32_t turned_columns(const struct kv_code *code, enum kv_side side)
{
    const struct shape *shape = &((const struct mla_code *)code)->shape;
    return side == KV_VALUES ? shape->rank : shape->rank + shape->tail;
}

/* ---- fit ---- */

/* Directions without energy are none: which they were would be for rounding to say. */
static float entry(double x, double value, double largest)
{
    return value > 1e-12 * largest ? kv_half_to_float(kv_finite_half((float)x)) : 0.0f;
}

struct fitting {
    struct mla_code *self;
    uint32_t n, dim;
    double *rows; /* [n][dim] keys before rotation, less what is kept; or latents as recorded */
    double *matrix, *values;
};

/* The sum of x x^T + y y^T over a group's components, [m][m], m = heads * fold. */
static void add_pairs(const struct fitting *fitting, uint32_t group, double *matrix)
{
    const struct mla_code *self = fitting->self;
    const struct shape *shape = &self->shape;
    const uint32_t m = shape->heads * shape->fold;
    memset(matrix, 0, (size_t)m * m * sizeof *matrix);
    for (uint32_t i = 0; i < fitting->n; i++)
        for (int half = 0; half < 2; half++)
            for (uint32_t r = 0; r < m; r++) {
                const double *row = fitting->rows + (size_t)i * fitting->dim;
                const uint32_t first = group * shape->fold;
                const double x = row[(size_t)(r / shape->fold) * shape->lane +
                                     self->pairs[first + r % shape->fold][half]];
                for (uint32_t c = 0; c < m; c++)
                    matrix[(size_t)r * m + c] +=
                        x * row[(size_t)(c / shape->fold) * shape->lane +
                                self->pairs[first + c % shape->fold][half]];
            }
}

static int fit_directions(const struct fitting *fitting, struct kv_error *err)
{
    struct mla_code *self = fitting->self;
    const struct shape *shape = &self->shape;
    const uint32_t m = shape->heads * shape->fold;
    int status = KV_OK;
    for (uint32_t k = 0; status == KV_OK && k < shape->kept; k += shape->each) {
        add_pairs(fitting, k / shape->each, fitting->matrix);
        status = kv_eigen_symmetric(fitting->matrix, m, fitting->values, err);
        for (uint32_t a = 0; a < shape->each; a++)
            for (uint32_t c = 0; c < m; c++)
                self->directions[(size_t)(k + a) * m + c] = entry(
                    fitting->matrix[(size_t)a * m + c], fitting->values[a], fitting->values[0]);
    }
    return status;
}

/* Takes the kept components off a row of keys before rotation; amplitudes [2 kept] is scratch. */
static void take_components(const struct mla_code *self, double *row, double *amplitudes)
{
    const struct shape *shape = &self->shape;
    const uint32_t m = shape->heads * shape->fold;
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t k = 0; k < 2 * shape->kept; k++) {
            const uint32_t component = k % shape->kept, half = k / shape->kept;
            const float *u = self->directions + (size_t)component * m;
            const uint32_t first = component / shape->each * shape->fold;
            if (!pass) amplitudes[k] = 0;
            for (uint32_t c = 0; c < m; c++) {
                double *x = row + (size_t)(c / shape->fold) * shape->lane +
                            self->pairs[first + c % shape->fold][half];
                if (pass)
                    *x -= amplitudes[k] * u[c];
                else
                    amplitudes[k] += *x * u[c];
            }
        }
}

/* Mean length of keys, or of values, of all heads together, in the rows as they are. */
static double mean_length(const struct fitting *fitting, uint32_t first, uint32_t n)
{
    const struct shape *shape = &fitting->self->shape;
    double sum = 0;
    for (uint32_t i = 0; i < fitting->n; i++) {
        const double *row = fitting->rows + (size_t)i * fitting->dim + first;
        double square = 0;
        for (uint32_t h = 0; h < shape->heads; h++, row += shape->lane)
            for (uint32_t c = 0; c < n; c++) square += row[c] * row[c];
        sum += sqrt(square);
    }
    return sum / fitting->n;
}

/* Keys of which only the rounding of the kept directions is left (before: their length then) weigh
 * nothing. */
static void balance_rows(struct fitting *fitting, double before)
{
    struct mla_code *self = fitting->self;
    const struct shape *shape = &self->shape;
    const double keys = mean_length(fitting, 0, shape->key),
                 values = mean_length(fitting, shape->key, shape->value);
    if (keys > before * 0x1p-8 && values > 0) self->balance = (float)(keys / values);
    for (uint32_t i = 0; i < fitting->n; i++)
        for (uint32_t h = 0; h < shape->heads; h++)
            for (uint32_t c = 0; c < shape->key; c++)
                fitting->rows[(size_t)i * fitting->dim + (size_t)h * shape->lane + c] /=
                    (double)self->balance;
}

static int fit_basis(const struct fitting *fitting, struct kv_error *err)
{
    struct mla_code *self = fitting->self;
    const uint32_t dim = fitting->dim, rank = self->shape.rank;
    memset(fitting->matrix, 0, (size_t)dim * dim * sizeof(double));
    for (uint32_t i = 0; i < fitting->n; i++) {
        const double *row = fitting->rows + (size_t)i * dim;
        for (uint32_t r = 0; r < dim; r++)
            for (uint32_t c = r; c < dim; c++)
                fitting->matrix[(size_t)r * dim + c] += row[r] * row[c];
    }
    for (uint32_t r = 0; r < dim; r++)
        for (uint32_t c = 0; c < r; c++)
            fitting->matrix[(size_t)r * dim + c] = fitting->matrix[(size_t)c * dim + r];
    const int status = kv_eigen_symmetric(fitting->matrix, dim, fitting->values, err);
    for (uint32_t k = 0; status == KV_OK && k < rank; k++)
        for (uint32_t c = 0; c < dim; c++)
            self->basis[(size_t)c * rank + k] =
                entry(fitting->matrix[(size_t)k * dim + c], fitting->values[k], fitting->values[0]);
    return status;
}

/* Rows of a fit come with keys before rotation, without the scale that rotation has. */
static void widen_rows(const struct fitting *fitting, const struct kv_sample *sample)
{
    const struct mla_code *self = fitting->self;
    const struct shape *shape = &self->shape;
    const struct kv_rope *rope = &self->geometry->rope;
    const uint32_t scaled = rope->layout == KV_ROPE_NONE ? 0 : rope->dims;
    for (uint32_t i = 0; i < fitting->n; i++)
        for (uint32_t c = 0; c < fitting->dim; c++)
            fitting->rows[(size_t)i * fitting->dim + c] =
                (double)sample->rows[(size_t)i * shape->dim + c] *
                (c % shape->lane < scaled ? rope->scale : 1.0);
}

static int fit_maps(struct mla_code *self, const struct kv_sample *sample, struct kv_error *err)
{
    const struct shape *shape = &self->shape;
    const uint32_t dim = basis_rows(shape), m = shape->heads * shape->fold,
                   side = dim > m ? dim : m;
    const size_t rows = (size_t)sample->n * dim, square = (size_t)side * side;
    double *memory = calloc(rows + square + 2 * (size_t)side, sizeof *memory);
    if (!memory) return kv_fail(err, KV_EMEMORY, "mla: no memory for Gram matrices of %u", side);
    struct fitting fitting = {.self = self,
                              .n = sample->n,
                              .dim = dim,
                              .rows = memory,
                              .matrix = memory + rows,
                              .values = memory + rows + square};
    int status = KV_OK;
    widen_rows(&fitting, sample);
    if (!shape->latent_already) {
        const double before = mean_length(&fitting, 0, shape->key);
        status = fit_directions(&fitting, err);
        for (uint32_t i = 0; i < sample->n; i++)
            take_components(self, fitting.rows + (size_t)i * dim, fitting.values + side);
        balance_rows(&fitting, before);
    }
    if (status == KV_OK) status = fit_basis(&fitting, err);
    free(memory);
    return status;
}

/* The sample's rows as the inner codec will get them. Rotated at the token's own position. */
static void sample_row(struct mla_code *self, const struct kv_sample *sample, uint32_t i,
                       float *turned)
{
    const struct shape *shape = &self->shape;
    const struct kv_rope *rope = &self->geometry->rope;
    const float *row = sample->rows + (size_t)i * shape->dim;
    const uint32_t token = sample->positions[i];
    const double position =
        token < self->geometry->tokens ? (double)self->geometry->positions[token] : token;
    float *before = self->row, *part = turned + shape->rank;
    for (uint32_t c = 0; c < shape->dim; c++) {
        const bool scaled = rope->layout != KV_ROPE_NONE && c % shape->lane < rope->dims;
        before[c] = scaled ? (float)(row[c] * rope->scale) : row[c];
    }
    for (uint32_t c = 0; shape->latent_already && c < shape->tail; c++)
        part[c] = before[shape->value + c];
    if (!shape->latent_already) memset(part, 0, shape->tail * sizeof *part);
    for (uint32_t h = 0; !shape->latent_already && h < shape->heads; h++)
        add_components(self, h, before + (size_t)h * shape->lane, part);
    if (!shape->whole) take_off(self, part, before);
    for (uint32_t k = 0; k < shape->kept; k++) {
        double cosine, sine;
        kv_cos_sin(position * frequency_of(self, k), &cosine, &sine);
        const double x = part[k], y = part[shape->kept + k];
        part[k] = (float)(x * cosine - y * sine),
        part[shape->kept + k] = (float)(x * sine + y * cosine);
    }
    to_latents(self, before, turned);
}

static int fit_inner(struct mla_code *self, const struct kv_sample *sample, struct kv_error *err)
{
    if (!self->inner->type->fit) return KV_OK;
    float *rows = calloc((size_t)sample->n * self->code.dim + 1, sizeof *rows);
    if (!rows) return kv_fail(err, KV_EMEMORY, "mla: no memory for %u rows", sample->n);
    for (uint32_t i = 0; i < sample->n && !sample->sizes_only; i++)
        sample_row(self, sample, i, rows + (size_t)i * self->code.dim);
    const struct kv_sample turned = {.n = sample->n,
                                     .sizes_only = sample->sizes_only,
                                     .counted = sample->counted,
                                     .rows = rows,
                                     .positions = sample->positions,
                                     .behind = "mla"};
    const int status = self->inner->type->fit(self->inner, &turned, err);
    free(rows);
    self->code.payload_bytes = self->inner->payload_bytes;
    self->code.metadata_bytes = self->inner->metadata_bytes;
    return status;
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct mla_code *self = (struct mla_code *)code;
    const struct shape *shape = &self->shape;
    if (shape->whole) return fit_inner(self, sample, err);
    if (kv_sample_is_short(sample, shape->rank))
        return kv_fail(err, KV_EUNSUPPORTED, "mla: rank %u of a prompt of %u rows", shape->rank,
                       kv_sample_rows(sample));
    const int status = sample->sizes_only ? KV_OK : fit_maps(self, sample, err);
    const int64_t halves = (int64_t)basis_rows(shape) * shape->rank +
                           (int64_t)shape->kept * shape->heads * shape->fold;
    kv_pool_charge(self->pool, KV_BASIS_ONLINE, 2 * halves + (shape->latent_already ? 0 : 4));
    return status ? status : fit_inner(self, sample, err);
}

/* ---- turned rows ---- */

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct kv_code *inner = ((struct mla_code *)code)->inner;
    inner->type->encode(inner, rows, atom);
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct kv_code *inner = ((const struct mla_code *)code)->inner;
    inner->type->decode(inner, atoms, n_atoms, first_column, n_columns, out);
}

static uint32_t span(const void *config)
{
    (void)config;
    return KV_SPAN_SIDES | KV_SPAN_HEADS;
}

static const struct kv_turn turn = {.columns = turned_columns,
                                    .row = turn_row,
                                    .back = turn_back,
                                    .query = turn_query,
                                    .output = turn_output};

const struct kv_codec kv_codec_mla = {
    .name = "mla",
    .summary = "one latent for K and V of all heads, and a rotary part beside it",
    .paper = "TransMLA (Meng et al., arXiv 2502.07864); DeepSeek-V2 (arXiv 2405.04434)",
    .traits = KV_LEAVES_ROWS | KV_FITS_PROMPT | KV_UNROTATED_KEYS,
    .params = params,
    .config_size = sizeof(struct config),
    .span = span,
    .create = create,
    .fit = fit,
    .encode = encode,
    .decode = decode,
    .used = kv_wrapped_used,
    .turn = &turn};
