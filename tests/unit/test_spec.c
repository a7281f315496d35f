/* Specs: canonical texts, sweeps, presets, files, and every way to get one wrong. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "methods/spec/spec.h"

static struct kv_spec_list parse(const char *text)
{
    struct kv_spec_list list;
    struct kv_error err;
    cr_assert_eq(kv_spec_parse(&list, text, &err), KV_OK, "%s: %s", text, err.text);
    return list;
}

static const char *canonical(const char *text)
{
    static char out[4096];
    struct kv_spec_list list = parse(text);
    cr_assert_eq(list.n, 1);
    snprintf(out, sizeof out, "%s", list.specs[0].text);
    kv_spec_free(&list);
    return out;
}

static const char *family(const char *text)
{
    struct kv_spec_list list = parse(text);
    const char *name = list.specs[0].family;
    kv_spec_free(&list);
    return name;
}

/* Refused, with this in the message. */
static void refuses(const char *text, const char *message)
{
    struct kv_spec_list list;
    struct kv_error err = {""};
    cr_expect_eq(kv_spec_parse(&list, text, &err), KV_EUSAGE, "%s", text);
    cr_expect_not_null(strstr(err.text, message), "%s: expected ...%s..., found %s", text, message,
                       err.text);
    cr_expect_eq(list.n, 0);
}

Test(spec, canonical_text_has_the_defaults)
{
    cr_assert_str_eq(canonical("kivi2"), "kivi:bits=2:group_size=32:residual_length=128");
    cr_assert_str_eq(canonical("int"), "int:bits=4:axis=token:group_size=64");
}

Test(spec, canonical_text_parses_to_itself)
{
    static const char *const texts[] = {"full",
                                        "f16",
                                        "h2o",
                                        "h2o:budget=512:oracle=future",
                                        "snapkv:budget=2k+quest:budget=256+kivi:bits=2",
                                        "int:k.bits=4:v.bits=2",
                                        "int:k.sinks=4:recent=3:rotate=hadamard:center=mean",
                                        "int:span=joint",
                                        "int:span=all:keys=unrotated",
                                        "int:side=keys",
                                        "f16:where=host",
                                        "int:v.where=host:k.bits=2",
                                        "k.svd:rank=32+v.f16:where=host",
                                        "snapkv:budget=64+f16+rest+quest:budget=64+f16:where=host",
                                        "window:budget=20%+int:bits=8:layers=0-3_8",
                                        "h2o:budget=64+f16+rest+int:bits=2",
                                        "svd:rank=32+int:bits=4",
                                        "streaming:sinks=8:recent_percent=30",
                                        "snapkv:pooled_heads=1",
                                        "tova:when=prefill",
                                        "random:budget=100%",
                                        "control",
                                        "full:layers=1023",
                                        "k.int:outliers=0.02",
                                        "kivi:exact_layers=last1",
                                        "cake:gamma=300000",
                                        "int:exact_layers=first2_last12:layers=1-4",
                                        "k.int:bits=2",
                                        "snapkv:query=agnostic",
                                        "h2o:budget=256KiB+int:query=agnostic:exact_layers=first1",
                                        "h2o:layout=query-heads+int",
                                        "keydiff:prompt_block=128",
                                        "window:budget=2.5b",
                                        "v.svd:rank=8+v.int:bits=4",
                                        "h2o+k.kivi2+v.int:rotate=hadamard:layers=3"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char once[4096];
        strcpy(once, canonical(texts[i]));
        cr_expect_str_eq(canonical(once), once);
    }
}

Test(spec, query_aware_is_the_default_and_not_said)
{
    char plain[4096];
    strcpy(plain, canonical("snapkv"));
    cr_assert_str_eq(canonical("snapkv:query=aware"), plain);
    cr_assert(strstr(canonical("snapkv:query=agnostic+int"), "+int:bits=4:axis=token:group_size=64:query=agnostic"));
}

