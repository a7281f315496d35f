/* Cutting and joining traces: what stays is bit for bit what was there. */
#include <criterion/criterion.h>

#include "tests/unit/test_trace_fixture.h"
#include "traces/slice.h"
#include "traces/trace.h"

struct pair {
    char from_path[128], to_path[128], notes[256];
    struct kv_trace *from, *to;
};

static struct pair start(enum kv_h5_type type, int deflated)
{
    struct pair pair = {.to = NULL};
    struct kv_error err = {""};
    cr_assert_eq(make_trace(scratch(pair.from_path, "from"), type, deflated, &err), KV_OK, "%s",
                 err.text);
    cr_assert_eq(kv_trace_open(&pair.from, pair.from_path, 0, &err), KV_OK, "%s", err.text);
    scratch(pair.to_path, "to");
    return pair;
}

static void cut(struct pair *pair, const struct kv_slice *slice)
{
    struct kv_error err = {""};
    cr_assert_eq(kv_trace_slice(pair->to_path, pair->from, slice, pair->notes, &err), KV_OK, "%s",
                 err.text);
    cr_assert_eq(kv_trace_open(&pair->to, pair->to_path, 0, &err), KV_OK, "%s", err.text);
}

static void end(struct pair *pair)
{
    kv_trace_close(pair->from);
    kv_trace_close(pair->to);
    unlink(pair->from_path);
    unlink(pair->to_path);
}

static struct kv_layer *layer_of(const struct kv_trace *trace, uint32_t i)
{
    struct kv_error err = {""};
    struct kv_layer *layer = NULL;
    cr_assert_eq(
        kv_trace_read_layer(&layer, trace, i, KV_READ_GRADIENTS | KV_READ_PROJECTION, &err), KV_OK,
        "%s", err.text);
    return layer;
}

/* Rows [head + head_0][t + t_0] of a are rows [head][t] of b. */
static void expect_part(const struct kv_tensor *a, const struct kv_tensor *b, uint32_t head_0,
                        uint32_t t_0)
{
    cr_assert_eq(a->dtype, b->dtype);
    cr_assert_eq(a->dim, b->dim);
    for (uint32_t head = 0; head < b->heads; head++)
        for (uint32_t t = 0; t < b->tokens; t++)
            cr_assert_eq(memcmp(kv_tensor_row(a, head + head_0, t + t_0), kv_tensor_row(b, head, t),
                                b->dim * kv_dtype_bytes(b->dtype)), 0);
}

Test(slice, everything_is_the_same_content)
{
    struct pair pair = start(KV_H5_BF16, 1);
    const struct kv_slice slice = {.end = 0};
    cut(&pair, &slice);
    cr_expect_str_eq(pair.from->content_hash, pair.to->content_hash);
    cr_expect_str_eq(pair.notes, "");
    end(&pair);
}

Test(slice, layers_and_heads_are_cut_consistently)
{
    struct pair pair = start(KV_H5_F16, 0);
    const uint32_t layers[] = {2, 3}, heads[] = {1};
    const struct kv_slice slice = {.layers = layers, .n_layers = 2, .heads = heads, .n_heads = 1};
    cut(&pair, &slice);
    cr_assert_eq(pair.to->n_layers, 2);
    cr_assert_eq(pair.to->layers[1].kv_source, 2);
    struct kv_layer *whole = layer_of(pair.from, 1), *part = layer_of(pair.to, 0);
    cr_assert_eq(part->q.heads, 2);
    cr_assert_eq(part->k.heads, 1);
    expect_part(&whole->q, &part->q, 2, 0);
    expect_part(&whole->k, &part->k, 1, 0);
    expect_part(&whole->v, &part->v, 1, 0);
    expect_part(&whole->label.tensor, &part->label.tensor, 2, 0);
    expect_part(&whole->fisher[1].tensor, &part->fisher[1].tensor, 2, 0);
    cr_assert_eq(part->fisher[1].unit, whole->fisher[1].unit);
    for (uint32_t row = 0; row < HIDDEN; row++)
        cr_assert_eq(memcmp(part->w_o + row * 2 * D_V, whole->w_o + row * 4 * D_V + 2 * D_V,
                            2 * D_V * sizeof(float)), 0);
    cr_assert_null(part->x2);
    cr_assert_eq(part->info->geometry.sink_logits[0], whole->info->geometry.sink_logits[2]);
    kv_layer_free(whole);
    kv_layer_free(part);
    end(&pair);
}

Test(slice, a_shorter_text_keeps_the_windows_that_fit)
{
    struct pair pair = start(KV_H5_F32, 0);
    const struct kv_slice slice = {.end = 11};
    cut(&pair, &slice);
    cr_assert_eq(pair.to->tokens, 11);
    cr_assert_eq(pair.to->n_windows, 1);
    cr_assert_eq(pair.to->windows[0][1], 10);
    cr_assert_eq(pair.to->n_fisher, 2);
    cr_assert_str_eq(pair.notes,
                     "1 of 2 probe windows dropped: they do not fit the tokens that stay");
    struct kv_layer *whole = layer_of(pair.from, 0), *part = layer_of(pair.to, 0);
    expect_part(&whole->q, &part->q, 0, 0);
    expect_part(&whole->label.tensor, &part->label.tensor, 0, 0);
    cr_assert_eq(part->x2[10], whole->x2[10]);
    kv_layer_free(whole);
    kv_layer_free(part);
    end(&pair);
}

