/* turboquant: a random rotation makes every coordinate of a row's direction follow one known law,
 * so one optimal scalar codebook serves them all (Zandieh et al., arXiv 2504.19874).
 *
 * mode=mse (algorithm 1), b bits: n = |x|, y = R x / n, code_j = nearest centroid of y_j, kept
 * f16(n); x_hat = n R^T c[code]. The codebook is Lloyd-Max for the coordinate of a random unit
 * vector of this very dimension (parts/codebook.h), made at create.
 *
 * mode=prod (algorithm 2): mse with b - 1 bits (none at b = 1), then the signs of a sketch of the
 * residual r = y - c[code] and f16(|r|): x_hat = n R^T (c[code] + factor |r| S^T sign(S r)), factor
 * = sqrt(pi / 2) / d; unbiased. The sketch acts on the rotated residual, which is the same in law
 * as the paper's S r of the row. sketch=orthogonal takes a Haar matrix for S, and the factor that
 * makes it unbiased: 1 / (d E|u_1|) of a random unit vector u.
 *
 * norm= (mse only; y_hat = c[code]): raw n (the paper) | matched n / |y_hat| | unbiased n / <y_hat,
 * y> (EDEN, arXiv 2604.18555) | least-squares n <y_hat, y> / |y_hat|^2.
 *
 * bits=2.5 and 3.5 (section 4.3): the channels of largest RMS over the prompt are a vector of their
 * own: a quarter of them (the nearest number, of two the larger, at least one) at 3 bits and the
 * rest at 2; half (of an odd number the larger) at 4 and the rest at 3. Two rotations, two norms.
 *
 * Bytes: payload ceil(d b / 8) (prod: ceil(d (b - 1) / 8) + ceil(d / 8)); metadata 2 for the norm
 * (prod: 4), each part of a fractional row its own; mask of the outlying channels ceil(d / 8),
 * basis_online.
 *
 * The rotation comes from the seed, the same for all heads and layers: regenerated, so nothing.
 *
 * Rows are encoded at once, generated ones too (the paper has no window).
 *
 * Departures: rotation=auto is a randomised Hadamard transform where the dimension is a power of
 * two (same error, n log n); the paper's QR rotation is rotation=haar. The paper states neither the
 * norm's precision nor the outlier rule nor the split of 3.5. Vectors of one or two columns take
 * the codebook of three: the law of their coordinates is unbounded at its ends. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "methods/parts/codebook.h"
#include "methods/parts/codes.h"
#include "methods/parts/rotation.h"
#include "methods/codec.h"

extern const struct kv_codec kv_codec_turboquant;

static const double PI = 3.14159265358979323846;

enum mode { MODE_MSE, MODE_PROD };
enum rotation { ROTATION_AUTO, ROTATION_HADAMARD, ROTATION_HAAR };
enum norm { NORM_RAW, NORM_MATCHED, NORM_UNBIASED, NORM_LEAST_SQUARES };
enum sketch { SKETCH_GAUSSIAN, SKETCH_ORTHOGONAL };
/* Rows whose lengths are waited for together, as far as the stack holds them turned. */
enum { AT_ONCE = 8 };
enum stream { STREAM_ROTATION = 0x7401, STREAM_SKETCH = 0x7402 };

struct config {
    double bits;
    uint32_t mode, rotation, norm, sketch;
};

static const struct kv_param params[] = {
    {"bits", KV_PARAM_REAL, offsetof(struct config, bits), 4, 1, 5, NULL,
     "bits a coordinate: 1 to 5, or 2.5 or 3.5 with outlying channels apart"},
    {"mode", KV_PARAM_CHOICE, offsetof(struct config, mode), MODE_MSE, 0, 0, "mse|prod",
     "smallest error, or unbiased inner products"},
    {"rotation", KV_PARAM_CHOICE, offsetof(struct config, rotation), ROTATION_AUTO, 0, 0,
     "auto|hadamard|haar", "auto: hadamard where the dimension is a power of two, else haar"},
    {"norm", KV_PARAM_CHOICE, offsetof(struct config, norm), NORM_RAW, 0, 0,
     "raw|matched|unbiased|least-squares", "what is kept as a row's length"},
    {"sketch", KV_PARAM_CHOICE, offsetof(struct config, sketch), SKETCH_GAUSSIAN, 0, 0,
     "gaussian|orthogonal", "mode=prod: the matrix whose signs are kept"},
    {0}};