Test(spec, a_layout_stands_at_the_end_and_only_where_heads_part)
{
    char plain[4096];
    strcpy(plain, canonical("h2o+int"));
    cr_assert_str_eq(canonical("h2o:layout=kv-heads+int"), plain);
    cr_assert(strstr(canonical("h2o:layout=query-heads+int"), ":group_size=64:layout=query-heads"));
    refuses("h2o:layout=heads", "layout: expected one of kv-heads|query-heads, found heads");
    refuses("h2o:layout=query-heads+int:layout=query-heads", "layout: expected once");
    refuses("h2o:layout=query-heads+v.int:span=heads", "int: layout=query-heads: expected rows of one head");
    refuses("h2o:layout=query-heads+rest+gqa", "gqa: layout=query-heads: expected rows of one head");
    refuses("linear-state:layout=query-heads", "linear-state: layout: expected rows to lay out");
}

Test(spec, a_side_wins_over_both_wherever_it_stands)
{
    char first[4096];
    strcpy(first, canonical("int:bits=3:v.bits=2"));
    cr_assert_str_eq(canonical("int:v.bits=2:bits=3"), first);
    struct kv_spec_list list = parse("int:k.bits=8:bits=3:v.sinks=5");
    const struct kv_stage *stage = list.specs[0].caches[0].codec;
    cr_assert_eq(*(uint32_t *)stage->config[KV_KEYS], 8);
    cr_assert_eq(*(uint32_t *)stage->config[KV_VALUES], 3);
    cr_assert_eq(stage->modifiers[KV_KEYS].sinks, -1);
    cr_assert_eq(stage->modifiers[KV_VALUES].sinks, 5);
    kv_spec_free(&list);
}

Test(spec, sweeps_multiply_leftmost_slowest)
{
    struct kv_spec_list list = parse("h2o:budget=0.1/0.2+int:bits=2/4/8, f16");
    cr_assert_eq(list.n, 7);
    cr_assert_str_eq(list.specs[1].asked, "h2o:budget=0.1+int:bits=4");
    cr_assert_str_eq(list.specs[3].asked, "h2o:budget=0.2+int:bits=2");
    cr_assert_str_eq(list.specs[6].text, "f16");
    kv_spec_free(&list);
}

Test(spec, stages_find_their_places)
{
    struct kv_spec_list list = parse("h2o:budget=64+int:bits=8+rest+svd:rank=8+int:bits=2");
    const struct kv_spec *spec = list.specs;
    cr_assert_eq(spec->n_caches, 2);
    cr_assert_eq(spec->caches[0].n_policies, 1);
    cr_assert_eq(spec->caches[0].policies[0]->trim.budget.tokens, 64);
    cr_assert_str_eq(spec->caches[1].codec->codec->name, "svd");
    cr_assert_str_eq(spec->caches[1].codec->rest->codec->name, "int");
    cr_assert_null(spec->caches[1].codec->rest->rest);
    kv_spec_free(&list);
}

Test(spec, sides_have_codecs_of_their_own)
{
    struct kv_spec_list list = parse("v.svd:rank=8+k.kivi2+v.int:bits=2, int4, k.int2");
    const struct kv_cache_spec *sided = &list.specs[0].caches[0];
    cr_assert_str_eq(kv_chain(sided, KV_KEYS)->codec->name, "kivi");
    cr_assert_null(kv_chain(sided, KV_KEYS)->rest);
    cr_assert_str_eq(kv_chain(sided, KV_VALUES)->codec->name, "svd");
    cr_assert_str_eq(kv_chain(sided, KV_VALUES)->rest->codec->name, "int");
    const struct kv_cache_spec *both = &list.specs[1].caches[0];
    cr_assert_eq(kv_chain(both, KV_KEYS), kv_chain(both, KV_VALUES));
    cr_assert_eq(kv_n_chains(both), 1);
    cr_assert_null(kv_chain(&list.specs[2].caches[0], KV_VALUES));
    cr_assert_str_eq(list.specs[0].family, "hybrid");
    cr_assert_eq(kv_spec_split(&list, &(struct kv_error){""}), KV_OK);
    cr_assert_eq(list.n, 7);
    cr_assert_str_eq(list.specs[1].text, "k.kivi:bits=2:group_size=32:residual_length=128");
    cr_assert_str_eq(list.specs[2].text, "v.svd:rank=8+v.int:bits=2:axis=token:group_size=64");
    kv_spec_free(&list);
    refuses("int+v.kivi", "kivi: expected no side before it, as before the codecs beside it");
    refuses("k.svd+int", "int: expected k. or v. before it, as before the codecs beside it");
    refuses("k.int:v.bits=2", "int: expected parameters without k. and v. after k.int");
    refuses("k.h2o", "h2o: a policy speaks of both sides, found k.h2o");
    refuses("k.int:span=joint", "int: side and span=joint speak of both sides");
    refuses("v.int:side=keys", "int: side and span=joint speak of both sides");
    refuses("k.int+v.int+k.int", "int stores codes");
    refuses("v.control", "control: expected no side, since it stands for");
    refuses("k.", "expected a method, found nothing");
}