Test(slice, tokens_from_the_middle_shift_ranges_and_drop_probes)
{
    struct pair pair = start(KV_H5_F16, 0);
    const struct kv_slice slice = {.first = 2, .end = 12};
    cut(&pair, &slice);
    cr_assert_eq(pair.to->prefill, 6);
    cr_assert_eq(pair.to->question_start, 4);
    cr_assert_eq(pair.to->spans[0].n, 2);
    cr_assert_eq(pair.to->spans[0].range[0][0], 0);
    cr_assert_eq(pair.to->spans[0].range[0][1], 1);
    cr_assert_eq(pair.to->positions[0], pair.from->positions[2]);
    cr_assert_eq(pair.to->n_windows, 0);
    cr_assert_eq(pair.to->n_fisher, 0);
    cr_assert_str_eq(pair.notes,
                     "2 of 2 probe windows dropped: their gradients saw the tokens cut off before");
    struct kv_layer *whole = layer_of(pair.from, 0), *part = layer_of(pair.to, 0);
    expect_part(&whole->k, &part->k, 0, 2);
    kv_layer_free(whole);
    kv_layer_free(part);
    end(&pair);
}

static void expect_refused(const struct kv_slice *slice, const char *message)
{
    struct pair pair = start(KV_H5_F16, 0);
    struct kv_error err = {""};
    cr_expect_eq(kv_trace_slice(pair.to_path, pair.from, slice, NULL, &err), KV_EUSAGE);
    cr_expect_eq(strncmp(err.text, message, strlen(message)), 0, "%s", err.text);
    cr_expect_neq(access(pair.to_path, F_OK), 0);
    end(&pair);
}

Test(slice, what_is_not_there_is_refused)
{
    const uint32_t one[] = {1}, three[] = {3}, heads[] = {2};
    expect_refused(&(struct kv_slice){.end = 13},
                   "trace slice: --tokens 0:13: expected at least two tokens");
    expect_refused(&(struct kv_slice){.end = 8},
                   "trace slice: --prefill 8: expected 1..7 for tokens 0:8");
    expect_refused(&(struct kv_slice){.layers = one, .n_layers = 1},
                   "trace slice: --layers 1: expected a layer that");
    expect_refused(
        &(struct kv_slice){.layers = three, .n_layers = 1},
        "trace slice: --layers: expected layer 2 too, whose keys and values layer 3 reads");
    expect_refused(&(struct kv_slice){.heads = heads, .n_heads = 1},
                   "trace slice: --heads 2: expected KV heads 0..1 of layer 0");
}

Test(merge, parts_joined_are_the_whole)
{
    struct pair pair = start(KV_H5_F16, 0);
    struct kv_error err = {""};
    const uint32_t first[] = {0}, rest[] = {2, 3};
    char other_path[128], whole_path[128];
    struct kv_trace *other = NULL, *whole = NULL;
    cut(&pair, &(struct kv_slice){.layers = rest, .n_layers = 2});
    scratch(other_path, "other");
    scratch(whole_path, "whole");
    cr_assert_eq(kv_trace_slice(other_path, pair.from,
                                &(struct kv_slice){.layers = first, .n_layers = 1}, NULL, &err),
                 KV_OK);
    cr_assert_eq(kv_trace_open(&other, other_path, 0, &err), KV_OK);
    cr_assert_eq(kv_trace_merge(whole_path, pair.to, other, pair.notes, &err), KV_OK, "%s",
                 err.text);
    cr_assert_eq(kv_trace_open(&whole, whole_path, 0, &err), KV_OK, "%s", err.text);
    cr_expect_str_eq(whole->content_hash, pair.from->content_hash);
    cr_expect_eq(kv_trace_merge(whole_path, pair.from, other, NULL, &err), KV_EINPUT);
    cr_expect_not_null(strstr(err.text, "/layers/000: expected layers that"));
    kv_trace_close(other);
    kv_trace_close(whole);
    unlink(other_path);
    unlink(whole_path);
    end(&pair);
}

static void edit_position(hid_t file)
{
    const int32_t value = 99;
    poke(file, "positions", 3, &value);
}

Test(merge, another_text_is_refused)
{
    struct pair pair = start(KV_H5_F16, 0);
    struct kv_error err = {""};
    const uint32_t first[] = {0};
    cut(&pair, &(struct kv_slice){.layers = first, .n_layers = 1});
    kv_trace_close(pair.to);
    const hid_t file = H5Fopen(pair.to_path, H5F_ACC_RDWR, H5P_DEFAULT);
    edit_position(file);
    H5Fclose(file);
    cr_assert_eq(kv_trace_open(&pair.to, pair.to_path, KV_NO_VERIFY, &err), KV_OK);
    cr_expect_eq(kv_trace_merge(pair.to_path, pair.from, pair.to, NULL, &err), KV_EINPUT);
    cr_expect_not_null(strstr(err.text, ": /positions: expected the same as in "));
    end(&pair);
}
