/* perf decode: one query of each head over keys and values in their stored bytes, beside the read
 * bandwidth of the same bytes: codes, and but for halves a float a key and a float a value that scale
 * them. Every row is a whole answer: logits by key, the keys' scales, softmax, the values' scales, the
 * weighted sum; for sign (QJL) the scores alone, which is what it stores. Goals are for contexts that
 * lie in memory. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness/base/large.h"
#include "harness/base/rng.h"
#include "harness/perf/benches.h"

enum { DIM = 128, SKETCH = 256, MAX_THREADS = 64, FROM_MEMORY = 65536 };

struct format {
    const char *name;
    enum kv_stripe_format format;
    double goal[2]; /* of one thread; of more */
};

static const struct format formats[] = {
    {"f16", KV_STRIPE_HALF, {0.75, 0.80}},        {"int8", KV_STRIPE_BYTE, {0.70, 0.80}},
    {"int4", KV_STRIPE_NIBBLE, {0.60, 0.80}},     {"turboquant4", KV_STRIPE_BOOK, {0.60, 0.80}},
    {"qjl scores", KV_STRIPE_SIGN, {0.70, 0.80}},
};

struct head {                       /* one KV head with one query */
    struct kv_stripes keys, values; /* values.n 0: none are stored */
    uint8_t *codes;
    size_t code_bytes, bytes; /* scales lie behind the codes */
    float *scales;            /* [tokens] of keys, [tokens] of values; NULL: none */
    float *query, *output;
};

struct decode {
    const struct kv_kernels *kernels;
    const struct format *format;
    struct head *heads;
    double goal;
    uint32_t n_heads, tokens;
    int threads;
    float *logits[MAX_THREADS];    /* [tokens]; a thread's heads come one after the other */
    uint64_t sums[MAX_THREADS][8]; /* of the reading, a line each */
};

static void apply_scales(float *restrict x, const float *restrict scales, uint32_t n)
{
    if (!scales) return;
    for (uint32_t t = 0; t < n; t++) x[t] *= scales[t];
}

/* So many bytes on their way to L2. */
static void fetch(const void *p, size_t bytes)
{
    for (size_t b = 0; p && b < bytes; b += 64) __builtin_prefetch((const char *)p + b, 0, 2);
}

/* Tokens go in blocks: logits stay in L1 from step to step, and while they are scaled and become weights the next
 * codes, which stripes prefetch behind their own, are on their way. */
enum { BLOCK = 512 };

/* Logits of tokens first .. first + n - 1, scaled. */
static void weigh_keys(const struct kv_kernels *kernels, const struct head *head, uint32_t first, uint32_t n,
                       float *logits)
{
    struct kv_stripes keys = head->keys;
    keys.codes += first / KV_STRIPE * kv_stripe_bytes(keys.format, keys.depth), keys.n = n / KV_STRIPE;
    memset(logits, 0, n * sizeof *logits);
    kernels->stripes(&keys, head->query, logits);
    apply_scales(logits, head->scales ? head->scales + first : NULL, n);
}

static void sum_values(const struct kv_kernels *kernels, const struct head *head, uint32_t first, uint32_t n,
                       const float *weights)
{
    struct kv_stripes values = head->values;
    values.apart = kv_stripe_bytes(values.format, values.depth);
    values.codes += kv_stripe_bytes(values.format, first), values.depth = n;
    kernels->stripes(&values, weights, head->output);
}

