/* Rows that are counted by arithmetic against rows that are gone through one by one. */
#include <criterion/criterion.h>
#include <string.h>

#include "harness/memory/memory_count.h"

struct counted {
    struct kv_memory_bytes counted, run;
    int status;
};

static struct counted count(const char *text, uint32_t tokens, uint32_t decode, uint32_t layer)
{
    struct kv_error err = {{0}};
    struct kv_spec_list list;
    struct kv_kernels kernels;
    struct kv_memory_law *law = NULL;
    struct counted out = {.status = KV_OK};
    const uint32_t layers[2] = {layer, layer + 1};
    const struct kv_memory_shape shape = {.layers = layers,
                                          .n_layers = strstr(text, "xkv") ? 2 : 1,
                                          .model_layers = 12,
                                          .q_heads = 8,
                                          .kv_heads = 4,
                                          .key_dim = 32,
                                          .value_dim = 16,
                                          .element_bits = 16};
    cr_assert_eq(kv_kernels_fill(&kernels, "generic", &err), KV_OK);
    cr_assert_eq(kv_spec_parse(&list, text, &err), KV_OK, "%s: %s", text, err.text);
    cr_assert_eq(kv_memory_law_create(&law, &list.specs[0], &shape, &kernels, &err), KV_OK,
                 "%s: %s", text, err.text);
    out.status = kv_memory_law_bytes(law, tokens, decode, &out.counted, &err);
    kv_memory_law_go_through(law);
    cr_assert_eq(kv_memory_law_bytes(law, tokens, decode, &out.run, &err), out.status, "%s: %s",
                 text, err.text);
    kv_memory_law_free(law);
    kv_spec_free(&list);
    return out;
}

static void compare(const char *text, uint32_t tokens, uint32_t decode, uint32_t layer)
{
    const struct counted c = count(text, tokens, decode, layer);
    if (c.status != KV_OK) return;
    cr_expect_eq(c.counted.total, c.run.total,
                 "%s of %u, %u decoded: counted %lld, gone through %lld", text, tokens, decode,
                 (long long)c.counted.total, (long long)c.run.total);
    cr_expect_eq(c.counted.metadata, c.run.metadata, "%s of %u, %u decoded: metadata %lld, %lld",
                 text, tokens, decode, (long long)c.counted.metadata, (long long)c.run.metadata);
    cr_expect_eq(c.counted.least, c.run.least, "%s", text);
}

static void compare_range(const char *text, uint32_t tokens, uint32_t decode)
{
    const struct counted c = count(text, tokens, decode, 7);
    if (c.status != KV_OK) return;
    cr_expect(c.run.total <= c.counted.total && c.run.least >= c.counted.least &&
                  c.counted.payload + c.counted.metadata + c.counted.residual + c.counted.basis ==
                      c.counted.total,
              "%s of %u, %u decoded: counted %lld to %lld, gone through %lld to %lld", text, tokens,
              decode, (long long)c.counted.least, (long long)c.counted.total,
              (long long)c.run.least, (long long)c.run.total);
    cr_expect_eq(c.counted.sampled, 0, "%s: expected bounds, rows were gone through", text);
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
    "scissorhands:budget=250:pooled_heads=1",
    "h2o:budget=40:every=7:pooled_heads=1",
    "window:budget=40:every=7:pooled_heads=1+int:bits=4:span=heads",
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
    "snapkv:budget=50+kivi:bits=2:residual_length=32",
    "window:budget=48+kivi:bits=2:residual_length=32",
    "window:budget=0.001",
    "window:budget=1B",
    "h2o:budget=60:sinks=4+int:bits=2:sinks=4",
    "streaming:budget=40+kvquant:bits=4:outliers=0:weights=none",
    "window:budget=40+kvquant:bits=4:outliers=0:weights=none",
    "streaming:budget=40+int:bits=4:span=heads",
    "h2o:budget=40+f16+rest+int:bits=2",
    "snapkv:budget=50+int:bits=8+rest+kivi:bits=2:residual_length=32",
    "window:budget=40+f16+rest+int:bits=2:sinks=4",
    /* Blocks outlive rows, and the oldest go: the queue is reached by the window, or never. */
    "window:budget=25+kivi:bits=2:residual_length=32",
    "window:budget=31+kivi:bits=2:residual_length=32",
    "window:budget=32+kivi:bits=2:residual_length=32",
    "window:budget=33+kivi:bits=2:residual_length=32",
    "window:budget=97+kivi:bits=2:residual_length=64:group_size=16",
    "streaming:budget=34+kivi:bits=2:residual_length=32",
    "streaming:budget=50:sinks=20+kivi:bits=2:residual_length=32",
    "streaming:budget=80:sinks=2+int:bits=4:axis=channel:group_size=16:sinks=2:recent=8",
    "window:budget=80+int:bits=4:axis=channel:group_size=16:span=heads",
    "interleave:budget=70:locals=2+kivi:bits=2:residual_length=32"};

/* The data decide: whether first positions stay, how many rows heads have of a common budget, which
 * rows lanes of one bank have in common, which pages are touched. */