struct part {         /* one rotated vector of a row: all of it, or some channels */
    uint32_t n, bits; /* columns; bits of the codebook, 0 = none */
    uint32_t codes_bytes, signs_bytes;
    struct kv_rotation rotation, sketch;
    float *thresholds, *table; /* in units of sqrt(n) y; of y */
    struct kv_cells cells;     /* of the thresholds */
    float sketch_factor;
};

struct turboquant_code {
    struct kv_code code;
    const struct kv_kernels *kernels;
    struct kv_pool *pool;
    struct config config;
    uint32_t n_parts;
    struct part parts[2]; /* outlying channels first */
    uint32_t *order;      /* [dim] column of each place: the parts' columns, ascending */
    uint8_t *codes, *signs;
    float *gathered, *turned, *coded, *row;
};

/* ---- create ---- */

/* How bits split over a row of dim columns: n_parts and each part's columns and bits. */
static int split(struct turboquant_code *self, uint32_t dim, struct kv_error *err)
{
    const double bits = self->config.bits;
    const uint32_t whole = (uint32_t)bits;
    struct part *parts = self->parts;
    self->n_parts = 1;
    parts[0].n = dim, parts[0].bits = whole;
    if (bits == whole) return KV_OK;
    if (bits != 2.5 && bits != 3.5)
        return kv_fail(err, KV_EUNSUPPORTED, "turboquant: bits=%g is neither whole nor 2.5 or 3.5",
                       bits);
    if (dim < 2)
        return kv_fail(err, KV_EUNSUPPORTED, "turboquant: bits=%g needs two columns", bits);
    const uint32_t outliers = bits == 2.5 ? (dim + 2) / 4 : (dim + 1) / 2;
    self->n_parts = 2;
    parts[0].n = outliers ? outliers : 1, parts[0].bits = whole + 1;
    parts[1].n = dim - parts[0].n, parts[1].bits = whole;
    return KV_OK;
}

static int make_table(struct part *part, struct kv_pool *pool, struct kv_error *err)
{
    if (!part->bits) return KV_OK;
    struct kv_codebook book;
    kv_codebook_fill(&book, part->n, part->bits);
    part->thresholds = kv_pool_reserve(pool, KV_WORKSPACE, (book.n - 1) * sizeof(float));
    part->table = kv_pool_reserve(pool, KV_WORKSPACE, book.n * sizeof(float));
    if (!part->thresholds || !part->table) return kv_fail(err, KV_EMEMORY, "turboquant: no memory");
    for (uint32_t i = 0; i + 1 < book.n; i++) part->thresholds[i] = (float)book.thresholds[i];
    for (uint32_t i = 0; i < book.n; i++)
        part->table[i] = (float)(book.centroids[i] / sqrt(part->n));
    kv_cells_prepare(&part->cells, part->thresholds, book.n - 1, (float)sqrt(part->n));
    return KV_OK;
}

/* A Haar row times a unit vector has mean magnitude c / sqrt(n), c the one-bit centroid. */
static int make_sketch(struct part *part, uint32_t which, const struct config *config,
                       const struct kv_setup *setup, struct kv_error *err)
{
    const struct kv_rng rng = kv_rng_stream(setup->seed, STREAM_SKETCH, which, part->n);
    struct kv_codebook sign;
    kv_codebook_fill(&sign, part->n, 1);
    part->signs_bytes = (part->n + 7) / 8;
    part->sketch_factor = config->sketch == SKETCH_GAUSSIAN
                              ? (float)(sqrt(PI / 2) / part->n)
                              : (float)(1.0 / (sqrt(part->n) * sign.centroids[1]));
    return kv_rotation_create(
        &part->sketch, setup, part->n,
        config->sketch == SKETCH_GAUSSIAN ? KV_ROTATE_GAUSSIAN : KV_ROTATE_HAAR, rng, err);
}

