/* Every rejection of the trace reader, provoked, with its message. */
#include <criterion/criterion.h>
#include <math.h>
#include <sys/stat.h>

#include "tests/unit/test_trace_fixture.h"
#include "traces/trace.h"

/* Opens a trace after an edit; message must be "FILE: " + expected, or begin so when it ends in *.
 */
static void expect_rejected(void (*edit)(hid_t file), const char *expected)
{
    char path[128];
    struct kv_error err = {""};
    struct kv_trace *trace = NULL;
    cr_assert_eq(make_trace(scratch(path, "reject"), KV_H5_F16, 0, &err), KV_OK, "%s", err.text);
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    cr_assert(file >= 0);
    edit(file);
    cr_assert(H5Fclose(file) >= 0);
    const int status = kv_trace_open(&trace, path, 0, &err);
    unlink(path);
    cr_assert_eq(status, KV_EINPUT, "expected: %s", expected);
    cr_assert_null(trace);
    cr_assert_eq(strncmp(err.text, path, strlen(path)), 0, "%s", err.text);
    const char *found = err.text + strlen(path) + 2;
    const size_t length = strlen(expected);
    if (length && expected[length - 1] == '*')
        cr_assert_eq(strncmp(found, expected, length - 1), 0, "expected %s, found %s", expected,
                     found);
    else cr_assert_str_eq(found, expected);
}

