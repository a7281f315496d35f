/* gear: grid codes, plus a low-rank approximation of what they lose, plus outliers apart (Kang et
 * al., arXiv 2403.05527; its code opengear-project/GEAR): x_hat = D + L, but S where x is an
 * outlier.
 *
 * A vector is a channel for keys, a token's row for values (KCVT). S: the sparsity/2 largest and
 * smallest of a vector, f16 and index; D: the others (outliers filled by their mean) on the grid of
 * `int`, bits each, one grid a vector; L: of the residual R = X - D (0 at outliers) the `rank`
 * leading right singular directions B [dim][rank], f16, and each row's R B, f16.
 *
 * Prompt rows are one block: the fit finds keys' grids, thresholds (the channel's outliers are what
 * is not between them) and B, all resident; a row's atom is its codes and coefficients. Later rows
 * wait exact and are encoded `buffer` at a time after the answer, each block with its own grids and
 * a B of later_rank.
 *
 * Bytes. Prompt row: payload ceil(bits dim / 8) + 2 rank (values: + 4 n, n outliers at each end);
 * metadata: values 4 + 4 n; keys 2 (count) + 4 an outlier, as many as there are, none at
 * sparsity=0. Basis: 2 dim rank, keys 4 dim. Later block of T rows: ceil(bits T dim / 8) + 2
 * later_rank (T + dim) payload, 4 a vector metadata, 2 + 2 an outlier. sparsity=0 is GEAR-L. n =
 * round(sparsity / 2 * vector), so that a block of 20 has none in its channels at 2 %, as little as
 * the published code.
 *
 * Another backbone is the codec that follows, `gear+kivi:bits=2:group_size=64` (gear-kivi; the
 * paper's 2-bit rows), or any other: D is what that reads back of rows whose outliers are filled.
 * Its block is the prompt's (rows that fill none wait with the later ones), and a later block is
 * `buffer` rows or, if those are not whole blocks of it, the next more that are. It is fitted on
 * the prompt's filled rows and keeps its own sinks, but not its own window: rows wait in the
 * buffer, as in the published code, and bits and grids are its own. Bytes: its atoms in place of
 * codes and grids; keys have no 4 dim of basis, and an atom's one count.
 *
 * Departures: exact eigenvectors where the code takes 3 power iterations; one head is one object
 * (the paper's value vector spans the heads: span=heads says so, and then B does, too); the
 * published code takes bits^2 - 1 for 2^bits - 1; outliers are read as kept, without L on top. */
#include <string.h>

#include "methods/codecs/gear/gear_parts.h"
#include "methods/parts/codes.h"

extern const struct kv_codec kv_codec_gear;

#define FIELD(name) offsetof(struct gear_config, name)
static const struct kv_param params[] = {
    {"bits", KV_PARAM_U32, FIELD(bits), 4, 1, 8, NULL,
     "bits a code of its own grid (no codec follows)"},
    {"rank", KV_PARAM_U32, FIELD(rank), 4, 1, 256, NULL, "directions of the prompt's residual"},
    {"later_rank", KV_PARAM_U32, FIELD(later_rank), 2, 1, 256, NULL,
     "directions of a later block's"},
    {"sparsity", KV_PARAM_REAL, FIELD(sparsity), 0.02, 0, 0.5, NULL,
     "share of values kept in 16 bits; 0: GEAR-L"},
    {"buffer", KV_PARAM_U32, FIELD(buffer), 20, 1, 4096, NULL,
     "later rows that wait exact, and are a block"},
    {0}};

/* ---- create ---- */

uint32_t kv_gear_per_end(double sparsity, uint32_t length)
{
    const uint32_t n = (uint32_t)(0.5 * sparsity * length + 0.5), most = (length - 1) / 2;
    return n < most ? n : most;
}