static int make_part(struct part *part, uint32_t which, const struct config *config,
                     const struct kv_setup *setup, struct kv_error *err)
{
    const bool power = !(part->n & (part->n - 1)) && part->n <= 4096;
    const bool hadamard =
        config->rotation == ROTATION_HADAMARD || (config->rotation == ROTATION_AUTO && power);
    const struct kv_rng rng = kv_rng_stream(setup->seed, STREAM_ROTATION, which, part->n);
    if (config->mode == MODE_PROD) part->bits--;
    part->codes_bytes = kv_packed_bytes(part->n, part->bits);
    int status = kv_rotation_create(&part->rotation, setup, part->n,
                                    hadamard ? KV_ROTATE_HADAMARD : KV_ROTATE_HAAR, rng, err);
    if (!status) status = make_table(part, setup->pool, err);
    if (!status && config->mode == MODE_PROD) status = make_sketch(part, which, config, setup, err);
    return status;
}

static int make_scratch(struct turboquant_code *self, const struct kv_setup *setup,
                        struct kv_error *err)
{
    const uint32_t dim = setup->dim;
    self->order = kv_pool_reserve(setup->pool, KV_WORKSPACE, dim * sizeof *self->order);
    self->codes = kv_pool_reserve(setup->pool, KV_WORKSPACE, dim);
    self->signs = kv_pool_reserve(setup->pool, KV_WORKSPACE, dim);
    float *floats = kv_pool_reserve(setup->pool, KV_WORKSPACE, 4 * (size_t)dim * sizeof *floats);
    if (!self->order || !self->codes || !self->signs || !floats)
        return kv_fail(err, KV_EMEMORY, "turboquant: no memory for rows of %u", dim);
    self->gathered = floats, self->turned = floats + dim;
    self->coded = floats + 2 * (size_t)dim, self->row = floats + 3 * (size_t)dim;
    for (uint32_t c = 0; c < dim; c++) self->order[c] = c;
    return KV_OK;
}

static const struct kv_codec whole;

static struct kv_code face(const struct turboquant_code *self, uint32_t dim)
{
    struct kv_code code = {.type = self->n_parts > 1 ? &kv_codec_turboquant : &whole,
                           .dim = dim,
                           .block = 1,
                           .tiers = {.flush = 1, .coded_at_once = true}};
    for (uint32_t p = 0; p < self->n_parts; p++) {
        code.payload_bytes += self->parts[p].codes_bytes + self->parts[p].signs_bytes;
        code.metadata_bytes += self->config.mode == MODE_PROD ? 4 : 2;
    }
    return code;
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct turboquant_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "turboquant: no memory");
    self->kernels = setup->kernels, self->pool = setup->pool;
    self->config = *(const struct config *)setup->config;
    if (self->config.mode == MODE_PROD && self->config.norm != NORM_RAW)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "turboquant: mode=prod is unbiased already, norm= must be raw");
    int status = split(self, setup->dim, err);
    for (uint32_t p = 0; !status && p < self->n_parts; p++)
        status = make_part(&self->parts[p], p, &self->config, setup, err);
    if (!status) status = make_scratch(self, setup, err);
    if (status) return status;
    self->code = face(self, setup->dim);
    *out = &self->code;
    return KV_OK;
}

/* ---- fit: which channels are outlying ---- */

/* Places of the m largest energies come first, then the rest, both by ascending column; of equal
 * energies the lower column counts as larger. */
static void choose(uint32_t *order, const double *energy, uint32_t dim, uint32_t m)
{
    uint32_t large = 0, other = m;
    for (uint32_t c = 0; c < dim; c++) {
        uint32_t rank = 0;
        for (uint32_t o = 0; o < dim; o++)
            rank += energy[o] > energy[c] || (energy[o] == energy[c] && o < c);
        order[rank < m ? large++ : other++] = c;
    }
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct turboquant_code *self = (struct turboquant_code *)code;
    double *energy = calloc(code->dim, sizeof *energy);
    if (!energy)
        return kv_fail(err, KV_EMEMORY, "turboquant: no memory for %u channels", code->dim);
    for (uint32_t i = 0; i < sample->n; i++)
        for (uint32_t c = 0; c < code->dim; c++) {
            const double x = sample->rows[(size_t)i * code->dim + c];
            energy[c] += x * x;
        }
    choose(self->order, energy, code->dim, self->parts[0].n);
    free(energy);
    kv_pool_charge(self->pool, KV_BASIS_ONLINE, (code->dim + 7) / 8);
    return KV_OK;
}

/* ---- encode ---- */

