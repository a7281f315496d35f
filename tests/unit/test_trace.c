/* What is written is read back bit for bit; hashes; failures of the writer. */
#include <criterion/criterion.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/test_trace_fixture.h"
#include "traces/finite.h"
#include "traces/hash.h"
#include "traces/trace.h"

static struct kv_trace *opened(const char *path, unsigned flags)
{
    struct kv_error err = {""};
    struct kv_trace *trace = NULL;
    cr_assert_eq(kv_trace_open(&trace, path, flags, &err), KV_OK, "%s", err.text);
    return trace;
}

static struct kv_trace *made(char path[128], enum kv_h5_type type, int deflated)
{
    struct kv_error err = {""};
    cr_assert_eq(make_trace(scratch(path, "trace"), type, deflated, &err), KV_OK, "%s", err.text);
    return opened(path, 0);
}

static void expect_elements(const struct kv_tensor *tensor, uint32_t salt)
{
    float row[D_K];
    uint32_t i = 0;
    for (uint32_t head = 0; head < tensor->heads; head++)
        for (uint32_t t = 0; t < tensor->tokens; t++) {
            kv_tensor_widen(tensor, head, t, 1, row);
            for (uint32_t d = 0; d < tensor->dim; d++, i++)
                cr_assert_eq(row[d], element(salt, i), "salt %u element %u", salt, i);
        }
}

static void expect_layer(const struct kv_trace *trace, uint32_t i)
{
    struct kv_error err = {""};
    struct kv_layer *layer = NULL;
    const uint32_t index = trace->layers[i].index, source = trace->layers[i].kv_source;
    cr_assert_eq(
        kv_trace_read_layer(&layer, trace, i, KV_READ_GRADIENTS | KV_READ_PROJECTION, &err), KV_OK,
        "%s", err.text);
    expect_elements(&layer->q, index);
    expect_elements(&layer->k, source + 10);
    expect_elements(&layer->v, source + 20);
    cr_assert_eq(layer->hidden, HIDDEN);
    for (uint32_t n = 0; n < HIDDEN * Q_HEADS * D_V; n++)
        cr_assert_eq(layer->w_o[n], element(index + 30, n));
    for (uint32_t t = 0; t < T; t++) cr_assert_eq(layer->x2[t], element(40, t));
    expect_elements(&layer->label.tensor, index + 70);
    expect_elements(&layer->fisher[0].tensor, index + 80);
    expect_elements(&layer->fisher[1].tensor, index + 90);
    cr_assert_eq(layer->fisher[1].unit, 0.125);
    kv_layer_free(layer);
}

static void expect_round_trip(enum kv_h5_type type, int deflated, enum kv_dtype dtype)
{
    char path[128];
    struct kv_trace *trace = made(path, type, deflated);
    cr_assert(trace->verified);
    cr_assert_eq(trace->n_layers, 3);
    for (uint32_t i = 0; i < trace->n_layers; i++) {
        cr_assert_eq(trace->layers[i].dtype, dtype);
        expect_layer(trace, i);
    }
    kv_trace_close(trace);
    unlink(path);
}

Test(trace, f16_comes_back_bit_for_bit) { expect_round_trip(KV_H5_F16, 0, KV_F16); }
Test(trace, bf16_comes_back_bit_for_bit) { expect_round_trip(KV_H5_BF16, 0, KV_BF16); }
Test(trace, f32_comes_back_bit_for_bit) { expect_round_trip(KV_H5_F32, 0, KV_F32); }
Test(trace, deflated_f16_comes_back_bit_for_bit) { expect_round_trip(KV_H5_F16, 1, KV_F16); }
Test(trace, deflated_bf16_comes_back_bit_for_bit) { expect_round_trip(KV_H5_BF16, 1, KV_BF16); }