/* A lower logit scale than 1 / sqrt(dim) would do; the numbers only have to stay ordinary. */
static float answer(const struct kv_kernels *kernels, struct head *head, float *logits,
                    uint32_t tokens)
{
    const float *scales = head->scales ? head->scales + tokens : NULL;
    float largest = -INFINITY, sum = 0;
    memset(head->keys.kept, 0, KV_STRIPE_KEPT);
    for (uint32_t t = 0, n; t < tokens; t += n) {
        n = tokens - t < BLOCK ? tokens - t : BLOCK;
        fetch(head->scales ? head->scales + t : NULL, n * sizeof *head->scales);
        weigh_keys(kernels, head, t, n, logits + t);
        if (head->values.n) largest = fmaxf(largest, kernels->max(logits + t, n));
    }
    if (!head->values.n) return logits[0];
    memset(head->output, 0, DIM * sizeof *head->output);
    for (uint32_t t = 0, n; t < tokens; t += n) {
        n = tokens - t < BLOCK ? tokens - t : BLOCK;
        fetch(scales ? scales + t : NULL, n * sizeof *scales);
        sum += kernels->exp_sum(logits + t, n, 1.0f, largest);
        apply_scales(logits + t, scales ? scales + t : NULL, n);
        sum_values(kernels, head, t, n, logits + t);
    }
    kernels->scale(head->output, DIM, 1 / sum);
    return sum;
}

static double total_bytes(const struct decode *decode)
{
    return (double)decode->n_heads * (double)decode->heads[0].bytes;
}

static double decode_all(void *context)
{
    struct decode *decode = context;
#pragma omp parallel for schedule(static) num_threads(decode->threads)
    for (uint32_t h = 0; h < decode->n_heads; h++)
        answer(decode->kernels, &decode->heads[h], decode->logits[omp_get_thread_num()],
               decode->tokens);
    return total_bytes(decode);
}

/* The same bytes, read in order with prefetches, as fast as a plain loop can. */
static double read_all(void *context)
{
    struct decode *decode = context;
#pragma omp parallel for schedule(static) num_threads(decode->threads)
    for (uint32_t h = 0; h < decode->n_heads; h++) {
        const uint8_t *codes = decode->heads[h].codes;
        uint64_t sums[8] = {0}, words[8];
        for (size_t b = 0; b < decode->heads[h].bytes; b += 64) {
            __builtin_prefetch(codes + b + KV_STRIPE_NEAR);
            __builtin_prefetch(codes + b + KV_STRIPE_FAR, 0, 2);
            memcpy(words, codes + b, sizeof words);
            for (int k = 0; k < 8; k++) sums[k] += words[k];
        }
        const int thread = omp_get_thread_num();
        for (int k = 0; k < 8; k++) decode->sums[thread][k] += sums[k];
    }
    return total_bytes(decode);
}

/* Random codes; halves of ordinary size. */
static void fill_codes(struct head *head, bool halves, uint32_t seed)
{
    struct kv_rng rng = kv_rng_stream(seed, 0, 0, 0);
    uint64_t word = 0;
    for (size_t b = 0; b + 8 <= head->code_bytes; b += 8) {
        const uint64_t low = kv_rng_word(&rng);
        word = low | (uint64_t)kv_rng_word(&rng) << 32;
        if (halves) word = (word & 0x83ff83ff83ff83ffu) | 0x3400340034003400u;
        memcpy(head->codes + b, &word, sizeof word);
    }
}

static void fill_scales(struct head *head, size_t n, uint32_t seed)
{
    struct kv_rng rng = kv_rng_stream(seed, 0, 0, 1);
    for (size_t i = 0; i < n; i++)
        head->scales[i] = 0.01f + 0.001f * fabsf((float)kv_rng_normal(&rng));
}

