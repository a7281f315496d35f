/* fp8: 8-bit floats as vLLM, SGLang and TensorRT-LLM keep K and V (OCP FP8, Micikevicius et al.,
 * arXiv 2209.05433).
 *
 *     code = nearest even of x / s, saturated; x_hat = value(code) * s
 *
 * e4m3 is E4M3FN: largest 448, smallest normal 2^-6, step below it 2^-9. e5m2: largest 57344,
 * smallest normal 2^-14. s is
 *
 *     none    1: vLLM and SGLang without a calibrated checkpoint
 *     tensor  one for the layer's keys or values, max |x| over the prompt / largest: TensorRT-LLM's
 *             kv_cache_scaling_factor, vLLM's k_scale and v_scale. It spans the layer's heads
 *     head    the same for each KV head (vLLM's per-attention-head scales)
 *     token   max |x| / largest of each row and head, kept as f32 (vLLM's fp8_per_token_head)
 *
 * Bytes: dim a row, and 4 a head of it with scale=token. tensor and head: 4 a scale, basis_online.
 *
 * Departures: tensor and head are fitted on this trace's own prompt (same-trace), where engines
 * have them from a checkpoint that was calibrated on other text. A scale of 0 is 1. */
#include <string.h>

#include "methods/parts/codes.h"
#include "methods/parts/minifloat.h"

extern const struct kv_codec kv_codec_fp8;

struct config {
    uint32_t format, scale;
};

static const struct kv_param params[] = {
    {"format", KV_PARAM_CHOICE, offsetof(struct config, format), 0, 0, 0, "e4m3|e5m2",
     "exponent and mantissa bits"},
    {"scale", KV_PARAM_CHOICE, offsetof(struct config, scale), KV_SCALE_NONE, 0, 0,
     "none|tensor|head|token", "what shares a scale"},
    {0}};

struct fp8_code {
    struct kv_code code;
    const struct kv_minifloat *format;
    const struct kv_kernels *kernels;
    struct kv_scales scales; /* of a row with scale=token: only n and width are of use */
    bool per_token;
};

static uint32_t span(const void *config)
{
    return ((const struct config *)config)->scale == KV_SCALE_TENSOR ? KV_SPAN_HEADS : 0;
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    struct fp8_code *self = (struct fp8_code *)code;
    (void)err;
    kv_scales_fit(&self->scales, sample, self->format->largest);
    return KV_OK;
}

static float row_scale(const struct fp8_code *self, const float *x)
{
    const float scale = kv_largest(self->kernels, x, self->scales.width) / self->format->largest;
    return scale > 0 ? scale : 1.0f;
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct fp8_code *self = (struct fp8_code *)code;
    for (uint32_t s = 0; s < self->scales.n; s++) {
        const uint32_t first = s * self->scales.width;
        const float scale = self->per_token ? row_scale(self, rows + first) : self->scales.of[s];
        self->kernels->minifloat_encode(self->format, rows + first, self->scales.width, scale,
                                        atom + first);
        if (self->per_token) memcpy(atom + code->dim + 4 * (size_t)s, &scale, sizeof scale);
    }
}

/* Rows that share one scale are one call: their atoms are codes without gaps. */
static void encode_atoms(struct kv_code *code, const float *rows, uint32_t n_atoms, uint8_t *atoms)
{
    struct fp8_code *self = (struct fp8_code *)code;
    const bool one = self->scales.n == 1 && !self->per_token;
    if (one)
        self->kernels->minifloat_encode(self->format, rows, (size_t)n_atoms * code->dim,
                                        self->scales.of[0], atoms);
    for (uint32_t a = 0; !one && a < n_atoms; a++)
        encode(code, rows + (size_t)a * code->dim, atoms + a * kv_atom_bytes(code));
}

static void decode_row(const struct fp8_code *self, const uint8_t *atom, uint32_t first, uint32_t n,
                       float *out)
{
    for (uint32_t c = first; c < first + n;) {
        const uint32_t s = c / self->scales.width, end = (s + 1) * self->scales.width;
        const uint32_t stop = end < first + n ? end : first + n;
        float scale = self->scales.of[s];
        if (self->per_token) memcpy(&scale, atom + self->code.dim + 4 * (size_t)s, sizeof scale);
        self->kernels->minifloat_decode(self->format, atom + c, stop - c, scale, out + (c - first));
        c = stop;
    }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_row((const struct fp8_code *)code, atoms + a * kv_atom_bytes(code), first_column,
                   n_columns, out + (size_t)a * n_columns);
}

/* The face of an object whose scales are fitted. */
static const struct kv_codec fitted = {
    .name = "fp8", .traits = KV_FITS_PROMPT, .fit = fit, .encode = encode,
    .encode_atoms = encode_atoms, .decode = decode};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    const bool fits = config->scale == KV_SCALE_TENSOR || config->scale == KV_SCALE_HEAD;
    struct fp8_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "fp8: no memory");
    self->format = config->format ? &kv_e5m2 : &kv_e4m3;
    self->kernels = setup->kernels;
    self->per_token = config->scale == KV_SCALE_TOKEN;
    const enum kv_scale of = self->per_token ? KV_SCALE_HEAD : (enum kv_scale)config->scale;
    const int status = kv_scales_create(&self->scales, setup, of, err);
    if (status) return status;
    self->code = (struct kv_code){.type = fits ? &fitted : &kv_codec_fp8,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = setup->dim,
                                  .metadata_bytes = self->per_token ? 4 * self->scales.n : 0,
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

const struct kv_codec kv_codec_fp8 = {
    .name = "fp8",
    .summary = "8-bit floats with a scale of the tensor, the head, the token or none",
    .paper = "FP8 formats (Micikevicius et al., arXiv 2209.05433); vLLM, SGLang, TensorRT-LLM",
    .params = params,
    .config_size = sizeof(struct config),
    .span = span,
    .create = create,
    .encode = encode,
    .encode_atoms = encode_atoms,
    .decode = decode};
