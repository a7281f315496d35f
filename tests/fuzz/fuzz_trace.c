/* libFuzzer target of the trace reader: the input is a list of edits of a sound trace.
 *
 *     CC=clang meson setup B -Db_sanitize=address,undefined -Db_lundef=false
 *     ninja -C B tests/fuzz/fuzz_trace && B/tests/fuzz/fuzz_trace -max_len=64 -runs=10000
 *
 * Garbled bytes as such are not the subject: HDF5 1.10's global heap (variable-length strings)
 * reads past its buffers on a damaged file, which nothing above it can prevent. What a program can
 * write with that library, the reader must survive: any object missing, any value, any type, any
 * shape. */
#include <math.h>

#include "tests/unit/test_trace_fixture.h"
#include "traces/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const objects[] = {"",
                                      "layers/000",
                                      "layers/002",
                                      "layers/003",
                                      "grad/fisher/0",
                                      "grad/label/000",
                                      "layers/000/q",
                                      "layers/000/k",
                                      "layers/000/v",
                                      "layers/002/k",
                                      "layers/000/w_o",
                                      "layers/000/x2",
                                      "layers/000/sink_logits",
                                      "layers/000/rope_inv_freq",
                                      "token_ids",
                                      "positions",
                                      "nll",
                                      "spans/needle",
                                      "grad/windows",
                                      "grad/fisher/1/002",
                                      "layers",
                                      "grad",
                                      "spans",
                                      "grad/label"};

static const char *const names[] = {
    "format",         "version",       "model",     "model_digest",   "model_config",
    "text",           "recorder",      "tokens",    "prefill_length", "content_hash",
    "question_start", "scale",         "softcap",   "kind",           "window",
    "kv_source",      "rope_layout",   "rope_dims", "rope_scale",     "attn_post_norm",
    "qk_norm",        "v_is_k_prefix", "unit",      "seeds",          "type"};

static const char *const texts[] = {
    "", "bfloat16", "none", "half", "interleaved", "sliding", "{", "{\"num_hidden_layers\": 1e99}",
    "{\"text_config\": []}", "sha256:", "xxh3:00000000000000000000000000000000", "kvbench-trace"};

#define COUNT(list) (sizeof(list) / sizeof *(list))

struct input { const uint8_t *data; size_t size; };

static uint32_t byte(struct input *input)
{
    if (input->size == 0) return 0;
    input->size--;
    return *input->data++;
}

static hid_t type_number(uint32_t n)
{
    const hid_t types[] = {H5T_STD_I8LE, H5T_STD_I32LE, H5T_STD_I64LE, H5T_STD_U64LE, H5T_STD_U16LE,
                           H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_IEEE_F32BE, H5T_STD_I32BE};
    return types[n % COUNT(types)];
}

static double number(uint32_t n)
{
    const double values[] = {
        0, 1, 2, 3, -1, 7, 8, 12, 13, 255, 65536, 2147483648.0, 9e18, -9e18, 1e300, NAN, INFINITY};
    return values[n % COUNT(values)];
}

static void edit_shape(hid_t file, const char *object, struct input *input)
{
    hsize_t dims[4];
    const int rank = (int)(byte(input) % 4) + 1;
    for (int i = 0; i < rank; i++) dims[i] = byte(input) % 14;
    reshape(file, object, type_number(byte(input)), rank, dims);
}

static void edit(hid_t file, struct input *input)
{
    const char *object = objects[byte(input) % COUNT(objects)],
               *name = names[byte(input) % COUNT(names)];
    if (*object && H5Lexists(file, object, H5P_DEFAULT) <= 0) return;
    switch (byte(input) % 6) {
    case 0:
        set_int(file, object, name, (int64_t)fmax(-9e18, fmin(9e18, number(byte(input)))));
        break;
    case 1: set_real(file, object, name, number(byte(input))); break;
    case 2: set_text(file, object, name, texts[byte(input) % COUNT(texts)]); break;
    case 3:
        if (H5Aexists_by_name(file, *object ? object : ".", name, H5P_DEFAULT) > 0)
            drop(file, object, name);
        break;
    case 4: if (*object) drop(file, object, NULL); break;
    default: if (*object) edit_shape(file, object, input); break;
    }
}

static void read_everything(const struct kv_trace *trace)
{
    for (uint32_t i = 0; i < trace->n_layers; i++) {
        struct kv_error err;
        struct kv_layer *layer;
        if (kv_trace_read_layer(&layer, trace, i, KV_READ_GRADIENTS | KV_READ_PROJECTION, &err) ==
            KV_OK)
            kv_layer_free(layer);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    struct kv_error err;
    struct kv_trace *trace;
    char path[128];
    if (make_trace(scratch(path, "fuzz"), KV_H5_F16, byte(&input) % 2, &err) != KV_OK) abort();
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    while (input.size > 0) edit(file, &input);
    H5Fclose(file);
    if (kv_trace_open(&trace, path, KV_NO_VERIFY, &err) == KV_OK) {
        read_everything(trace);
        kv_trace_close(trace);
    }
    unlink(path);
    return 0;
}