/* REJECTED(name, edit statement, message) */
#define REJECTED(name, edit, message) \
    static void edit_##name(hid_t file) { edit; } \
    Test(trace_reject, name) { expect_rejected(edit_##name, message); }

#define RESHAPE(object, type, ...) \
    do { \
        const hsize_t dims[] = {__VA_ARGS__}; \
        reshape(file, object, type, (int)(sizeof dims / sizeof *dims), dims); \
    } while (0)

static hid_t half(void)
{
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

static void poke_word(hid_t file, const char *object, size_t i, uint16_t word)
{
    poke(file, object, i, &word);
}

static void poke_int(hid_t file, const char *object, size_t i, int32_t value)
{
    poke(file, object, i, &value);
}

/* Root. */
REJECTED(format_missing, drop(file, "", "format"), "/@format: expected a string, found nothing")
REJECTED(format_other, set_text(file, "", "format", "photo"),
         "/@format: expected kvbench-trace, found photo")
REJECTED(version_newer, set_int(file, "", "version", 2),
         "/@version: expected version 1, found version 2, written by a newer program")
REJECTED(version_zero, set_int(file, "", "version", 0),
         "/@version: expected version 1, found version 0")
REJECTED(version_text, set_text(file, "", "version", "1"),
         "/@version: expected an integer, found str")
REJECTED(version_big_endian,
         set_value(file, "", "version", H5T_STD_I32BE, &(int32_t){0x01000000}),
         "/@version: expected an integer, found another type or order of bytes")
REJECTED(positions_big_endian, RESHAPE("positions", H5T_STD_I32BE, T),
         "/positions: expected [12] i32, found [12] another type or order of bytes")
REJECTED(version_float, set_real(file, "", "version", 1),
         "/@version: expected an integer, found f64")
REJECTED(model_missing, drop(file, "", "model"), "/@model: expected a string, found nothing")
REJECTED(model_number, set_int(file, "", "model", 3), "/@model: expected a string, found i64")
REJECTED(text_missing, drop(file, "", "text"), "/@text: expected a string, found nothing")
REJECTED(recorder_missing, drop(file, "", "recorder"),
         "/@recorder: expected a string, found nothing")
REJECTED(digest_other, set_text(file, "", "model_digest", "md5:1"),
         "/@model_digest: expected sha256:... or synthetic:..., found md5:1")
REJECTED(model_latin1, set_text(file, "", "model", "caf\xe9"), "/@model: expected UTF-8, found other bytes")
REJECTED(config_not_json, set_text(file, "", "model_config", "30 layers"),
         "/@model_config: expected a JSON object, found 30 layers")
REJECTED(config_layers_text, set_text(file, "", "model_config", "{\"num_hidden_layers\": \"x\"}"),
         "/@model_config: expected num_hidden_layers of 1..1000, found 0")
REJECTED(hash_missing, drop(file, "", "content_hash"),
         "/@content_hash: expected a string, found nothing")
REJECTED(hash_malformed, set_text(file, "", "content_hash", "xxh3:12"),
         "/@content_hash: expected xxh3: and 32 hexadecimal digits, found xxh3:12")
REJECTED(hash_other, set_text(file, "", "model", "another"), "/@content_hash: expected xxh3:*")
REJECTED(tokens_missing, drop(file, "", "tokens"), "/@tokens: expected an integer, found nothing")
REJECTED(tokens_one, set_int(file, "", "tokens", 1), "/@tokens: expected 2..2147483647, found 1")
REJECTED(tokens_huge, set_int(file, "", "tokens", INT64_MAX),
         "/@tokens: expected 2..2147483647, found 9223372036854775807")
REJECTED(tokens_differ, set_int(file, "", "tokens", 13),
         "/token_ids: expected [13] i32, found [12] i32")
REJECTED(prefill_zero, set_int(file, "", "prefill_length", 0),
         "/@prefill_length: expected 1..11, found 0")
REJECTED(prefill_all, set_int(file, "", "prefill_length", T),
         "/@prefill_length: expected 1..11, found 12")
REJECTED(question_late, set_int(file, "", "question_start", 9),
         "/@question_start: expected 0..8, found 9")
REJECTED(token_ids_missing, drop(file, "token_ids", NULL),
         "/token_ids: expected [12] i32, found nothing")
REJECTED(token_ids_float, RESHAPE("token_ids", H5T_IEEE_F32LE, T),
         "/token_ids: expected [12] i32, found [12] f32")
REJECTED(positions_short, RESHAPE("positions", H5T_STD_I32LE, 11),
         "/positions: expected [12] i32, found [11] i32")
REJECTED(positions_group, (drop(file, "positions", NULL),
         H5Gclose(H5Gcreate2(file, "positions", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT))),
         "/positions: expected a dataset, found damage*")
REJECTED(nll_not_finite, poke_int(file, "nll", 7, 0x7fc00000),
         "/nll: expected finite numbers behind token 0, found nan at [7]")
REJECTED(nll_double, RESHAPE("nll", H5T_IEEE_F64LE, T), "/nll: expected [12] f32, found [12] f64")

static void wide_token(hid_t file)
{
    const int64_t value = INT64_C(1) << 40;
    RESHAPE("token_ids", H5T_STD_I64LE, T);
    poke(file, "token_ids", 5, &value);
}
Test(trace_reject, token_above_i32)
{
    expect_rejected(wide_token,
                    "/token_ids: expected values that fit i32, found 1099511627776 at 5");
}

/* Spans. */
REJECTED(span_past_end, poke_int(file, "spans/needle", 3, 13),
         "/spans/needle: expected a range within 0..12, found [4, 13) at 1")
REJECTED(span_negative, poke_int(file, "spans/needle", 0, -1),
         "/spans/needle: expected a range within 0..12, found [-1, 3) at 0")
REJECTED(span_backwards, poke_int(file, "spans/needle", 0, 3),
         "/spans/needle: expected a range within 0..12, found [3, 3) at 0")
REJECTED(span_shape, RESHAPE("spans/needle", H5T_STD_I32LE, 2, 3),
         "/spans/needle: expected [n, 2] i32, found [2, 3] i32")

/* Layers. */
REJECTED(layers_missing, drop(file, "layers", NULL),
         "/layers: expected at least one layer group, found none")
REJECTED(layer_name, H5Lmove(file, "layers/002", file, "layers/two", H5P_DEFAULT, H5P_DEFAULT),
         "/layers: expected layer indices of three digits, found two")
REJECTED(layer_beyond_model,
         H5Lmove(file, "layers/002", file, "layers/009", H5P_DEFAULT, H5P_DEFAULT),
         "/layers/009: expected an index below num_hidden_layers = 9, found 9")
REJECTED(q_missing, drop(file, "layers/000/q", NULL),
         "/layers/000/q: expected [q_heads, 12, d_k] f16|f32|bf16, found nothing")
REJECTED(q_unmarked_words, RESHAPE("layers/000/q", H5T_STD_U16LE, Q_HEADS, T, D_K),
         "/layers/000/q: expected [q_heads, 12, d_k] f16|f32|bf16, found [4, 12, 8] u16")
REJECTED(q_double, RESHAPE("layers/000/q", H5T_IEEE_F64LE, Q_HEADS, T, D_K),
         "/layers/000/q: expected [q_heads, 12, d_k] f16|f32|bf16, found [4, 12, 8] f64")
REJECTED(q_big_endian, RESHAPE("layers/000/q", H5T_IEEE_F32BE, Q_HEADS, T, D_K),
         "/layers/000/q: expected [q_heads, 12, d_k] f16|f32|bf16, found [4, 12, 8] another type or order "
         "of bytes")
REJECTED(q_rank, RESHAPE("layers/000/q", half(), Q_HEADS, T),
         "/layers/000/q: expected [q_heads, 12, d_k] f16|f32|bf16, found [4, 12] f16")
REJECTED(q_rank_four, RESHAPE("layers/000/q", half(), 1, Q_HEADS, T, D_K),
         "/layers/000/q: expected at most 3 dimensions and a size that can exist, found another "
         "dataspace")
REJECTED(q_no_heads, RESHAPE("layers/000/q", half(), 0, T, D_K),
         "/layers/000/q: expected [q_heads, 12, d_k] f16|f32|bf16, found [0, 12, 8] f16")
REJECTED(k_missing, drop(file, "layers/000/k", NULL),
         "/layers/000/k: expected [kv_heads, 12, d_k] f16|f32|bf16, found nothing")
REJECTED(k_tokens, RESHAPE("layers/000/k", half(), KV_HEADS, T - 1, D_K),
         "/layers/000/k: expected [kv_heads, 12, d_k] f16|f32|bf16, found [2, 11, 8] f16")
REJECTED(k_dim, RESHAPE("layers/000/k", half(), KV_HEADS, T, 6),
         "/layers/000/k: expected d_k = 8 as in q, found 6")
REJECTED(heads_do_not_divide, RESHAPE("layers/000/k", half(), 3, T, D_K),
         "/layers/000/k: expected kv_heads that divide q_heads = 4, found 3")
REJECTED(v_missing, drop(file, "layers/000/v", NULL),
         "/layers/000/v: expected [2, 12, d_v] f16|f32|bf16, found nothing")
REJECTED(v_heads, RESHAPE("layers/000/v", half(), 1, T, D_V),
         "/layers/000/v: expected [2, 12, d_v] f16|f32|bf16, found [1, 12, 6] f16")
REJECTED(v_beside_prefix, set_int(file, "layers/000", "v_is_k_prefix", 4),
         "/layers/000/v: expected nothing (v_is_k_prefix says that the keys hold the values), "
         "found a dataset")
REJECTED(prefix_too_long, set_int(file, "layers/000", "v_is_k_prefix", 9),
         "/layers/000@v_is_k_prefix: expected 0..8, found 9")
REJECTED(scale_missing, drop(file, "layers/000", "scale"),
         "/layers/000@scale: expected a floating-point number, found nothing")
REJECTED(scale_integer, set_int(file, "layers/000", "scale", 1),
         "/layers/000@scale: expected a floating-point number, found i64")
REJECTED(scale_nan, set_real(file, "layers/000", "scale", (double)NAN),
         "/layers/000@scale: expected a finite number above 0, found *")
REJECTED(softcap_negative, set_real(file, "layers/002", "softcap", -1),
         "/layers/002@softcap: expected a finite number of at least 0, found -1")
REJECTED(kind_other, set_text(file, "layers/000", "kind", "linear"),
         "/layers/000@kind: expected full or sliding, found linear")
REJECTED(window_negative, set_int(file, "layers/002", "window", -4),
         "/layers/002@window: expected 0..2147483647, found -4")
REJECTED(rope_layout_other, set_text(file, "layers/000", "rope_layout", "spiral"),
         "/layers/000@rope_layout: expected half, interleaved or none, found spiral")
REJECTED(rope_dims_wide, set_int(file, "layers/000", "rope_dims", 10),
         "/layers/000@rope_dims: expected 0..8, found 10")
REJECTED(rope_dims_odd, set_int(file, "layers/000", "rope_dims", 5),
         "/layers/000@rope_dims: expected an even number from 2, found 5")
REJECTED(rope_scale_zero, set_real(file, "layers/000", "rope_scale", 0),
         "/layers/000@rope_scale: expected a finite number above 0, found 0")
REJECTED(inv_freq_missing, drop(file, "layers/000/rope_inv_freq", NULL),
         "/layers/000/rope_inv_freq: expected [3] f64, found nothing")
REJECTED(inv_freq_float, RESHAPE("layers/000/rope_inv_freq", H5T_IEEE_F32LE, 3),
         "/layers/000/rope_inv_freq: expected [3] f64, found [3] f32")
REJECTED(inv_freq_without_rope, set_text(file, "layers/000", "rope_layout", "none"),
         "/layers/000/rope_inv_freq: expected nothing beside rope_layout = none, found a dataset")
REJECTED(qk_norm_two, set_int(file, "layers/000", "qk_norm", 2),
         "/layers/000@qk_norm: expected 0..1, found 2")
REJECTED(post_norm_text, set_text(file, "layers/000", "attn_post_norm", "yes"),
         "/layers/000@attn_post_norm: expected an integer, found str")
REJECTED(sink_logits_shape, RESHAPE("layers/000/sink_logits", H5T_IEEE_F32LE, 3),
         "/layers/000/sink_logits: expected [4] f32, found [3] f32")
REJECTED(w_o_shape, RESHAPE("layers/000/w_o", half(), HIDDEN, 23),
         "/layers/000/w_o: expected [hidden, 24] f16|f32|bf16, found [5, 23] f16")
REJECTED(x2_shape, RESHAPE("layers/000/x2", H5T_IEEE_F32LE, 11),
         "/layers/000/x2: expected [12] f32, found [11] f32")

static void infinite_frequency(hid_t file)
{
    const double value = (double)INFINITY;
    poke(file, "layers/000/rope_inv_freq", 1, &value);
}
Test(trace_reject, inv_freq_infinite)
{
    expect_rejected(infinite_frequency,
                    "/layers/000/rope_inv_freq: expected finite numbers, found inf at [1]");
}

static void nan_sink(hid_t file)
{
    const float value = NAN;
    poke(file, "layers/000/sink_logits", 2, &value);
}
Test(trace_reject, sink_logit_nan)
{
    expect_rejected(nan_sink, "/layers/000/sink_logits: expected numbers, found *");
}

/* Shared keys. */
REJECTED(source_missing, set_int(file, "layers/003", "kv_source", 1),
         "/layers/003@kv_source: expected a recorded layer, found 1")
REJECTED(source_unrecorded_own_keys, set_int(file, "layers/002", "kv_source", 0),
         "/layers/002/k: expected nothing (kv_source names another layer), found a dataset")

static void chain(hid_t file)
{
    set_int(file, "layers/002", "kv_source", 0);
    drop(file, "layers/002/k", NULL);
    drop(file, "layers/002/v", NULL);
}
Test(trace_reject, source_reads_itself)
{
    expect_rejected(chain,
                    "/layers/003@kv_source: expected a layer with keys of its own, found 2, which"
                    " reads those of 0");
}
REJECTED(source_dim, RESHAPE("layers/003/q", half(), Q_HEADS, T, 10),
         "/layers/003/q: expected d_k = 8 as in layer 2, found 10")
REJECTED(source_heads, RESHAPE("layers/003/q", half(), 3, T, D_K),
         "/layers/003/q: expected a multiple of kv_heads = 2 of layer 2, found 3")

/* Numbers. */
REJECTED(q_nan, poke_word(file, "layers/002/q", (2 * T + 5) * D_K + 3, 0x7e01),
         "/layers/002/q: expected finite numbers, found NaN at [2, 5, 3]")
REJECTED(k_infinite, poke_word(file, "layers/000/k", (1 * T + 11) * D_K + 7, 0xfc00),
         "/layers/000/k: expected finite numbers, found infinity at [1, 11, 7]")
REJECTED(v_nan, poke_word(file, "layers/000/v", 0, 0xffff),
         "/layers/000/v: expected finite numbers, found NaN at [0, 0, 0]")
REJECTED(gradient_nan, poke_word(file, "grad/label/000", 1, 0x7c01),
         "/grad/label/000: expected finite numbers, found NaN at [0, 0, 1]")
REJECTED(w_o_infinite, poke_word(file, "layers/003/w_o", 25, 0x7c00),
         "/layers/003/w_o: expected finite numbers, found infinity at [1, 1]")
REJECTED(one_bit, poke_word(file, "layers/000/k", 4, 0x0001), "/@content_hash: expected xxh3:*")

/* Probes. */
REJECTED(windows_missing, drop(file, "grad/windows", NULL),
         "/grad/windows: expected [n, 2] i32, found nothing")
REJECTED(window_in_prompt, poke_int(file, "grad/windows", 0, 7),
         "/grad/windows: expected a range within 8..11, found [7, 10) at 0")
REJECTED(window_of_last_token, poke_int(file, "grad/windows", 3, 12),
         "/grad/windows: expected a range within 8..11, found [10, 12) at 1")
REJECTED(
    windows_overlap, poke_int(file, "grad/windows", 2, 9),
    "/grad/windows: expected ascending ranges that do not overlap, found [9, 11) after [8, 10)")
REJECTED(gradient_shape, RESHAPE("grad/label/000", half(), Q_HEADS, W + 1, D_V),
         "/grad/label/000: expected [4, 3, 6] f16|f32, found [4, 4, 6] f16")
REJECTED(gradient_unit, drop(file, "grad/fisher/1/002", "unit"),
         "/grad/fisher/1/002@unit: expected a floating-point number, found nothing")
REJECTED(gradient_lost, drop(file, "grad/fisher/1/002", NULL),
         "/grad/fisher/1: expected gradients of 3 layers as in the other probes, found 2")
REJECTED(gradient_extra, drop(file, "grad/label/002", NULL),
         "/grad/fisher/0/002: expected every probe to hold the same layers, found one more")
REJECTED(gradient_of_no_layer, H5Lmove(file, "grad/label/002", file, "grad/label/001", H5P_DEFAULT,
         H5P_DEFAULT), "/grad/label/001: expected the index of a recorded layer, found 001")
REJECTED(seeds_missing, drop(file, "grad/fisher/0", "seeds"),
         "/grad/fisher/0@seeds: expected [2] i64, found nothing")
REJECTED(seeds_scalar, set_int(file, "grad/fisher/0", "seeds", 3),
         "/grad/fisher/0@seeds: expected [2] i64, one for each window, found [] i64")
REJECTED(fisher_numbers,
         H5Lmove(file, "grad/fisher/0", file, "grad/fisher/7", H5P_DEFAULT, H5P_DEFAULT),
         "/grad/fisher/0: expected probes numbered 0..1, found none of this number")

/* Sizes that no memory holds are refused by what the file can contain. */
static void huge_chunked(hid_t file)
{
    const hsize_t dims[] = {1 << 20, T, 1 << 20}, chunk[] = {1, T, 64};
    const hid_t space = H5Screate_simple(3, dims, NULL), list = H5Pcreate(H5P_DATASET_CREATE),
                type = half();
    drop(file, "layers/000/q", NULL);
    H5Pset_chunk(list, 3, chunk);
    H5Dclose(H5Dcreate2(file, "layers/000/q", type, space, H5P_DEFAULT, list, H5P_DEFAULT));
    H5Tclose(type);
    H5Pclose(list);
    H5Sclose(space);
}
Test(trace_reject, huge_without_data)
{
    expect_rejected(huge_chunked,
                    "/layers/000/q: expected 26388279066624 bytes of data, found 0 stored*");
}

static void other_file(hid_t file)
{
    const hsize_t dims[] = {Q_HEADS, T, D_K};
    const hid_t space = H5Screate_simple(3, dims, NULL), list = H5Pcreate(H5P_DATASET_CREATE),
                type = half();
    drop(file, "layers/000/q", NULL);
    H5Pset_external(list, "/etc/hostname", 0, H5F_UNLIMITED);
    H5Dclose(H5Dcreate2(file, "layers/000/q", type, space, H5P_DEFAULT, list, H5P_DEFAULT));
    H5Tclose(type);
    H5Pclose(list);
    H5Sclose(space);
}
Test(trace_reject, data_in_another_file)
{
    expect_rejected(other_file,
                    "/layers/000/q: expected data in this file, found a reference to another");
}

/* Files that are none. */
static void expect_file_rejected(const char *path, const char *expected)
{
    struct kv_error err = {""};
    struct kv_trace *trace = NULL;
    char text[512];
    cr_assert_eq(kv_trace_open(&trace, path, 0, &err), KV_EINPUT);
    snprintf(text, sizeof text, "%s: /: %s", path, expected);
    cr_assert_eq(strncmp(err.text, text, strlen(text)), 0, "expected %s, found %s", text, err.text);
}

Test(trace_reject, file_missing)
{
    expect_file_rejected("/nowhere/x.h5",
                         "expected a readable trace file, found: No such file or directory");
}

Test(trace_reject, folder)
{
    expect_file_rejected("/tmp", "expected a trace file, found a folder");
}

Test(trace_reject, text_file)
{
    char path[128];
    FILE *file = fopen(scratch(path, "text"), "w");
    fputs("not a trace at all\n", file);
    fclose(file);
    expect_file_rejected(path, "expected an HDF5 file, found 19 bytes of something else");
    unlink(path);
}

Test(trace_reject, half_a_file)
{
    char path[128];
    struct kv_error err;
    struct stat info;
    cr_assert_eq(make_trace(scratch(path, "half"), KV_H5_F16, 0, &err), KV_OK);
    stat(path, &info);
    cr_assert_eq(truncate(path, info.st_size / 2), 0);
    expect_file_rejected(path,
                         "expected a whole HDF5 file, found one that is truncated or damaged");
    unlink(path);
}

/* Cut anywhere: always a message, never a crash (Criterion reports a signal as a failure). */
Test(trace_reject, cut_at_every_997th_byte, .timeout = 120)
{
    char path[128];
    struct kv_error err;
    struct stat info;
    cr_assert_eq(make_trace(scratch(path, "cut"), KV_H5_F16, 1, &err), KV_OK);
    stat(path, &info);
    for (off_t size = (info.st_size - 1) / 997 * 997; size >= 0; size -= 997) {
        struct kv_trace *trace = NULL;
        cr_assert_eq(truncate(path, size), 0);
        cr_assert_eq(kv_trace_open(&trace, path, 0, &err), KV_EINPUT, "cut to %ld", (long)size);
        cr_assert_null(trace);
    }
    unlink(path);
}