static bool fill_head(struct head *head, const struct format *format, uint32_t tokens,
                      uint32_t seed)
{
    static const float table[16] = {-2.73f, -2.07f, -1.62f, -1.26f, -0.94f, -0.66f, -0.39f, -0.13f,
                                    0.13f,  0.39f,  0.66f,  0.94f,  1.26f,  1.62f,  2.07f,  2.73f};
    const bool scores = format->format == KV_STRIPE_SIGN;
    const uint32_t stripes = tokens / KV_STRIPE, depth = scores ? SKETCH : DIM;
    head->keys = (struct kv_stripes){format->format, stripes, depth, NULL, table, kv_large_alloc(KV_STRIPE_KEPT), 0};
    head->values =
        (struct kv_stripes){format->format, scores ? 0 : DIM / KV_STRIPE, tokens, NULL, table, NULL, 0};
    const size_t key_bytes = stripes * kv_stripe_bytes(format->format, depth);
    const size_t n_scales = format->format == KV_STRIPE_HALF ? 0 : scores ? tokens : 2 * (size_t)tokens;
    head->code_bytes = key_bytes + head->values.n * kv_stripe_bytes(format->format, tokens);
    head->bytes = head->code_bytes + n_scales * sizeof *head->scales;
    head->codes = kv_large_alloc(head->bytes); /* huge pages: addresses are no limit */
    head->query = kv_perf_normals(depth, seed);
    head->output = kv_perf_normals(DIM, seed + 3);
    if (!head->codes || !head->query || !head->output || !head->keys.kept) return false;
    head->keys.codes = head->codes, head->values.codes = head->codes + key_bytes;
    if (n_scales) head->scales = (float *)(void *)(head->codes + head->code_bytes);
    fill_scales(head, n_scales, seed);
    fill_codes(head, format->format == KV_STRIPE_HALF, seed);
    return true;
}

static void free_heads(struct decode *decode)
{
    for (uint32_t h = 0; decode->heads && h < decode->n_heads; h++) {
        struct head *head = &decode->heads[h];
        void *const blocks[] = {head->codes, head->query, head->output, head->keys.kept};
        for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    }
    for (int t = 0; t < decode->threads; t++) free(decode->logits[t]);
    free(decode->heads);
}

/* The timed kernels' answer against the definition's, before anything is timed. */
static int check_answer(struct decode *decode, const char *name, struct kv_error *err)
{
    struct kv_kernels generic;
    int status = kv_kernels_fill(&generic, "generic", err);
    struct head *head = &decode->heads[0];
    const uint32_t n = head->values.n ? DIM : decode->tokens;
    float *logits = decode->logits[0], *seen = head->values.n ? head->output : logits,
          *expected = calloc(n, sizeof *expected);
    if (status == KV_OK && !expected) status = kv_fail(err, KV_EMEMORY, "out of memory");
    if (status == KV_OK) {
        double worst = 0, largest = 0;
        answer(&generic, head, logits, decode->tokens);
        memcpy(expected, seen, n * sizeof *expected);
        answer(decode->kernels, head, logits, decode->tokens);
        for (uint32_t i = 0; i < n; i++) {
            const double off = fabs((double)seen[i] - (double)expected[i]),
                         size = fabs((double)expected[i]);
            if (!(off <= worst)) worst = off; /* a NaN stays; no fmax: gcc 12 for aarch64 */
            if (size > largest) largest = size;
        }
        if (!(worst <= 1e-3 * largest))
            status =
                kv_fail(err, KV_EGATE, "perf decode: %s: off by %g of %g", name, worst, largest);
    }
    free(expected);
    return status;
}

static int create(struct decode *decode, struct kv_error *err)
{
    decode->heads = calloc(decode->n_heads, sizeof *decode->heads);
    bool filled = decode->heads;
    for (uint32_t h = 0; filled && h < decode->n_heads; h++)
        filled = fill_head(&decode->heads[h], decode->format, decode->tokens, 10 * h + 1);
    for (int t = 0; filled && t < decode->threads; t++)
        filled = (decode->logits[t] = kv_perf_normals(decode->tokens, (uint32_t)t));
    return filled ? check_answer(decode, decode->format->name, err)
                  : kv_fail(err, KV_EMEMORY, "perf decode: out of memory for %u tokens",
                            decode->tokens);
}

