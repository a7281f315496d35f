/* A small trace with everything in it, and edits that break it; for the trace tests. */
#ifndef KVBENCH_TESTS_TEST_TRACE_FIXTURE_H
#define KVBENCH_TESTS_TEST_TRACE_FIXTURE_H

#include <hdf5.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness/base/half.h"
#include "traces/writer.h"

enum { T = 12, P = 8, Q_HEADS = 4, KV_HEADS = 2, D_K = 8, D_V = 6, HIDDEN = 5, W = 3 };

/* A path of its own for each test process. */
static inline const char *scratch(char path[128], const char *name)
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, 128, "%.80s/kv_%ld_%.20s.h5", folder ? folder : "/tmp", (long)getpid(), name);
    return path;
}

/* Element i of dataset number `salt`: -1.9 .. 1.9, exact in half precision. */
static inline float element(uint32_t salt, uint32_t i)
{
    return (float)((int)((i * 37 + salt * 101) % 61) - 30) * 0.0625f;
}

static inline void put_tensor(struct kv_trace_writer *w, const char *object, enum kv_h5_type type,
                              uint32_t rank, const uint64_t *dims, uint32_t salt, int deflated)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < rank; i++) n *= dims[i];
    float *wide = malloc(n * sizeof *wide);
    uint16_t *words = malloc(n * sizeof *words);
    for (uint32_t i = 0; i < n; i++) {
        wide[i] = element(salt, i);
        words[i] = type == KV_H5_BF16 ? kv_float_to_bfloat(wide[i]) : kv_float_to_half(wide[i]);
    }
    const void *data = type == KV_H5_F32 ? (void *)wide : (void *)words;
    if (deflated) kv_trace_writer_deflated(w, object, type, rank, dims, data);
    else kv_trace_writer_data(w, object, type, rank, dims, data);
    free(wide);
    free(words);
}

static inline void put_layer(struct kv_trace_writer *w, uint32_t index, uint32_t source,
                             enum kv_h5_type type, int deflated)
{
    char group[32], object[64];
    const uint64_t q[] = {Q_HEADS, T, D_K}, k[] = {KV_HEADS, T, D_K}, v[] = {KV_HEADS, T, D_V};
    const uint64_t w_o[] = {HIDDEN, Q_HEADS * D_V}, tokens[] = {T}, heads[] = {Q_HEADS},
                   pairs[] = {3};
    const double inv_freq[] = {1, 0.25, 0.0625};
    snprintf(group, sizeof group, "layers/%03u", index % 1000);
    kv_trace_writer_real(w, group, "scale", 0.375);
    kv_trace_writer_real(w, group, "softcap", index == 2 ? 30 : 0);
    kv_trace_writer_text(w, group, "kind", index == 2 ? "sliding" : "full");
    kv_trace_writer_i64(w, group, "window", index == 2 ? 5 : 0);
    kv_trace_writer_i64(w, group, "kv_source", source);
    kv_trace_writer_text(w, group, "rope_layout", "half");
    kv_trace_writer_i64(w, group, "rope_dims", 6);
    kv_trace_writer_real(w, group, "rope_scale", 1.5);
    kv_trace_writer_i32(w, group, "qk_norm", 1);
    snprintf(object, sizeof object, "%s/q", group);
    put_tensor(w, object, type, 3, q, index, deflated);
    snprintf(object, sizeof object, "%s/k", group);
    if (source == index) put_tensor(w, object, type, 3, k, index + 10, deflated);
    snprintf(object, sizeof object, "%s/v", group);
    if (source == index) put_tensor(w, object, type, 3, v, index + 20, deflated);
    snprintf(object, sizeof object, "%s/w_o", group);
    put_tensor(w, object, type, 2, w_o, index + 30, deflated);
    snprintf(object, sizeof object, "%s/x2", group);
    put_tensor(w, object, KV_H5_F32, 1, tokens, 40, 0);
    snprintf(object, sizeof object, "%s/sink_logits", group);
    put_tensor(w, object, KV_H5_F32, 1, heads, 50, 0);
    snprintf(object, sizeof object, "%s/rope_inv_freq", group);
    kv_trace_writer_data(w, object, KV_H5_F64, 1, pairs, inv_freq);
}

static inline void put_root(struct kv_trace_writer *w)
{
    static const int32_t needle[2][2] = {{1, 3}, {4, 6}}, windows[2][2] = {{8, 10}, {10, 11}};
    const uint64_t tokens[] = {T}, pairs[] = {2, 2};
    int32_t numbers[T];
    for (int i = 0; i < T; i++) numbers[i] = 7 * i + 3;
    kv_trace_writer_text(w, "", "model", "tiny");
    kv_trace_writer_text(w, "", "model_digest", "synthetic:test:1");
    kv_trace_writer_text(w, "", "model_config", "{\"text_config\": {\"num_hidden_layers\": 9}}");
    kv_trace_writer_text(w, "", "text", "numbers, CC0");
    kv_trace_writer_text(w, "", "recorder", "test_trace");
    kv_trace_writer_i64(w, "", "tokens", T);
    kv_trace_writer_i64(w, "", "prefill_length", P);
    kv_trace_writer_i64(w, "", "question_start", 6);
    kv_trace_writer_data(w, "token_ids", KV_H5_I32, 1, tokens, numbers);
    kv_trace_writer_data(w, "positions", KV_H5_I32, 1, tokens, numbers);
    put_tensor(w, "nll", KV_H5_F32, 1, tokens, 60, 0);
    kv_trace_writer_data(w, "spans/needle", KV_H5_I32, 2, pairs, needle);
    kv_trace_writer_data(w, "grad/windows", KV_H5_I32, 2, pairs, windows);
}