static const char *const ranges[] = {
    "knorm:budget=40+int:bits=2:sinks=4",
    "adakv:budget=70+kivi:bits=2:residual_length=32",
    "adakv:budget=150+kivi:bits=2:residual_length=64:group_size=32",
    "adakv:budget=70:floor=safeguard+kivi:bits=2:residual_length=32",
    "adakv:budget=40:floor_percent=0+kivi:bits=2:residual_length=32",
    "snapkv:budget=60:pooled_heads=1+gear",
    "adakv:budget=70+kvquant:bits=4:outliers=0:weights=none",
    "h2o:budget=50+kvquant:bits=4:outliers=0:weights=none",
    "cam:budget=40+int:bits=4:sinks=2",
    "h2o:budget=70:pooled_heads=1+int:bits=4:sinks=3",
    "h2o:budget=50+palu:rank=16",
    "adakv:budget=70+palu:rank=16",
    "snapkv:budget=60+xkv:rank=16:group_layers=2",
    "pyramidkv:budget=60:observation_window=8+xkv:rank=16:group_layers=2",
    "tova:budget=50+int:bits=4:span=all",
    "snapkv:budget=60:shared_heads=1+int:bits=4:span=heads",
    "snapkv:budget=60+quest:page_size=8",
    "h2o:budget=60+quest:page_size=8",
    "snapkv:budget=90+kvquant:bits=4:outliers=0:weights=none",
    "adakv:budget=60+f16+rest+int:bits=2",
    /* Several rows go at once, of each head as its share of the budget says. */
    "scissorhands:budget=60:pooled_heads=1",
    "scissorhands:budget=60:pooled_heads=1:every=9:floor_percent=30+int:bits=4:sinks=3",
    "h2o:budget=60:every_percent=30:pooled_heads=1:sinks=4",
    "h2o:budget=20:every_percent=90:pooled_heads=1:floor=safeguard:floor_percent=50",
    "h2o:budget=60:every_percent=100:pooled_heads=1:recent_percent=10+int:bits=4:span=heads",
    "scissorhands:budget=60:pooled_heads=1+f16+rest+int:bits=2"};

/* Blocks outlive rows, and the data decide which. */
static const char *const outliving[] = {
    "h2o:budget=50+kivi:bits=2:residual_length=32",
    "h2o:budget=90+kivi:bits=2:residual_length=32",
    "h2o:budget=20+kivi:bits=2:residual_length=32",
    "h2o:budget=90:every=9+kivi:bits=2:residual_length=32",
    "window:budget=60:every=9+kivi:bits=2:residual_length=32",
    "tova:budget=50+kivi:bits=2:residual_length=32",
    "tova:budget=50+int:bits=4:axis=channel:group_size=16:sinks=3:recent=5",
    "random:budget=60+int:bits=4:axis=channel:group_size=16",
    "random:budget=60:sinks=4+int:bits=4:axis=channel:group_size=32:span=heads",
    "scissorhands:budget=60+kivi:bits=2:residual_length=32",
    "scissorhands:budget=60:pooled_heads=1+kivi:bits=2:residual_length=32",
    "h2o:budget=60:every=9:pooled_heads=1+kivi:bits=2:residual_length=32",
    "h2o:budget=60+gear:bits=4:buffer=16",
    "random:budget=60+gear:bits=4:buffer=16",
    "window:budget=50+gear:bits=4:buffer=16",
    "h2o:budget=60+kvquant:bits=4:outliers=0:weights=none",
    "tova:budget=30+kvquant:bits=4:outliers=0:weights=none",
    "h2o:budget=60:pooled_heads=1+kivi:bits=2:residual_length=32",
    "random:budget=60:pooled_heads=1+int:bits=4:axis=channel:group_size=16:span=heads",
    "h2o:budget=60:pooled_heads=1+int:bits=4:span=heads",
    "h2o:budget=60:pooled_heads=1+gear:bits=4",
    "cam:budget=60+kivi:bits=2:residual_length=32",
    "cam:budget=60+int:bits=4:axis=channel:group_size=16:recent=7",
    "h2o:budget=60+f16+rest+kivi:bits=2:residual_length=32",
    "h2o:budget=60+kivi:bits=2:residual_length=32+rest+int:bits=2",
    "snapkv:budget=90+h2o:budget=40+kivi:bits=2:residual_length=32",
    "h2o:budget=60+qjl",
    "tova:budget=60+think",
    "h2o:budget=60+xkv:rank=16:group_layers=2",
    "tova:budget=40+minicache"};

Test(held_rows, are_those_that_going_through_all_rows_leaves)
{
    static const uint32_t contexts[][2] = {{200, 0}, {200, 30}, {200, 150},
                                           {37, 0},  {37, 36},  {131, 1}};
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++)
        for (size_t c = 0; c < sizeof contexts / sizeof *contexts; c++)
            compare(specs[s], contexts[c][0], contexts[c][1], 7);
}

Test(held_rows, are_within_what_is_counted_where_the_data_decide)
{
    static const uint32_t contexts[][2] = {{200, 0}, {200, 30}, {400, 0}, {37, 0}, {131, 1}};
    for (size_t s = 0; s < sizeof ranges / sizeof *ranges; s++)
        for (size_t c = 0; c < sizeof contexts / sizeof *contexts; c++)
            compare_range(ranges[s], contexts[c][0], contexts[c][1]);
}

Test(held_rows, are_within_what_is_counted_where_blocks_outlive_them)
{
    static const uint32_t contexts[][2] = {{200, 30}, {200, 150}, {333, 301}, {150, 149}, {131, 1}};
    for (size_t s = 0; s < sizeof outliving / sizeof *outliving; s++)
        for (size_t c = 0; c < sizeof contexts / sizeof *contexts; c++)
            compare_range(outliving[s], contexts[c][0], contexts[c][1]);
    /* Budgets that heads share, of blocks so long that the search would be. */
    compare_range("adakv:budget=3000+kivi:bits=2:residual_length=1536", 9000, 0);
}

Test(held_rows, hang_on_the_layer_where_layers_share_a_budget)
{
    for (uint32_t layer = 0; layer < 12; layer += 3) {
        compare("pyramidkv:budget=80:observation_window=8", 200, 20, layer);
        compare("interleave:budget=24:locals=2", 200, 20, layer);
        compare("h2o:budget=60:layer_budget=inverted", 200, 20, layer);
    }
}