/* Formats whose tables of the query take longer than a stripe; see stripes_fixed.h. */
static bool has_tables(const struct decode *decode)
{
    return decode->format->format == KV_STRIPE_SIGN || decode->format->format == KV_STRIPE_BOOK;
}

/* Of the bytes of a head. */
static double code_share(const struct decode *decode)
{
    return (double)decode->heads[0].code_bytes / (double)decode->heads[0].bytes;
}

/* Often enough that asking the clock does not count. */
enum { TIMES = 32 };

/* Keys alone, in the L1 cache (with tables, in L2): loads, unpacking and a multiply-add a value, or
 * look-ups and their sums, by the best loop that is known here; no scales, no softmax, nothing from
 * memory. */
static double values_alone(void *context)
{
    const struct decode *decode = context;
    const struct head *head = &decode->heads[0];
    for (int i = 0; i < TIMES; i++)
        decode->kernels->stripes(&head->keys, head->query, decode->logits[0]);
    return TIMES * (double)head->keys.n *
           (double)kv_stripe_bytes(head->keys.format, head->keys.depth) / code_share(decode);
}

/* One head's answer, by this thread. */
static double answers(void *context)
{
    const struct decode *decode = context;
    for (int i = 0; i < TIMES; i++)
        answer(decode->kernels, &decode->heads[0], decode->logits[0], decode->tokens);
    return TIMES * (double)decode->heads[0].bytes;
}

/* Best GB/s of `run` by all threads, with `key_bytes` of codes of keys, by `kernels`; negative: no
 * memory. */
static double best_rate(const struct decode *decode, kv_perf_work *run, uint32_t key_bytes,
                        const struct kv_kernels *kernels)
{
    const enum kv_stripe_format format = decode->format->format;
    const uint32_t depth = format == KV_STRIPE_SIGN ? SKETCH : DIM;
    struct decode small = {.kernels = decode->kernels,
                           .format = decode->format,
                           .n_heads = 1,
                           .tokens =
                               key_bytes / (uint32_t)kv_stripe_bytes(format, depth) * KV_STRIPE,
                           .threads = 1};
    struct kv_error err;
    double rate = -1;
    if (create(&small, &err) == KV_OK) {
        small.kernels = kernels;
        rate = kv_perf_best(run, &small) * decode->threads / 1e9;
    }
    free_heads(&small);
    return rate;
}

static void no_stripes(const struct kv_stripes *stripes, const float *x, float *sums)
{
    (void)stripes, (void)x, (void)sums;
}

/* GB/s, no code of which is looked at: scales and softmax of tokens in the L1 cache. */
static double rate_without_codes(const struct decode *decode)
{
    struct kv_kernels kernels = *decode->kernels;
    kernels.stripes = no_stripes;
    return best_rate(decode, answers, 1u << 17, &kernels);
}

/* Multiply-adds of values that share words, each vector of them told apart by one operation, out of
 * registers: bytes of codes, of which the float products of such a format take this much at least.
 */
static double isolate(void *context)
{
    const struct decode *decode = context;
    const double values = decode->kernels->isolating_peak(20000) / 2;
    return values / kv_stripe_rows(decode->format->format) * 4;
}

/* A limit of the core where it is below the goal: loads, scales and softmax come on top of it. */
static int explain_words(const struct decode *decode, double goal, char *reason)
{
    if (kv_stripe_rows(decode->format->format) == 1) return 0;
    const double codes = kv_perf_best(isolate, (void *)decode) * decode->threads / 1e9;
    const double rate = codes / code_share(decode);
    return snprintf(reason, KV_PERF_REASON,
                    "a multiply-add and one operation that isolates it for each vector of values, "
                    "out of registers, take codes at %.1f GB/s, %s the goal of %.1f%s; ",
                    rate, rate < goal ? "below" : "above", goal,
                    rate < goal ? ": a limit of this core for products in floats"
                                : ", loads, scales and softmax on top");
}

struct look_ups {
    const struct kv_kernels *kernels;
    enum kv_look_up way;
};