static inline void put_gradient(struct kv_trace_writer *w, const char *probe, uint32_t layer,
                                uint32_t salt)
{
    char object[64];
    const uint64_t dims[] = {Q_HEADS, W, D_V};
    snprintf(object, sizeof object, "grad/%s/%03u", probe, layer % 1000);
    put_tensor(w, object, KV_H5_F16, 3, dims, layer + salt, 0);
    kv_trace_writer_real(w, object, "unit", 0.125);
}

/* Layers 0 and 2 with keys of their own, layer 3 reading those of 2; label and two Fisher probes.
 */
static inline int make_trace(const char *path, enum kv_h5_type type, int deflated,
                             struct kv_error *err)
{
    struct kv_trace_writer *w;
    const int64_t seeds[] = {11, 12};
    const struct kv_h5_value value = {.type = KV_H5_I64, .rank = 1, .dims = {2}, .n = 2,
                                      .data = (void *)seeds};
    const int status = kv_trace_writer_create(&w, path, err);
    if (status != KV_OK) return status;
    put_root(w);
    put_layer(w, 0, 0, type, deflated);
    put_layer(w, 2, 2, type, deflated);
    put_layer(w, 3, 2, type, deflated);
    for (uint32_t layer = 0; layer < 4; layer++) {
        if (layer == 1) continue;
        put_gradient(w, "label", layer, 70);
        put_gradient(w, "fisher/0", layer, 80);
        put_gradient(w, "fisher/1", layer, 90);
    }
    kv_trace_writer_value(w, "grad/fisher/0", "seeds", &value);
    kv_trace_writer_value(w, "grad/fisher/1", "seeds", &value);
    return kv_trace_writer_finish(w, err);
}

/* Edits of an open file; each replaces what is there. */
static inline void drop(hid_t file, const char *object, const char *attribute)
{
    if (attribute) H5Adelete_by_name(file, *object ? object : ".", attribute, H5P_DEFAULT);
    else H5Ldelete(file, object, H5P_DEFAULT);
}

static inline void set_value(hid_t file, const char *object, const char *name, hid_t type,
                             const void *data)
{
    const hid_t owner = H5Oopen(file, *object ? object : "/", H5P_DEFAULT);
    const hid_t space = H5Screate(H5S_SCALAR);
    if (H5Aexists(owner, name) > 0) H5Adelete(owner, name);
    const hid_t attribute = H5Acreate2(owner, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, data);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Oclose(owner);
}

static inline void set_int(hid_t file, const char *object, const char *name, int64_t value)
{
    set_value(file, object, name, H5T_STD_I64LE, &value);
}

static inline void set_real(hid_t file, const char *object, const char *name, double value)
{
    set_value(file, object, name, H5T_IEEE_F64LE, &value);
}

/* Fixed length, unlike what the writer writes. */
static inline void set_text(hid_t file, const char *object, const char *name, const char *text)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(text) + 3);
    char padded[256] = "";
    snprintf(padded, sizeof padded, "%s", text);
    set_value(file, object, name, type, padded);
    H5Tclose(type);
}

/* Replaces a dataset by zeros of another type or shape. */
static inline void reshape(hid_t file, const char *object, hid_t type, int rank,
                           const hsize_t *dims)
{
    if (H5Lexists(file, object, H5P_DEFAULT) > 0) H5Ldelete(file, object, H5P_DEFAULT);
    const hid_t space = H5Screate_simple(rank, dims, NULL);
    const hid_t dataset =
        H5Dcreate2(file, object, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    void *zeros = calloc((size_t)H5Sget_simple_extent_npoints(space) + 1, 8);
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros);
    free(zeros);
    H5Dclose(dataset);
    H5Sclose(space);
}

/* Overwrites the bytes of one element of a dataset. */
static inline void poke(hid_t file, const char *object, size_t i, const void *bytes)
{
    const hid_t dataset = H5Dopen2(file, object, H5P_DEFAULT), type = H5Dget_type(dataset);
    const hid_t space = H5Dget_space(dataset);
    const size_t size = H5Tget_size(type);
    char *all = malloc(size * (size_t)H5Sget_simple_extent_npoints(space));
    H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all);
    memcpy(all + i * size, bytes, size);
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, all);
    free(all);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(dataset);
}

#endif
