/* nvfp4: 4-bit floats with an E4M3 scale for every 16 and an f32 scale for the tensor (NVIDIA's
 * NVFP4, the KV cache of TensorRT-LLM).
 *
 * g = max |x| over the prompt / (6 * 448); of a group of 16 columns, a = max |x|:
 *
 *     s = E4M3(a / (6 g)), nearest even, saturated; t = s * g in f32
 *     code = nearest even of x / t in E2M1, saturated (0 where t is 0); x_hat = value(code) * t
 *
 * scale=tensor: one g for the layer's keys or values, which spans its heads; scale=head: one for
 * each KV head; scale=none: g = 1. A row here is a head's, whatever the object spans: groups run
 * along the head dimension, the last of a head may be short. Bytes of it: ceil(dim / 2), even
 * columns in the low nibble, and 1 a group; 4 a g, basis_online.
 *
 * Departures: g is fitted on this trace's own prompt (same-trace), where an engine has it from a
 * calibrated checkpoint; later rows beyond 6 * 448 g saturate. NVIDIA's attention reads the cache
 * through E4M3, here it is read as it is. */
#include "methods/parts/codes.h"
#include "methods/parts/minifloat.h"

extern const struct kv_codec kv_codec_nvfp4;

enum { GROUP = 16 };

struct config {
    uint32_t scale;
};

static const struct kv_param params[] = {{"scale", KV_PARAM_CHOICE, offsetof(struct config, scale),
                                          KV_SCALE_TENSOR, 0, 0, "none|tensor|head",
                                          "what shares the scale g"},
                                         {0}};

struct nvfp4_code {
    struct kv_code code;
    const struct kv_kernels *kernels;
    struct kv_scales scales;
    uint32_t heads;                    /* rows of heads in one of the object's, each with */
    uint32_t width, groups, row_bytes; /* columns, groups, and bytes of codes */
    uint8_t *codes;                    /* [dim + 7] */
};

static uint32_t span(const void *config)
{
    return ((const struct config *)config)->scale == KV_SCALE_TENSOR ? KV_SPAN_HEADS : 0;
}

static int fit(struct kv_code *code, const struct kv_sample *sample, struct kv_error *err)
{
    (void)err;
    kv_scales_fit(&((struct nvfp4_code *)code)->scales, sample, kv_e2m1.largest * kv_e4m3.largest);
    return KV_OK;
}

static struct kv_fp4_shape shape_of(const struct nvfp4_code *self, uint32_t head)
{
    return (struct kv_fp4_shape){KV_FP4_E4M3, GROUP,
                                 self->scales.of[self->scales.n > 1 ? head : 0]};
}

static void encode(struct kv_code *code, const float *rows, uint8_t *atom)
{
    struct nvfp4_code *self = (struct nvfp4_code *)code;
    uint8_t *at = atom + code->payload_bytes;
    for (uint32_t h = 0; h < self->heads; h++, at += self->groups, rows += self->width) {
        const struct kv_fp4_shape shape = shape_of(self, h);
        self->kernels->fp4_encode(&shape, rows, self->width, at, self->codes);
        self->kernels->pack_bits(self->codes, self->width, 4, atom + h * self->row_bytes);
    }
}

/* Columns first .. first + n - 1 of one head's row. */
static void decode_head(const struct nvfp4_code *self, const uint8_t *atom, uint32_t head,
                        uint32_t first, uint32_t n, float *out)
{
    const struct kv_fp4_shape shape = shape_of(self, head);
    const uint8_t *codes =
        kv_unpack_some(self->kernels, atom + head * self->row_bytes, first, n, 4, self->codes);
    self->kernels->fp4_decode(&shape, atom + self->code.payload_bytes + head * self->groups, first,
                              codes, n, out);
}

static void decode_row(const struct nvfp4_code *self, const uint8_t *atom, uint32_t first,
                       uint32_t n, float *out)
{
    for (uint32_t done = 0; done < n;) {
        const uint32_t head = (first + done) / self->width, at = (first + done) % self->width;
        const uint32_t left = self->width - at, more = left < n - done ? left : n - done;
        decode_head(self, atom, head, at, more, out + done);
        done += more;
    }
}

static void decode(const struct kv_code *code, const uint8_t *atoms, uint32_t n_atoms,
                   uint32_t first_column, uint32_t n_columns, float *out)
{
    for (uint32_t a = 0; a < n_atoms; a++)
        decode_row((const struct nvfp4_code *)code, atoms + a * kv_atom_bytes(code), first_column,
                   n_columns, out + (size_t)a * n_columns);
}

/* The face of an object with a scale to fit. */
static const struct kv_codec fitted = {
    .name = "nvfp4", .traits = KV_FITS_PROMPT, .fit = fit, .encode = encode, .decode = decode};

static int create(struct kv_code **out, const struct kv_setup *setup, struct kv_error *err)
{
    const struct config *config = setup->config;
    struct nvfp4_code *self = kv_pool_reserve(setup->pool, KV_WORKSPACE, sizeof *self);
    if (!self) return kv_fail(err, KV_EMEMORY, "nvfp4: no memory");
    self->kernels = setup->kernels;
    const int status = kv_scales_create(&self->scales, setup, (enum kv_scale)config->scale, err);
    if (status) return status;
    self->heads = kv_lanes_in_row(setup);
    self->width = setup->dim / self->heads;
    self->groups = kv_groups(self->width, GROUP);
    self->row_bytes = kv_packed_bytes(self->width, 4);
    self->codes = kv_pool_reserve(setup->pool, KV_WORKSPACE, setup->dim + 7);
    if (!self->codes) return kv_fail(err, KV_EMEMORY, "nvfp4: no memory for a row");
    self->code = (struct kv_code){.type = config->scale ? &fitted : &kv_codec_nvfp4,
                                  .dim = setup->dim,
                                  .block = 1,
                                  .payload_bytes = self->heads * self->row_bytes,
                                  .metadata_bytes = self->heads * self->groups,
                                  .tiers = {.flush = 1, .coded_at_once = true}};
    *out = &self->code;
    return KV_OK;
}

const struct kv_codec kv_codec_nvfp4 = {
    .name = "nvfp4",
    .summary = "4-bit floats with an 8-bit float a group of 16 and a scale of the tensor",
    .paper = "NVFP4 (NVIDIA; TensorRT-LLM)",
    .params = params,
    .config_size = sizeof(struct config),
    .span = span,
    .create = create,
    .encode = encode,
    .decode = decode};