static double look_up(void *context)
{
    const struct look_ups *run = context;
    return run->kernels->look_up_peak(run->way, 5000) / 2;
}

/* The fastest of the ways to look a format's codes up, GB/s with their scales; 0: this set has none. */
static double fastest_look_ups(const struct decode *decode, const char **name)
{
    static const struct {
        enum kv_stripe_format format;
        enum kv_look_up way;
        const char *name;
    } ways[] = {{KV_STRIPE_BOOK, KV_LOOK_UP_JOINED, "floats joined of bytes"},
                {KV_STRIPE_BOOK, KV_LOOK_UP_PERMUTED, "floats permuted"},
                {KV_STRIPE_BOOK, KV_LOOK_UP_WHOLES, "whole numbers of 23 bits"},
                {KV_STRIPE_SIGN, KV_LOOK_UP_JOINED_SIGNS, "floats joined of bytes"},
                {KV_STRIPE_SIGN, KV_LOOK_UP_PERMUTED_SIGNS, "floats permuted"},
                {KV_STRIPE_SIGN, KV_LOOK_UP_WHOLE_SIGNS, "whole numbers of 16 bits"},
                {KV_STRIPE_SIGN, KV_LOOK_UP_FLIPPED_SIGNS, "flipped signs"},
                {KV_STRIPE_NIBBLE, KV_LOOK_UP_PRODUCTS, "products of three bytes"}};
    double best = 0;
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        struct look_ups run = {decode->kernels, ways[w].way};
        if (ways[w].format != decode->format->format || look_up(&run) <= 0) continue;
        const double rate =
            kv_perf_best(look_up, &run) * decode->threads / 1e9 / code_share(decode);
        if (rate > best) best = rate, *name = ways[w].name;
    }
    return best;
}

/* What an answer by the ways of kv_look_up takes at least, one part after the other: codes are told
 * apart and summed, tokens scaled and weighed. Loads, tables and what joins the sums come on top. A
 * limit for these ways and no others, which is what a reason says. */
static int explain_look_ups(const struct decode *decode, double goal, char *reason)
{
    const char *name = NULL;
    const double codes = fastest_look_ups(decode, &name), others = rate_without_codes(decode);
    if (codes <= 0 || others <= 0) return 0;
    const double both = 1 / (1 / codes + 1 / others);
    return snprintf(reason, KV_PERF_REASON,
                    "codes summed out of registers, the fastest way known (%s), take %.1f GB/s, "
                    "with scales%s, in L1, %.1f, %.0f %% %s the goal of %.1f%s; ",
                    name, codes, decode->format->format == KV_STRIPE_SIGN ? "" : " and softmax",
                    both, 100 * fabs(both / goal - 1), both < goal ? "below" : "above", goal,
                    both < goal ? ": a limit of this core for the ways in registers at that precision"
                                : ", loads and memory on top");
}

/* The goal beside what the arithmetic of this format alone takes here, without which no answer is,
 * and beside the whole answer out of L2. The best loop that is known proves nothing about others.
 */
static void explain(void *context, const struct kv_perf_seen *seen, char reason[KV_PERF_REASON])
{
    const struct decode *decode = context;
    const bool tables = has_tables(decode);
    const double alone =
        best_rate(decode, values_alone, tables ? 1u << 18 : 1u << 14, decode->kernels);
    const double cached = best_rate(decode, answers, 1u << 17, decode->kernels);
    const double goal = decode->goal * seen->limit / 1e9;
    if (alone < 0 || cached < 0) {
        snprintf(reason, KV_PERF_REASON, "no reason found: out of memory");
        return;
    }
    int used = explain_look_ups(decode, goal, reason);
    if (!used) used = explain_words(decode, goal, reason);
    snprintf(reason + used, (size_t)(KV_PERF_REASON - used),
             "the best loop known over keys alone (loads, %s), out of %s, %.1f GB/s, %s the goal; "
             "whole answers out of L2 %.1f, reading %.1f",
             tables ? "look-ups, sums" : "unpacking, multiply-adds", tables ? "L2" : "L1", alone,
             alone < goal ? "below" : "above", cached, seen->limit / 1e9);
}