Test(trace, geometry_is_what_the_file_says)
{
    char path[128];
    struct kv_trace *trace = made(path, KV_H5_F16, 0);
    const struct kv_trace_layer *layer = &trace->layers[1];
    const struct kv_geometry *g = &layer->geometry;
    cr_assert_eq(trace->tokens, T);
    cr_assert_eq(trace->prefill, P);
    cr_assert_eq(trace->question_start, 6);
    cr_assert_eq(trace->model_layers, 9);
    cr_assert_eq(trace->n_windows, 2);
    cr_assert_eq(trace->window_tokens, W);
    cr_assert_eq(trace->n_fisher, 2);
    cr_assert(trace->has_label);
    cr_assert_str_eq(trace->spans[0].name, "needle");
    cr_assert_eq(trace->spans[0].range[1][1], 6);
    cr_assert_eq(layer->index, 2);
    cr_assert(layer->sliding && layer->qk_norm && !layer->attn_post_norm && layer->has_gradients);
    cr_assert_eq(g->group, 2);
    cr_assert_eq(g->key_dim, D_K);
    cr_assert_eq(g->value_dim, D_V);
    cr_assert_eq(g->window, 5);
    cr_assert_eq(g->softcap, 30);
    cr_assert_eq(g->scale, 0.375);
    cr_assert_eq(g->element_bits, 16);
    cr_assert_eq(g->rope.layout, KV_ROPE_HALF);
    cr_assert_eq(g->rope.inv_freq[2], 0.0625);
    cr_assert_eq(g->rope.scale, 1.5);
    cr_assert_eq(g->positions[3], 24);
    cr_assert_eq(g->sink_logits[1], element(50, 1));
    cr_assert_eq(trace->layers[2].kv_source, 2);
    cr_assert_eq(trace->layers[2].geometry.kv_heads, KV_HEADS);
    kv_trace_close(trace);
    unlink(path);
}

/* Computed once by a program of 20 lines of Python on this file: h5py visits all items, the keys
 * are sorted as bytes, and xxhash.xxh3_128 takes key, 0, type name, 0, dims joined by x, 0, data, 0
 * as schema.md says; no line of it is shared with traces/. */
Test(trace, content_hash_is_the_one_that_python_computes)
{
    char path[128];
    struct kv_trace *trace = made(path, KV_H5_F16, 0);
    cr_expect_str_eq(trace->content_hash, "xxh3:cfef9557cf0e467de7d6bd82fa4b0ef6");
    kv_trace_close(trace);
    trace = made(path, KV_H5_BF16, 0);
    cr_expect_str_eq(trace->content_hash, "xxh3:36639086df41f191c19305342771651e");
    kv_trace_close(trace);
    unlink(path);
}

Test(trace, hash_does_not_depend_on_layout)
{
    char path[128], plain[64];
    struct kv_trace *trace = made(path, KV_H5_F16, 0);
    snprintf(plain, sizeof plain, "%s", trace->content_hash);
    kv_trace_close(trace);
    trace = made(path, KV_H5_F16, 1);
    cr_assert_str_eq(trace->content_hash, plain);
    kv_trace_close(trace);
    unlink(path);
}

static void edit_and_close(const char *path, void (*edit)(hid_t file))
{
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    edit(file);
    cr_assert(H5Fclose(file) >= 0);
}