Test(spec, exact_layers_count_from_both_ends_of_the_model)
{
    struct kv_spec_list list = parse("int:exact_layers=first2_last1,int:exact_layers=last40,int");
    for (uint32_t layer = 0; layer < 30; layer++) {
        cr_expect_eq(kv_spec_is_exact_layer(&list.specs[0], layer, 30), layer < 2 || layer == 29);
        cr_expect(kv_spec_is_exact_layer(&list.specs[1], layer, 30));
        cr_expect(!kv_spec_is_exact_layer(&list.specs[2], layer, 30));
    }
    kv_spec_free(&list);
}

Test(spec, layers_are_a_bitmap)
{
    struct kv_spec_list list = parse("int:layers=1-2_64,int");
    cr_assert_eq(list.specs[0].layers[0], 6);
    cr_assert_eq(list.specs[0].layers[1], 1);
    cr_assert_eq(list.specs[0].layers[2], 0);
    cr_assert_eq(list.specs[1].layers[15], UINT64_MAX);
    kv_spec_free(&list);
}

Test(spec, families)
{
    cr_assert_str_eq(family("full"), "exact");
    cr_assert_str_eq(family("f16"), "exact");
    cr_assert_str_eq(family("kivi"), "quantizer");
    cr_assert_str_eq(family("h2o"), "evictor");
    cr_assert_str_eq(family("quest"), "sparse reader");
    cr_assert_str_eq(family("svd:rank=8"), "low rank");
    cr_assert_str_eq(family("svd:rank=8+int"), "hybrid");
    cr_assert_str_eq(family("h2o+kivi"), "hybrid");
}

Test(spec, says_what_is_an_oracle_or_random)
{
    struct kv_spec_list list = parse("topk,h2o:oracle=future,h2o,random,turboquant,int");
    static const bool oracle[] = {true, true, false, false, false, false};
    static const bool random[] = {false, false, false, true, true, false};
    for (uint32_t i = 0; i < list.n; i++) {
        cr_expect_eq(list.specs[i].oracle, oracle[i], "%s", list.specs[i].text);
        cr_expect_eq(list.specs[i].random, random[i], "%s", list.specs[i].text);
    }
    kv_spec_free(&list);
}

Test(spec, unknown_names_give_the_nearest)
{
    refuses("kivy", "unknown method kivy; did you mean kivi?");
    refuses("h2o+turboquent", "did you mean turboquant?");
    refuses("kivi5", "did you mean kivi");
    refuses("int:bit=4", "int: unknown parameter bit; did you mean bits?");
    refuses("int:sink=4", "did you mean sinks?");
    refuses("h2o:buget=4", "h2o: unknown parameter buget; did you mean budget?");
    refuses("h2o:k.budget=4", "h2o: unknown parameter k.budget");
    refuses("int:layer=4", "did you mean layers?");
    refuses("full:budget=4", "full: unknown parameter budget");
}

Test(spec, values_name_parameter_value_and_range)
{
    refuses("int:bits=9", "int: bits: expected a whole number from 1 to 8, found 9");
    refuses("int:k.bits=9", "bits: expected a whole number");
    refuses("snapkv:kernel=4", "kernel: expected an odd number from 1 to 255, found 4");
    refuses("int:span=head", "span: expected one of none|joint|heads|all, found head");
    refuses("h2o:when=never", "when: expected one of step|prefill, found never");
    refuses("h2o:recent_percent=101", "expected a whole number from 0 to 100");
    refuses("snapkv:when=step", "snapkv: when: expected prefill");
    refuses("int:layers=3-1", "layers: expected ranges");
    refuses("int:layers=1024", "layers: expected ranges");
    refuses("int:layers=0-3_", "layers: expected ranges");
    refuses("control:bits=2", "control: expected no parameters, since it stands for random");
    refuses("int:layers=-3", "layers: expected ranges");
}