/* Length of a row whose squares leave the floats: x becomes a vector of a like direction, by an
 * exact change of scale, that is safe to divide by what *as_scaled holds. */
static float extreme_length(const struct kv_kernels *kernels, float *x, uint32_t n,
                            float *as_scaled)
{
    float min, max;
    kernels->min_max(x, n, &min, &max);
    const float amax = max > -min ? max : -min;
    if (!(amax > 0)) return *as_scaled = 0.0f;
    const bool large = amax > 0x1p50f, small = amax < 0x1p-50f;
    if (large) kernels->scale(x, n, 0x1p-80f);
    if (small) kernels->scale(x, n, 0x1p90f);
    *as_scaled = sqrtf(kernels->sum_squares(x, n));
    return *as_scaled * (large ? 0x1p80f : small ? 0x1p-90f : 1.0f);
}

/* Length of x, whose squares sum up to `square` and whose turned row is there. Where squares leave the
 * floats, a copy is turned that extreme_length makes. The largest of n values is at most the root of
 * their sum of squares and at least an n-th of it. */
static float length_of(struct turboquant_code *self, const struct part *part, const float *x,
                       float square, float *turned, float *as_scaled)
{
    const uint32_t n = part->n;
    if (square <= 0x1p100f && square >= 0x1p-100f * (float)n) return *as_scaled = sqrtf(square);
    memmove(self->gathered, x, n * sizeof *x);
    const float length = extreme_length(self->kernels, self->gathered, n, as_scaled);
    kv_rotation_apply(&part->rotation, self->gathered, turned);
    return length;
}

/* What is kept as the length so that y_hat fits y as norm= asks. Sums in double, in order. */
static float adjusted(enum norm norm, float length_of_row, const float *y_hat, const float *y,
                      uint32_t n)
{
    double across = 0, square = 0;
    if (norm == NORM_RAW) return length_of_row;
    for (uint32_t i = 0; i < n; i++) {
        across += (double)y_hat[i] * y[i];
        square += (double)y_hat[i] * y_hat[i];
    }
    const double factor = norm == NORM_MATCHED    ? 1.0 / sqrt(square)
                          : norm == NORM_UNBIASED ? 1.0 / across
                                                  : across / square;
    return (float)(length_of_row * factor);
}

/* Codes of the turned vector; for who asks, turned becomes y and coded y_hat. */
static void encode_codes(struct turboquant_code *self, const struct part *part, float as_scaled,
                         uint8_t *atom)
{
    const struct kv_kernels *kernels = self->kernels;
    const uint32_t n = part->n;
    const float unit = 1.0f / as_scaled;
    const bool asked = self->config.mode == MODE_PROD || self->config.norm != NORM_RAW;
    if (part->bits) {
        kernels->cell_codes(&part->cells, self->turned, n, unit, self->codes);
        kernels->pack_bits(self->codes, n, part->bits, atom);
    }
    if (!asked) return;
    kernels->scale(self->turned, n, unit);
    if (part->bits)
        kernels->lookup(self->codes, n, part->table, 1.0f, self->coded);
    else
        memset(self->coded, 0, n * sizeof *self->coded);
}

/* Signs of the sketched residual; its length is returned. */
static float encode_signs(struct turboquant_code *self, const struct part *part, uint8_t *atom)
{
    for (uint32_t i = 0; i < part->n; i++) self->coded[i] = self->turned[i] - self->coded[i];
    kv_rotation_apply(&part->sketch, self->coded, self->turned);
    self->kernels->sign_bits(self->turned, part->n, atom);
    return sqrtf(self->kernels->sum_squares(self->coded, part->n));
}

/* x -> codes, signs, norm, residual norm. A zero row has norm 0: its codes are never felt. */
static uint8_t *encode_part(struct turboquant_code *self, const struct part *part, const float *x,
                            uint8_t *atom)
{
    const bool prod = self->config.mode == MODE_PROD;
    uint8_t *signs = atom + part->codes_bytes, *norms = signs + part->signs_bytes;
    float square;
    kv_rotation_apply_measured(&part->rotation, x, 1, self->turned, &square);
    float as_scaled, size = length_of(self, part, x, square, self->turned, &as_scaled), rest = 0;
    if (!(as_scaled > 0)) {
        memset(atom, 0, part->codes_bytes + part->signs_bytes);
    } else {
        encode_codes(self, part, as_scaled, atom);
        size = adjusted((enum norm)self->config.norm, size, self->coded, self->turned, part->n);
        if (prod) rest = encode_signs(self, part, signs);
    }
    kv_keep_half(norms, size);
    if (prod) kv_keep_half(norms + 2, rest);
    return norms + (prod ? 4 : 2);
}