void kv_gear_set_bytes(struct gear_code *self)
{
    const uint32_t dim = self->code.dim, block = self->code.block,
                   atoms = kv_gear_inner_atoms(self);
    const uint32_t codes = atoms ? atoms * self->inner->payload_bytes
                                 : kv_packed_bytes((size_t)block * dim, self->bits);
    const uint32_t grids = atoms ? atoms * self->inner->metadata_bytes : 4 * self->n_vectors;
    self->codes_bytes = atoms ? codes + grids : codes;
    self->code.payload_bytes = codes + 2 * self->rank * (block + (self->prompt ? 0 : dim)) +
                               4 * self->per_end * self->n_vectors;
    self->code.metadata_bytes = grids + kv_gear_places_bytes(self);
}

static int reserve(struct gear_code *self, const struct kv_setup *setup, struct kv_error *err)
{
    if (setup->sizes_only) return KV_OK;
    const size_t dim = self->code.dim, n = self->code.block * dim,
                 longest = self->code.block > dim ? self->code.block : dim;
    float *floats = kv_pool_reserve(setup->pool, KV_WORKSPACE,
                                    (3 * n + longest + (5 + self->rank) * dim) * sizeof *floats);
    self->matrix =
        kv_pool_reserve(setup->pool, KV_WORKSPACE, dim * (dim + 1) * sizeof *self->matrix);
    self->outlying = kv_pool_reserve(setup->pool, KV_WORKSPACE, 2 * n + 7 + longest);
    if (!floats || !self->matrix || !self->outlying)
        return kv_fail(err, KV_EMEMORY, "gear: no memory for %u rows of %u", self->code.block,
                       self->code.dim);
    self->read = floats, self->filled = floats + n, self->rest = floats + 2 * n,
    self->vector = floats + 3 * n;
    self->low = self->vector + longest, self->high = self->low + dim, self->mean = self->high + dim;
    self->step = self->mean + dim, self->base = self->step + dim, self->basis = self->base + dim;
    self->codes = self->outlying + n;
    return KV_OK;
}

/* Rows of a block: of the backbone's, or for later rows as many of those as fill the buffer. */
static uint32_t block_of(const struct gear_config *config, const struct kv_code *inner, bool prompt)
{
    const uint32_t unit = inner ? inner->block : 1;
    return prompt ? unit : (config->buffer + unit - 1) / unit * unit;
}

static int make(struct gear_code **out, const struct kv_setup *setup, struct kv_code *inner,
                bool prompt, struct kv_error *err)
{
    const struct gear_config *config = setup->config;
    struct gear_code *self = *out = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "gear: no memory");
    const uint32_t dim = setup->dim, block = block_of(config, inner, prompt),
                   rank = prompt ? config->rank : config->later_rank;
    *self = (struct gear_code){.inner = inner,
                               .kernels = setup->kernels,
                               .pool = setup->pool,
                               .keys = setup->side == KV_KEYS,
                               .prompt = prompt,
                               .bits = config->bits,
                               .rank = rank < dim ? rank : dim,
                               .sparsity = config->sparsity};
    self->n_vectors = !self->keys ? block : prompt ? 0 : dim;
    self->per_end =
        self->keys && prompt ? 0 : kv_gear_per_end(config->sparsity, self->keys ? block : dim);
    self->counts = self->keys && prompt && self->sparsity > 0;
    self->code = (struct kv_code){.dim = dim, .block = block};
    self->code.tiers = (struct kv_tiers){.flush = block, .coded_at_once = prompt};
    if (inner) self->code.tiers.sinks = inner->tiers.sinks;
    kv_gear_set_bytes(self);
    return reserve(self, setup, err);
}

static const struct kv_codec steady, blocks, varied_blocks;

