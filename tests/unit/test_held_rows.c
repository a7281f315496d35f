/* Rows that are counted by arithmetic against rows that are gone through one by one. */
#include <criterion/criterion.h>

#include "harness/memory/memory_count.h"

static void compare(const char *text, uint32_t tokens, uint32_t decode, uint32_t layer)
{
    struct kv_error err = {{0}};
    struct kv_spec_list list;
    struct kv_kernels kernels;
    struct kv_memory_law *law = NULL;
    struct kv_memory_bytes counted, run;
    const struct kv_memory_shape shape = {.layers = &layer,
                                          .n_layers = 1,
                                          .model_layers = 12,
                                          .q_heads = 4,
                                          .kv_heads = 2,
                                          .key_dim = 32,
                                          .value_dim = 16,
                                          .element_bits = 16};
    cr_assert_eq(kv_kernels_fill(&kernels, "generic", &err), KV_OK);
    cr_assert_eq(kv_spec_parse(&list, text, &err), KV_OK, "%s: %s", text, err.text);
    cr_assert_eq(kv_memory_law_create(&law, &list.specs[0], &shape, &kernels, &err), KV_OK,
                 "%s: %s", text, err.text);
    const int status = kv_memory_law_bytes(law, tokens, decode, &counted, &err);
    kv_memory_law_go_through(law);
    cr_assert_eq(kv_memory_law_bytes(law, tokens, decode, &run, &err), status, "%s: %s", text,
                 err.text);
    if (status == KV_OK) {
        cr_expect_eq(counted.total, run.total,
                     "%s of %u, %u decoded: counted %lld, gone through %lld", text, tokens, decode,
                     (long long)counted.total, (long long)run.total);
        cr_expect_eq(counted.metadata, run.metadata, "%s of %u, %u decoded: metadata %lld, %lld",
                     text, tokens, decode, (long long)counted.metadata, (long long)run.metadata);
        cr_expect_eq(counted.least, run.least, "%s", text);
    }
    kv_memory_law_free(law);
    kv_spec_free(&list);
}

/* One of each rule: shares and numbers, sinks and windows, heads that share, chunks, layers,
 * several rows at once, pages, merged rows, policies in a row, codecs of one row and of blocks. */
static const char *const specs[] = {
    "window",
    "streaming:budget=40",
    "h2o:budget=0.3",
    "h2o:budget=40+int:bits=4",
    "h2o:budget=300",
    "h2o:budget=40:every=7",
    "scissorhands:budget=60",
    "tova:budget=33:positions=cache",
    "snapkv:budget=90",
    "snapkv:budget=90:observation_window=16+kivi:bits=2:residual_length=32",
    "pyramidkv:budget=80:observation_window=8",
    "adakv:budget=70:observation_window=8",
    "cake:budget=50:observation_window=8",
    "chunkkv:budget=100",
    "chunkkv:budget=70:observation_window=8:chunk=16",
    "criticalkv:budget=70",
    "knorm:budget=4b",
    "h2o:budget=1b+svd:rank=8",
    "expected-attention:budget=30",
    "lagkv:budget=60",
    "keydiff:budget=31",
    "random:budget=40",
    "cam:budget=40",
    "interleave:budget=24:locals=2",
    "quest",
    "topk",
    "h2o:budget=80+window:budget=30",
    "snapkv:budget=90+tova:budget=40",
    "h2o:budget=50+kivi:bits=2:residual_length=32",
    "window:budget=48+kivi:bits=2:residual_length=32",
    "window:budget=0.001",
    "window:budget=1B",
    "knorm:budget=40+int:bits=2:sinks=4",
    "adakv:budget=70+kivi:bits=2:residual_length=32"};

Test(held_rows, are_those_that_going_through_all_rows_leaves)
{
    static const uint32_t contexts[][2] = {{200, 0}, {200, 30}, {200, 150},
                                           {37, 0},  {37, 36},  {131, 1}};
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++)
        for (size_t c = 0; c < sizeof contexts / sizeof *contexts; c++)
            compare(specs[s], contexts[c][0], contexts[c][1], 7);
}

Test(held_rows, hang_on_the_layer_where_layers_share_a_budget)
{
    for (uint32_t layer = 0; layer < 12; layer += 3) {
        compare("pyramidkv:budget=80:observation_window=8", 200, 20, layer);
        compare("interleave:budget=24:locals=2", 200, 20, layer);
        compare("h2o:budget=60:layer_budget=inverted", 200, 20, layer);
    }
}