static void encode_parts(struct turboquant_code *self, const float *rows, uint8_t *atom)
{
    const uint32_t *order = self->order;
    for (uint32_t p = 0; p < self->n_parts; order += self->parts[p++].n) {
        for (uint32_t i = 0; self->n_parts > 1 && i < self->parts[p].n; i++)
            self->gathered[i] = rows[order[i]];
        atom = encode_part(self, &self->parts[p], self->n_parts > 1 ? self->gathered : rows, atom);
    }
}

/* Codes and lengths alone of up to AT_ONCE rows: each step is taken by all of them before the next one
 * begins, which has all their lengths to wait for and not one after the other. */
static void encode_some(struct turboquant_code *self, const float *rows, uint32_t n_rows,
                        uint8_t *atoms)
{
    const struct part *part = &self->parts[0];
    const struct kv_kernels *kernels = self->kernels;
    const uint32_t n = part->n;
    const size_t atom_bytes = kv_atom_bytes(&self->code);
    float turned[KV_CODEC_SCRATCH], squares[AT_ONCE], lengths[AT_ONCE] = {0};
    float as_scaled[AT_ONCE], units[AT_ONCE];
    uint16_t kept[AT_ONCE];
    kv_rotation_apply_measured(&part->rotation, rows, n_rows, turned, squares);
    for (uint32_t r = 0; r < n_rows; r++)
        lengths[r] =
            length_of(self, part, rows + r * n, squares[r], turned + r * n, &as_scaled[r]);
    for (uint32_t r = 0; r < n_rows; r++) units[r] = as_scaled[r] > 0 ? 1.0f / as_scaled[r] : 0;
    kernels->pack_cells(&part->cells,
                        &(struct kv_cell_rows){turned, units, n_rows, n, part->bits, atom_bytes},
                        atoms);
    kernels->narrow_finite(lengths, kept, n_rows);
    for (uint32_t r = 0; r < n_rows; r++, atoms += atom_bytes) {
        if (!(as_scaled[r] > 0)) memset(atoms, 0, part->codes_bytes);
        memcpy(atoms + part->codes_bytes, &kept[r], sizeof kept[r]);
    }
}

static void encode_atoms(struct kv_code *code, const float *rows, uint32_t n_atoms, uint8_t *atoms)
{
    struct turboquant_code *self = (struct turboquant_code *)code;
    const uint32_t fit = KV_CODEC_SCRATCH / code->dim, most = fit < AT_ONCE ? fit : AT_ONCE;
    const bool plain = self->n_parts == 1 && self->config.mode == MODE_MSE &&
                       self->config.norm == NORM_RAW && most > 0;
    for (uint32_t some; n_atoms > 0; n_atoms -= some) {
        some = !plain ? 1 : n_atoms < most ? n_atoms : most;
        if (plain)
            encode_some(self, rows, some, atoms);
        else
            encode_parts(self, rows, atoms);
        rows += (size_t)some * code->dim;
        atoms += some * kv_atom_bytes(code);
    }
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    encode_atoms(code, rows, 1, atom);
}

/* ---- decode ---- */

/* coded += what the signs say of the residual, times size. */
static void decode_signs(const struct turboquant_code *self, const struct part *part,
                         const uint8_t *signs, float size, float *coded)
{
    self->kernels->unpack_bits(signs, part->n, 1, self->signs);
    kv_signs_of(self->signs, part->n, self->gathered);
    kv_rotation_undo(&part->sketch, self->gathered, self->turned);
    for (uint32_t i = 0; i < part->n; i++) coded[i] += self->turned[i] * size;
}