/* The backbone that follows, and whether atoms of this size can tell their places. */
static int make_inner(struct kv_code **inner, const struct kv_setup *setup, struct kv_error *err)
{
    *inner = NULL;
    const int status =
        setup->rest ? kv_create_code(inner, setup->rest, setup, setup->dim, err) : KV_OK;
    if (status || !*inner || (uint64_t)(*inner)->block * setup->dim <= UINT16_MAX) return status;
    return kv_fail(err, KV_EUNSUPPORTED,
                   "gear: an index of 16 bits cannot tell %u rows of %u columns", (*inner)->block,
                   setup->dim);
}

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    struct gear_code *self, *late;
    struct kv_code *inner;
    if (setup->side == KV_BOTH_SIDES)
        return kv_fail(err, KV_EUNSUPPORTED,
                       "gear: keys go by channel and values by token, a span must not join them");
    if (setup->dim >= UINT16_MAX)
        return kv_fail(err, KV_EUNSUPPORTED, "gear: an index of 16 bits cannot tell %u columns",
                       setup->dim);
    int status = make_inner(&inner, setup, err);
    if (!status) status = make(&self, setup, inner, true, err);
    if (!status) status = make(&late, setup, inner, false, err);
    if (status) return status;
    const bool varied = inner && inner->type->used;
    self->code.type = self->counts || varied ? &kv_codec_gear : &steady;
    late->code.type = varied ? &varied_blocks : &blocks;
    self->late = late;
    *out = &self->code;
    return KV_OK;
}

static struct kv_code *later(const struct kv_code *code)
{
    return &((const struct gear_code *)code)->late->code;
}

/* ---- codes, coefficients, [B], outliers' values | grids, [count,] outliers' places ---- */

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct gear_code *self = (struct gear_code *)code;
    kv_gear_code_rows(self, rows, self->inner ? atom : atom + code->payload_bytes);
    if (!self->prompt) {
        memset(self->matrix, 0, (size_t)code->dim * code->dim * sizeof *self->matrix);
        kv_gear_add_gram(self);
        kv_gear_find_basis(self, NULL);
    }
    if (!self->inner)
        self->kernels->pack_bits(self->codes, (size_t)code->block * code->dim, self->bits, atom);
    uint8_t *values = kv_gear_keep_factors(self, atom + self->codes_bytes);
    if (self->per_end || self->counts) kv_gear_keep_outliers(self, rows, values, atom);
}

static uint32_t used(const struct kv_code *code, const uint8_t *atom)
{
    const struct gear_code *self = (const struct gear_code *)code;
    const bool real = atom && atom != kv_smallest_atom;
    uint32_t bytes = kv_gear_counted_bytes(self, atom);
    if (!self->inner) return bytes + 4 * self->n_vectors;
    for (uint32_t a = 0; a < kv_gear_inner_atoms(self); a++)
        bytes += kv_metadata_used(self->inner, real ? atom + a * kv_atom_bytes(self->inner) : atom);
    return bytes;
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    const struct gear_code *self = (const struct gear_code *)code;
    for (uint32_t a = 0; a < n_atoms; a++, atoms += kv_atom_bytes(code)) {
        if (self->inner)
            self->inner->type->decode(self->inner, atoms, kv_gear_inner_atoms(self), 0, code->dim,
                                      self->read);
        else
            kv_gear_decode_grid(self, atoms);
        const uint8_t *values = kv_gear_add_factors(self, atoms + self->codes_bytes);
        if (self->per_end || self->counts) kv_gear_put_outliers(self, atoms, values);
        for (uint32_t t = 0; t < code->block; t++, out += n_columns)
            memcpy(out, self->read + (size_t)t * code->dim + first_column, n_columns * sizeof *out);
    }
}

/* Faces: rows of one size (values; keys without outliers); blocks of later rows. */
static const struct kv_codec steady = {
    .name = "gear", .fit = kv_gear_fit, .encode = encode, .decode = decode, .later = later};
static const struct kv_codec blocks = {.name = "gear", .encode = encode, .decode = decode};
static const struct kv_codec varied_blocks = {
    .name = "gear", .encode = encode, .decode = decode, .used = used};

const struct kv_codec kv_codec_gear = {.name = "gear",
                                       .summary = "grid codes, a low-rank residual, outliers apart",
                                       .paper = "GEAR (Kang et al., arXiv 2403.05527)",
                                       .traits = KV_FITS_PROMPT | KV_LEAVES_ROWS | KV_OWN_CODES,
                                       .params = params,
                                       .config_size = sizeof(struct gear_config),
                                       .create = create,
                                       .fit = kv_gear_fit,
                                       .encode = encode,
                                       .decode = decode,
                                       .used = used,
                                       .later = later};