Test(spec, grammar_is_checked)
{
    refuses("", "expected a method");
    refuses(",", "expected a method between commas");
    refuses("int,", "expected a method between commas");
    refuses("int++kivi", "expected a method, found nothing");
    refuses("+int", "expected a method, found nothing");
    refuses("int:", "expected key=value");
    refuses("int:bits", "expected key=value, found `bits`");
    refuses("int:bits=", "expected key=value");
    refuses("int:=4", "expected key=value");
    refuses("int:bits=4:bits=8", "int: bits: expected once");
    refuses("int:bits=2/", "expected key=value");
    refuses("int/kivi", "found a / elsewhere");
    refuses("int kivi", "unknown method int kivi");
}

Test(spec, the_rules_of_composition)
{
    refuses("int+h2o", "policies come before codecs");
    refuses("int+kivi", "int stores codes: kivi cannot follow it");
    refuses("quest+topk", "at most one may");
    refuses("h2o+h2o+h2o+h2o+h2o", "at most 4 policies");
    refuses("int+rest+int", "nothing before it drops rows");
    refuses("h2o+rest", "rest stands once");
    refuses("h2o+rest+int+rest+int", "rest stands once");
    refuses("int:span=joint:k.bits=2", "expected the same parameters for k. and v.");
    refuses("int:span=joint:side=keys", "side: expected both");
    refuses("int:k.span=joint", "expected no side before it");
    refuses("svd:rank=8+int:span=joint", "stand on the outermost codec, svd");
    refuses("svd:rank=8+int:v.where=host", "int: span, keys, side and where stand on the outermost codec, svd");
    refuses("int:span=joint:v.where=host", "expected the same parameters for k. and v.");
    refuses("h2o:where=host", "h2o: where: expected behind a codec, found behind a policy");
    refuses("linear-state:where=host", "linear-state: unknown parameter where");
    refuses("snapkv+rest+h2o", "a policy after rest cannot observe");
    refuses("h2o+f16+rest+quest+f16:where=host", "quest after rest: expected rows that were dropped at the prompt");
    refuses("h2o:layers=1+int:layers=2", "layers: expected once");
    refuses("int:exact_layers=2", "exact_layers: expected counts such as first2_last1");
    refuses("int:exact_layers=first0", "exact_layers: expected counts");
    refuses("int:exact_layers=first1_", "exact_layers: expected counts");
    refuses("int:exact_layers=first1_first2", "exact_layers: expected counts");
    refuses("h2o:exact_layers=last1+int:exact_layers=last1", "exact_layers: expected once");
    refuses("h2o:query=blind", "query: expected one of aware|agnostic");
    refuses("h2o:query=aware+int:query=agnostic", "query: expected once");
    refuses("snapkv:prompt_block=64", "snapkv: prompt_block: expected a policy that judges by the held rows");
    refuses("knorm:prompt_block=64:pooled_heads=1", "knorm: prompt_block: expected a budget for each head");
    refuses("window:prompt_block=64:chunk=4", "prompt_block: expected rows that stay singly");
    refuses("keydiff:prompt_block=64:output_percent=50", "prompt_block: expected one score");
    refuses("h2o+rest+window:prompt_block=4", "window: prompt_block: expected rows of the prompt");
    refuses("int:outliers=0.6", "outliers: expected a number from 0 to 0.5");
}

Test(spec, hostile_lengths_end_in_a_message)
{
    char *text = malloc(100000);
    memset(text, 'a', 99999);
    text[99999] = 0;
    struct kv_spec_list list;
    struct kv_error err;
    cr_expect_eq(kv_spec_parse(&list, text, &err), KV_EUSAGE);
    text[4000] = 0;
    cr_expect_eq(kv_spec_parse(&list, text, &err), KV_EUSAGE);
    strcpy(text, "int");
    for (int i = 0; i < 400; i++) strcat(text, ":a=1/1");
    cr_expect_eq(kv_spec_parse(&list, text, &err), KV_EUSAGE);
    strcpy(text, "int:bits=2");
    for (int i = 0; i < 1500; i++) strcat(text, "/2");
    cr_expect_eq(kv_spec_parse(&list, text, &err), KV_OK);
    kv_spec_free(&list);
    strcpy(text, "h2o:budget=1/2/3/4/5/6/7/8/9:sinks=1/2/3/4/5/6/7/8/9:recent=1/2/3/4/5/6/7/8/"
                 "9:decay=0/0/0/0/0/1");
    cr_expect_eq(kv_spec_parse(&list, text, &err), KV_EUSAGE);
    cr_expect_not_null(strstr(err.text, "4096"));
    free(text);
}