/* n y_hat, as it was coded. */
static const uint8_t *decode_turned_part(const struct turboquant_code *self,
                                         const struct part *part, const uint8_t *atom, float *coded)
{
    const bool prod = self->config.mode == MODE_PROD;
    const uint8_t *signs = atom + part->codes_bytes, *norms = signs + part->signs_bytes;
    const float size = kv_kept_half(norms);
    if (part->bits)
        self->kernels->lookup_packed(atom, part->n, part->bits, part->table, size, coded);
    else
        memset(coded, 0, part->n * sizeof *coded);
    if (prod)
        decode_signs(self, part, signs, size * kv_kept_half(norms + 2) * part->sketch_factor,
                     coded);
    return norms + (prod ? 4 : 2);
}

static const uint8_t *decode_part(const struct turboquant_code *self, const struct part *part,
                                  const uint8_t *atom, float *out)
{
    atom = decode_turned_part(self, part, atom, self->coded);
    kv_rotation_undo(&part->rotation, self->coded, out);
    return atom;
}

static void decode_row(const struct turboquant_code *self, const uint8_t *atom, float *row)
{
    const uint32_t *order = self->order;
    if (self->n_parts == 1) {
        decode_part(self, &self->parts[0], atom, row);
        return;
    }
    for (uint32_t p = 0; p < self->n_parts; order += self->parts[p++].n) {
        atom = decode_part(self, &self->parts[p], atom, self->turned);
        for (uint32_t i = 0; i < self->parts[p].n; i++) row[order[i]] = self->turned[i];
    }
}

/* A rotation mixes all columns: a column range costs the whole row. */
static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct turboquant_code *self = (const struct turboquant_code *)code;
    for (uint32_t a = 0; a < n_atoms; a++, atoms += kv_atom_bytes(code), out += n_columns) {
        if (n_columns == code->dim) {
            decode_row(self, atoms, out);
            continue;
        }
        decode_row(self, atoms, self->row);
        memcpy(out, self->row + first_column, n_columns * sizeof *out);
    }
}

/* ---- without the way back: queries are rotated, and sums of values rotated back ---- */

static uint32_t turned_columns(const struct kv_code *code, enum kv_side side)
{
    (void)side;
    return code->dim;
}

static void decode_turned(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                          float *out)
{
    const struct turboquant_code *self = (const struct turboquant_code *)code;
    for (uint32_t a = 0; a < n_atoms; a++)
        for (uint32_t p = 0; p < self->n_parts; out += self->parts[p++].n)
            atoms = decode_turned_part(self, &self->parts[p], atoms, out);
}

static void turn_query(const struct kv_code *code, uint32_t lane, uint32_t token,
                       const float *query, float *turned)
{
    const struct turboquant_code *self = (const struct turboquant_code *)code;
    const uint32_t *order = self->order;
    (void)lane, (void)token;
    for (uint32_t p = 0; p < self->n_parts;
         order += self->parts[p].n, turned += self->parts[p++].n) {
        for (uint32_t i = 0; i < self->parts[p].n; i++) self->gathered[i] = query[order[i]];
        kv_rotation_apply(&self->parts[p].rotation, self->gathered, turned);
    }
}

static void turn_output(const struct kv_code *code, uint32_t lane, const float *turned,
                        float *output)
{
    const struct turboquant_code *self = (const struct turboquant_code *)code;
    const uint32_t *order = self->order;
    (void)lane;
    for (uint32_t p = 0; p < self->n_parts;
         order += self->parts[p].n, turned += self->parts[p++].n) {
        kv_rotation_undo(&self->parts[p].rotation, turned, self->row);
        for (uint32_t i = 0; i < self->parts[p].n; i++) output[order[i]] += self->row[i];
    }
}

static const struct kv_turn turn = {.columns = turned_columns,
                                    .decode_turned = decode_turned,
                                    .query = turn_query,
                                    .output = turn_output};

/* The face of whole bits, which need no prompt: the cache gathers all its rows for a fit. */
static const struct kv_codec whole = {
    .name = "turboquant", .traits = KV_RANDOM, .encode = encode, .encode_atoms = encode_atoms,
    .decode = decode, .turn = &turn};

const struct kv_codec kv_codec_turboquant = {
    .name = "turboquant",
    .summary = "random rotation, then one optimal codebook for every coordinate",
    .paper = "TurboQuant (Zandieh et al., arXiv 2504.19874)",
    .traits = KV_RANDOM,
    .params = params,
    .config_size = sizeof(struct config),
    .create = create,
    .fit = fit,
    .encode = encode,
    .encode_atoms = encode_atoms,
    .decode = decode,
    .turn = &turn};