static int measure(struct kv_perf *perf, const struct format *format, uint32_t tokens,
                   uint32_t threads, struct kv_error *err)
{
    char name[96];
    const bool from_memory = tokens >= FROM_MEMORY;
    const double goal = from_memory ? format->goal[threads > 1] : 0;
    struct decode decode = {.kernels = &perf->kernels,
                            .format = format,
                            .goal = goal,
                            .tokens = tokens,
                            .threads = (int)threads};
    /* At least 64 MiB where memory is asked for: more than any L3 that two cores have to
     * themselves. */
    const double size = 2.0 * DIM * (double)kv_stripe_bytes(format->format, tokens) / KV_STRIPE;
    decode.n_heads = from_memory ? threads * (uint32_t)ceil(67e6 / threads / size) : threads;
    int status = create(&decode, err);
    snprintf(name, sizeof name, "%s T=%u d=%d, %u thread%s", format->name, tokens, DIM, threads,
             threads > 1 ? "s" : "");
    const struct kv_perf_case row = {.name = name,
                                     .unit = "GB/s",
                                     .unit_size = 1e9,
                                     .limit = {"read", read_all, &decode},
                                     .ours = {"answer", decode_all, &decode},
                                     .clock = threads > 1 ? KV_PERF_WALL : KV_PERF_THREAD,
                                     .kind = from_memory ? KV_PERF_AT_LEAST : KV_PERF_NO_GOAL,
                                     .goal = goal,
                                     .explain = explain};
    if (status == KV_OK) status = kv_perf_measure(perf, &row, err);
    free_heads(&decode);
    return status;
}

/* Whether a spec of the list begins as the format does, or is `all`. */
static bool wanted(const char *list, const char *name)
{
    if (!list || !strcmp(list, "all")) return true;
    for (const char *spec = list; *spec; spec += *spec == ',') {
        const size_t length = strcspn(spec, ":,");
        if (length && !strncmp(name, spec, length)) return true;
        spec += strcspn(spec, ",");
    }
    return false;
}

static int expect_formats(const char *list, struct kv_error *err)
{
    char names[96] = "all";
    bool any = false;
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        any |= wanted(list, formats[f].name);
        snprintf(names + strlen(names), sizeof names - strlen(names), ", %s", formats[f].name);
    }
    return any ? KV_OK
               : kv_fail(err, KV_EUSAGE, "perf decode: --method %s: expected %s", list, names);
}

int kv_perf_decode(struct kv_perf *perf, struct kv_error *err)
{
    static const uint32_t own_tokens[] = {4096, 131072}, own_threads[] = {1, 2};
    const struct kv_perf_sizes tokens =
        kv_perf_sizes(perf, &perf->options.tokens, own_tokens, 2, 128);
    const struct kv_perf_sizes threads =
        kv_perf_sizes(perf, &perf->options.threads_list, own_threads, 2, 1);
    int status = expect_formats(perf->options.method, err);
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        if (!wanted(perf->options.method, formats[f].name)) continue;
        for (uint32_t n = 0; status == KV_OK && n < threads.n; n++)
            for (uint32_t t = 0; status == KV_OK && t < tokens.n; t++) {
                if (tokens.at[t] % KV_STRIPE || threads.at[n] > MAX_THREADS)
                    return kv_fail(
                        err, KV_EUSAGE,
                        "perf decode: expected tokens in multiples of %d and up to %d threads",
                        KV_STRIPE, MAX_THREADS);
                status = measure(perf, &formats[f], tokens.at[t], threads.at[n], err);
            }
    }
    return status;
}