static void write_list(char path[], const char *text)
{
    const int file = mkstemp(path);
    cr_assert(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    close(file);
}

Test(spec, files_hold_lists_and_comments)
{
    char path[] = "/tmp/kvbench-spec-XXXXXX", at[64], nested[64],
         inner[] = "/tmp/kvbench-spec-XXXXXX";
    write_list(inner, "int:bits=2/4, kivi2   # two and one\r\n\n  # nothing\nf16");
    snprintf(nested, sizeof nested, "h2o\n@%s\n", inner);
    write_list(path, nested);
    snprintf(at, sizeof at, "f32,@%s", path);
    struct kv_spec_list list = parse(at);
    cr_assert_eq(list.n, 6);
    cr_assert_str_eq(list.specs[4].asked, "kivi2");
    kv_spec_free(&list);
    unlink(path);
    unlink(inner);
}

Test(spec, files_that_cannot_be_read_are_bad_input)
{
    struct kv_spec_list list;
    struct kv_error err;
    cr_assert_eq(kv_spec_parse(&list, "@/no/such/file", &err), KV_EINPUT);
    cr_assert_str_eq(err.text, "/no/such/file: cannot be read: No such file or directory");
    cr_assert_eq(kv_spec_parse(&list, "@/", &err), KV_EINPUT);
    char path[] = "/tmp/kvbench-spec-XXXXXX", self[64];
    write_list(path, "");
    snprintf(self, sizeof self, "@%s", path);
    FILE *file = fopen(path, "w");
    fputs(self, file);
    fclose(file);
    cr_assert_eq(kv_spec_parse(&list, self, &err), KV_EUSAGE);
    cr_assert_not_null(strstr(err.text, "nested"));
    unlink(path);
}

/* Pieces of grammar put together at random: each list parses, canonically, or ends in a message. */
Test(spec, random_texts_never_break_the_parser, .timeout = 60)
{
    static const char *const pieces[] = {
        "int",      "kivi",  "h2o",  "snapkv", "quest",  "svd", "f16",  "rest",   "turboquant",
        "hadamard", ":",     "=",    "+",      ",",      "/",   "bits", "budget", "k.",
        "v.",       "sinks", "span", "joint",  "layers", "0-3", "_",    "4",      "2",
        "0.5",      "20%",   "1k",   "-1",     "@",      "#",   " ",    "when",   "prefill",
        "side",     "keys",  "rank", "\n",     "\xff",   "exact_layers", "first2", "outliers",
        "where", "host"};
    uint64_t state = 12345;
    unsigned good = 0;
    for (int i = 0; i < 20000; i++) {
        char text[512] = "int:bits=4";
        if (i & 1) text[0] = 0;
        for (int n = 0; n < 12; n++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            if ((state >> 60) == 0) break;
            strcat(text, pieces[(state >> 33) % (sizeof pieces / sizeof *pieces)]);
        }
        struct kv_spec_list list;
        struct kv_error err = {""};
        const int status = kv_spec_parse(&list, text, &err);
        cr_assert(status == KV_OK || ((status == KV_EUSAGE || status == KV_EINPUT) && err.text[0]),
                  "%s", text);
        if (status != KV_OK) continue;
        for (uint32_t s = 0; s < list.n; s++) {
            struct kv_spec_list again;
            cr_assert_eq(kv_spec_parse(&again, list.specs[s].text, &err), KV_OK, "%s",
                         list.specs[s].text);
            cr_assert_str_eq(again.specs[0].text, list.specs[s].text);
            kv_spec_free(&again);
        }
        good += list.n;
        kv_spec_free(&list);
    }
    cr_assert_gt(good, 100);
}