/* Neither extras nor the string's kind nor the recorder's name count. */
static void edit_uncounted(hid_t file)
{
    const hsize_t dims[] = {3};
    set_text(file, "", "recorder", "somebody else");
    set_text(file, "", "model", "tiny");
    set_int(file, "", "x_note", 4);
    set_int(file, "layers/000", "colour", 5);
    H5Gclose(H5Gcreate2(file, "x_more", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    reshape(file, "x_more/data", H5T_IEEE_F64LE, 1, dims);
}
Test(trace, extras_and_recorder_do_not_count)
{
    char path[128];
    kv_trace_close(made(path, KV_H5_F16, 0));
    edit_and_close(path, edit_uncounted);
    struct kv_trace *trace = opened(path, 0);
    cr_assert_str_eq(trace->recorder, "somebody else");
    kv_trace_close(trace);
    unlink(path);
}

static void edit_one_word(hid_t file)
{
    const uint16_t word = 0x3c00;
    poke(file, "layers/000/v", 9, &word);
}
Test(trace, no_verify_opens_and_says_so)
{
    char path[128];
    kv_trace_close(made(path, KV_H5_F16, 0));
    edit_and_close(path, edit_one_word);
    struct kv_trace *trace = opened(path, KV_NO_VERIFY);
    cr_assert(!trace->verified);
    kv_trace_close(trace);
    unlink(path);
}

/* Keys hold the values: a view with the keys' stride. Any width of integer will do for a number. */
static void edit_prefix(hid_t file)
{
    const int8_t prefix = 4;
    drop(file, "layers/000/v", NULL);
    drop(file, "layers/000/w_o", NULL);
    drop(file, "grad", NULL);
    set_value(file, "layers/000", "v_is_k_prefix", H5T_STD_I8LE, &prefix);
}
Test(trace, values_may_be_a_prefix_of_the_keys)
{
    char path[128];
    struct kv_error err;
    struct kv_layer *layer = NULL;
    kv_trace_close(made(path, KV_H5_F16, 0));
    edit_and_close(path, edit_prefix);
    struct kv_trace *trace = opened(path, KV_NO_VERIFY);
    cr_assert_eq(kv_trace_read_layer(&layer, trace, 0, 0, &err), KV_OK);
    cr_assert_eq(layer->v.data, layer->k.data);
    cr_assert_eq(layer->v.dim, 4);
    cr_assert_eq(layer->v.stride, D_K);
    cr_assert_null(layer->w_o);
    cr_assert_null(layer->label.tensor.data);
    kv_layer_free(layer);
    kv_trace_close(trace);
    unlink(path);
}

Test(trace, finite_scan_finds_the_first_word_anywhere)
{
    enum { N = 5001 };
    static uint16_t words[N];
    cr_assert_eq(kv_first_not_finite(words, N, KV_H5_F16), N);
    for (size_t at = 0; at < N; at += 713) {
        words[at] = 0xfc00;
        words[N - 1] = 0x7e00;
        cr_assert_eq(kv_first_not_finite(words, N, KV_H5_F16), at);
        cr_assert(!kv_is_nan(words, at, KV_H5_F16));
        words[at] = words[N - 1] = 0x7bff;
        cr_assert_eq(kv_first_not_finite(words, N, KV_H5_F16), N);
    }
    words[17] = 0x7f81;
    cr_assert_eq(kv_first_not_finite(words, N, KV_H5_BF16), 17);
    cr_assert(kv_is_nan(words, 17, KV_H5_BF16));
}

static int exists(const char *path, const char *suffix)
{
    char text[160];
    snprintf(text, sizeof text, "%s%s", path, suffix);
    return access(text, F_OK) == 0;
}

Test(writer, read_only_folder_is_an_environment_error)
{
    struct kv_error err;
    struct kv_trace_writer *writer;
    cr_assert_eq(kv_trace_writer_create(&writer, "/proc/self/x.h5", &err), KV_EENVIRONMENT);
    cr_assert_null(writer);
    cr_assert_not_null(strstr(err.text, "/proc/self/x.h5: /: expected to write it, found: "));
}

/* A file size limit stands for a full disk: write fails with "File too large". */
Test(writer, full_disk_leaves_nothing_behind)
{
    char path[128];
    scratch(path, "full");
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {20000, 20000};
        struct kv_error err = {""};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        const int status = make_trace(path, KV_H5_F32, 0, &err);
        const int good = status == KV_EENVIRONMENT && strstr(err.text, "found: File too large")
                      && !exists(path, "") && !exists(path, ".partial");
        if (!good) fprintf(stderr, "status %d: %s\n", status, err.text);
        _exit(!good);
    }
    int state = 0;
    waitpid(child, &state, 0);
    cr_assert(WIFEXITED(state) && WEXITSTATUS(state) == 0);
}

Test(writer, abandoned_file_is_gone_and_the_old_one_stays)
{
    char path[128];
    struct kv_error err;
    struct kv_trace_writer *writer;
    kv_trace_close(made(path, KV_H5_F16, 0));
    cr_assert_eq(kv_trace_writer_create(&writer, path, &err), KV_OK);
    cr_assert(exists(path, ".partial"));
    kv_trace_writer_abandon(writer);
    cr_assert(!exists(path, ".partial"));
    kv_trace_close(opened(path, 0));
    unlink(path);
}
