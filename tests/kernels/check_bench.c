/* Times of every entry of every set that runs here, beside generic and beside the peak of
 * multiply-adds measured in the same run; see checkkern.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "methods/kernels/minifloat_bits.h"
#include "methods/sweep/sweep.h"
#include "tests/kernels/checkkern.h"

enum { N = 4096, DIM = 128, ROWS = 96, LINES = 256, REPEATS = 15 };

/* Arrays that the timed calls work on; made once, ordinary numbers in all. */
static struct {
    float a[ROWS * LINES], b[LINES * DIM], c[ROWS * LINES], table[256];
    _Alignas(double) float out[LINES * DIM];
    uint16_t halves[2 * N];
    uint8_t codes[N], packed[N], nibbles[N];
    volatile float sink;
} data;

typedef void bench_function(const struct kv_kernels *set);

static void bench_widen_half(const struct kv_kernels *k)
{
    k->widen_half(data.halves, data.out, N);
}
static void bench_widen_bfloat(const struct kv_kernels *k)
{
    k->widen_bfloat(data.halves, data.out, N);
}
static void bench_narrow_half(const struct kv_kernels *k)
{
    k->narrow_half(data.a, data.halves, N);
}
static void bench_narrow_bfloat(const struct kv_kernels *k)
{
    k->narrow_bfloat(data.a, data.halves, N);
}
static void bench_pack_keys(const struct kv_kernels *k)
{
    k->pack_keys(data.b, LINES, DIM, data.out);
}
static void bench_logits(const struct kv_kernels *k)
{
    k->logits(data.a, ROWS, DIM, data.b, LINES, 0.1f, data.out, LINES);
}
static void bench_logits_one(const struct kv_kernels *k)
{
    k->logits(data.a, 1, DIM, data.b, LINES, 0.1f, data.out, LINES);
}
static void bench_accumulate(const struct kv_kernels *k)
{
    k->accumulate(data.a, ROWS, LINES, data.b, LINES, DIM, NULL, data.out, DIM);
}
static void bench_accumulate_one(const struct kv_kernels *k)
{
    k->accumulate(data.a, 1, LINES, data.b, LINES, DIM, NULL, data.out, DIM);
}
/* In place: from fresh logits every time, as the sweep does; the copy is in every set's time. */
static void bench_exp_sum(const struct kv_kernels *k)
{
    memcpy(data.out, data.a, N * sizeof *data.a);
    data.sink = k->exp_sum(data.out, N, 1.0f, 4.0f);
}
static void bench_exp_sum_tail(const struct kv_kernels *k)
{
    memcpy(data.out, data.a, N * sizeof *data.a);
    data.sink = k->exp_sum(data.out, N, 1.0f, 95.0f);   /* would be subnormal */
}
static void bench_max(const struct kv_kernels *k) { data.sink = k->max(data.a, N); }
static void bench_scale(const struct kv_kernels *k) { k->scale(data.c, N, 1.0f); }
static void bench_add_wide(const struct kv_kernels *k)
{
    static const float factors[4] = {1, 1, 1, 1};
    k->add_wide(data.a, 4, LINES, LINES, factors, (double *)data.out);
}
static void bench_add_products(const struct kv_kernels *k)
{
    const double *x = (const double *)(const void *)data.a, *y = (const double *)(const void *)data.b;
    k->add_products(x, y, 64, true, (double *)(void *)data.out, KV_PRODUCT_LINE);
}
static void bench_turn_rows(const struct kv_kernels *k)
{
    const struct kv_pair_turn turns[2] = {{0.8, 0.6, 1}, {0.6, -0.8, 0}};
    k->turn_rows(turns, 2, (double *)data.out, LINES, LINES);
}
static void bench_spread_out(const struct kv_kernels *k)
{
    k->spread_out(data.a, data.halves, N, 0.0f, data.out);
}
static void bench_close_up(const struct kv_kernels *k)
{
    k->close_up(data.a, data.halves, N, data.out);
}
static void bench_hide(const struct kv_kernels *k)
{
    const int32_t *begin = (const int32_t *)(const void *)data.b;
    data.sink = (float)k->hide(begin, begin + N, 0, N, data.out, NULL);
}
static void bench_softcap(const struct kv_kernels *k)
{
    memcpy(data.out, data.a, N * sizeof *data.a);
    k->softcap(data.out, N, 50.0f);
}
static void bench_dot(const struct kv_kernels *k) { data.sink = k->dot(data.a, data.b, N); }
static void bench_min_max(const struct kv_kernels *k)
{
    float low, high;
    k->min_max(data.a, N, &low, &high);
    data.sink = low + high;
}
static void bench_grid_encode(const struct kv_kernels *k)
{
    k->grid_encode(data.a, N, -3, 0.4f, 16, data.codes);
}
static void bench_grid_decode(const struct kv_kernels *k)
{
    k->grid_decode(data.codes, N, -3, 0.4f, data.out);
}
static void bench_channel_encode(const struct kv_kernels *k)
{
    for (size_t i = 0; i < N; i += DIM)
        k->channel_encode(data.a + i, DIM, data.c, data.b, 16, data.codes + i);
}
static void bench_channel_decode(const struct kv_kernels *k)
{
    for (size_t i = 0; i < N; i += DIM)
        k->channel_decode(data.nibbles + i, DIM, data.c, data.b, data.out + i);
}
static void bench_polar(const struct kv_kernels *k)
{
    double *out = (double *)data.out;
    const double *in = (const double *)(const void *)data.b;   /* pairs of floats: some double */
    k->polar(in, in + N / 4, N / 4, out, out + N / 4);
}
static void bench_iq4_nl(const struct kv_kernels *k)
{
    for (size_t i = 0; i < N; i += DIM)
        k->encode_blocks(KV_BLOCK_IQ4_NL, data.a + i, DIM / KV_BLOCK, data.packed);
}
static void bench_q4_0(const struct kv_kernels *k)
{
    for (size_t i = 0; i < N; i += DIM)
        k->encode_blocks(KV_BLOCK_Q4_0, data.a + i, DIM / KV_BLOCK, data.packed);
}
static void bench_minifloat_encode(const struct kv_kernels *k)
{
    k->minifloat_encode(&kv_e4m3, data.a, N, 0.37f, data.codes);
}
static void bench_minifloat_decode(const struct kv_kernels *k)
{
    k->minifloat_decode(&kv_e4m3, data.nibbles, N, 0.37f, data.out);
}
static const struct kv_fp4_shape nvfp4 = {KV_FP4_E4M3, 16, 0.001f}, mxfp4 = {KV_FP4_FLOOR, 32, 0};
static void bench_nvfp4_encode(const struct kv_kernels *k)
{
    k->fp4_encode(&nvfp4, data.a, N, data.packed, data.codes);
}
static void bench_mxfp4_encode(const struct kv_kernels *k)
{
    k->fp4_encode(&mxfp4, data.a, N, data.packed, data.codes);
}
static void bench_nvfp4_decode(const struct kv_kernels *k)
{
    k->fp4_decode(&nvfp4, data.nibbles, 0, data.nibbles, N, data.out);
}
static void bench_bucket_15(const struct kv_kernels *k)
{
    k->bucket(data.a, N, data.table, 15, data.codes);
}
static void bench_cell_codes(const struct kv_kernels *k)
{
    struct kv_cells cells;
    kv_cells_prepare(&cells, data.table, 15, 1);
    for (size_t i = 0; i < N; i += DIM) k->cell_codes(&cells, data.a + i, DIM, 0.5f, data.codes + i);
}
static void bench_bucket_255(const struct kv_kernels *k)
{
    k->bucket(data.a, N, data.table, 255, data.packed);
}
static void bench_lookup_16(const struct kv_kernels *k)
{
    k->lookup(data.codes, N, data.table, 0.7f, data.out);   /* codes of bucket_15 */
}
static void bench_lookup_packed_4(const struct kv_kernels *k)
{
    k->lookup_packed(data.packed, N, 4, data.table, 0.7f, data.out);
}
static void bench_lookup_256(const struct kv_kernels *k)
{
    k->lookup(data.packed, N, data.table, 0.7f, data.out);
}
static void bench_pack_bits_3(const struct kv_kernels *k)
{
    k->pack_bits(data.codes, N, 3, data.packed);
}
static void bench_unpack_bits_3(const struct kv_kernels *k)
{
    k->unpack_bits(data.packed, N, 3, data.codes);
}
static void bench_hadamard_128(const struct kv_kernels *k)
{
    k->hadamard(data.c, NULL, data.c, 128, N / 128);
    k->scale(data.c, N, 0.0884f);   /* keeps the numbers ordinary */
}
static void bench_hadamard_4096(const struct kv_kernels *k)
{
    k->hadamard(data.c, NULL, data.c, N, 1);
    k->scale(data.c, N, 0.0156f);
}
static void bench_project_signs(const struct kv_kernels *k)
{
    const struct kv_projections projections = {data.b, DIM, DIM, DIM, 24};
    k->project_signs(&projections, data.a, 32, data.codes, DIM / 8);
}

static void bench_rotate(const struct kv_kernels *k)
{
    k->rotate(data.b, DIM, DIM, data.a, data.out);
}
static void bench_sum_squares(const struct kv_kernels *k) { data.sink = k->sum_squares(data.a, N); }
static void bench_stripes(const struct kv_kernels *k, enum kv_stripe_format format)
{
    const struct kv_stripes stripes = {format, 1, DIM, (const uint8_t *)data.halves, data.table, NULL, 0};
    memset(data.out, 0, KV_STRIPE * sizeof *data.out);
    k->stripes(&stripes, data.a, data.out);
}
static void bench_stripe_half(const struct kv_kernels *k) { bench_stripes(k, KV_STRIPE_HALF); }
static void bench_stripe_byte(const struct kv_kernels *k) { bench_stripes(k, KV_STRIPE_BYTE); }
static void bench_stripe_nibble(const struct kv_kernels *k) { bench_stripes(k, KV_STRIPE_NIBBLE); }
static void bench_stripe_book(const struct kv_kernels *k) { bench_stripes(k, KV_STRIPE_BOOK); }
static void bench_stripe_sign(const struct kv_kernels *k) { bench_stripes(k, KV_STRIPE_SIGN); }
static void bench_peak(const struct kv_kernels *k) { k->peak(20000); }

static const struct {
    const char *name;
    bench_function *run;
    double bytes, flops;   /* of one call; the rate that is printed is flops' where given */
} benches[] = {
    {"widen_half", bench_widen_half, 6.0 * N, 0},
    {"widen_bfloat", bench_widen_bfloat, 6.0 * N, 0},
    {"narrow_half", bench_narrow_half, 6.0 * N, 0},
    {"narrow_bfloat", bench_narrow_bfloat, 6.0 * N, 0},
    {"pack_keys 256x128", bench_pack_keys, 8.0 * LINES * DIM, 0},
    {"logits 96x256x128", bench_logits, 0, 2.0 * ROWS * LINES * DIM},
    {"logits 1x256x128", bench_logits_one, 0, 2.0 * LINES * DIM},
    {"accumulate 96x256x128", bench_accumulate, 0, 2.0 * ROWS * LINES * DIM},
    {"accumulate 1x256x128", bench_accumulate_one, 0, 2.0 * LINES * DIM},
    {"exp_sum", bench_exp_sum, 4.0 * N, 0},
    {"exp_sum below 2^-60", bench_exp_sum_tail, 4.0 * N, 0},
    {"max", bench_max, 4.0 * N, 0},
    {"scale", bench_scale, 8.0 * N, 0},
    {"add_wide, 4 rows", bench_add_wide, 32.0 * LINES, 0},
    {"add_products", bench_add_products, 1024.0 * KV_PRODUCT_LINE, 128.0 * KV_PRODUCT_LINE * KV_PRODUCT_LINE},
    {"turn_rows", bench_turn_rows, 64.0 * LINES, 12.0 * LINES},
    {"spread_out", bench_spread_out, 6.0 * N, 0},
    {"close_up", bench_close_up, 6.0 * N, 0},
    {"hide", bench_hide, 16.0 * N, 0},
    {"softcap", bench_softcap, 4.0 * N, 0},
    {"dot", bench_dot, 8.0 * N, 0},
    {"min_max", bench_min_max, 4.0 * N, 0},
    {"grid_encode", bench_grid_encode, 5.0 * N, 0},
    {"grid_decode", bench_grid_decode, 5.0 * N, 0},
    {"channel_encode 32 x 128", bench_channel_encode, 5.0 * N, 0},
    {"channel_decode 32 x 128", bench_channel_decode, 5.0 * N, 0},
    {"polar", bench_polar, 32.0 * N / 4, 0},
    {"encode_blocks iq4_nl", bench_iq4_nl, 4.0 * N, 0},
    {"encode_blocks q4_0", bench_q4_0, 4.0 * N, 0},
    {"minifloat_encode e4m3", bench_minifloat_encode, 5.0 * N, 0},
    {"minifloat_decode e4m3", bench_minifloat_decode, 5.0 * N, 0},
    {"fp4_encode nvfp4", bench_nvfp4_encode, 5.0 * N, 0},
    {"fp4_encode mxfp4", bench_mxfp4_encode, 5.0 * N, 0},
    {"fp4_decode nvfp4", bench_nvfp4_decode, 5.0 * N, 0},
    {"bucket 15", bench_bucket_15, 5.0 * N, 0},
    {"cell_codes 15", bench_cell_codes, 5.0 * N, 0},
    {"lookup 16", bench_lookup_16, 5.0 * N, 0},
    {"bucket 255", bench_bucket_255, 5.0 * N, 0},
    {"lookup_packed 4", bench_lookup_packed_4, 4.5 * N, 0},
    {"lookup 256", bench_lookup_256, 5.0 * N, 0},
    {"pack_bits 3", bench_pack_bits_3, N, 0},
    {"unpack_bits 3", bench_unpack_bits_3, N, 0},
    {"hadamard 32 x 128", bench_hadamard_128, 8.0 * N, 0},
    {"hadamard 4096", bench_hadamard_4096, 8.0 * N, 0},
    {"rotate 128x128", bench_rotate, 0, 2.0 * DIM * DIM},
    {"project_signs 32x128x128", bench_project_signs, 0, 64.0 * DIM * DIM},
    {"sum_squares", bench_sum_squares, 4.0 * N, 0},
    {"stripe half 128", bench_stripe_half, 128.0 * DIM, 0},
    {"stripe byte 128", bench_stripe_byte, 64.0 * DIM, 0},
    {"stripe nibble 128", bench_stripe_nibble, 32.0 * DIM, 0},
    {"stripe book 128", bench_stripe_book, 32.0 * DIM, 0},
    {"stripe sign 128", bench_stripe_sign, 8.0 * DIM, 0},
};

enum { N_BENCHES = sizeof benches / sizeof benches[0] };

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

/* Best of REPEATS of batches that last at least 50 us: the least disturbed one. */
static double best_ns(bench_function *run, const struct kv_kernels *set)
{
    size_t batch = 1;
    double best = 1e30;
    run(set);
    for (int i = 0; i < REPEATS;) {
        const double begin = now_ns();
        for (size_t k = 0; k < batch; k++) run(set);
        const double ns = now_ns() - begin;
        if (ns < 5e4 && batch < 1u << 20) {
            batch *= 2;
            continue;
        }
        best = ns / (double)batch < best ? ns / (double)batch : best;
        i++;
    }
    return best;
}

static void print_line(int csv, const char *set, const char *name, double ns, double rate,
                       const char *unit, double ratio)
{
    if (csv) printf("%s,%s,%.4g,%.4g,%s,%.4g\n", set, name, ns, rate, unit, ratio);
    else printf("%-8s %-22s %12.1f ns %9.2f %-8s %8.2fx\n", set, name, ns, rate, unit, ratio);
    fflush(stdout);
}

/* -- exact causal attention ------------------------------------------------------------------ */

struct source { const float *keys, *values; uint32_t dim; };

static void copy_lines(void *source, uint32_t first, uint32_t n, float *keys, float *values)
{
    const struct source *from = source;
    const size_t offset = (size_t)first * from->dim, bytes = (size_t)n * from->dim * sizeof(float);
    memcpy(keys, from->keys + offset, bytes);
    if (values) memcpy(values, from->values + offset, bytes);
}

static uint32_t *ramp(uint32_t n, uint32_t repeat)
{
    uint32_t *x = malloc(n * sizeof *x);
    for (uint32_t i = 0; i < n; i++) x[i] = i / repeat;
    return x;
}

static float *normals(size_t n, uint32_t seed)
{
    float *x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
    fill_floats(x, n, NORMAL, seed);
    return x;
}

/* ns of one causal sweep of `tokens` tokens, 4 query heads on one KV head; alternates with the peak
 * loop, whose best rate (GFLOP/s) goes to *peak. */
static double sweep_ns(const struct kv_kernels *set, uint32_t tokens, uint32_t dim, double *peak)
{
    const uint32_t rows = 4 * tokens;
    const size_t size = (size_t)tokens * dim;
    struct kv_geometry geometry = {.key_dim = dim, .value_dim = dim, .scale = 0.1, .group = 4};
    float *keys = normals(size, 1), *values = normals(size, 2), *queries = normals(4 * size, 3);
    float *outputs = malloc(4 * size * sizeof *outputs), *lse = malloc(rows * sizeof *lse);
    uint32_t *position = ramp(tokens, 1), *token = ramp(rows, 4), *until = ramp(tokens, 1);
    for (uint32_t i = 0; i < tokens; i++) until[i] = tokens;
    struct source source = {keys, values, dim};
    const struct kv_sweep sweep = {
        .kernels = set, .geometry = &geometry,
        .lines = {tokens, position, position, until, NULL, copy_lines, &source},
        .rows = {rows, queries, token, NULL}, .answers = {outputs, lse}};
    float *scratch = aligned_alloc(64, kv_sweep_scratch(&sweep) * sizeof *scratch);
    double best = 1e30;
    *peak = 0;
    const int repeats = strcmp(set->isa, "generic") ? 5 : 1;
    for (int i = 0; i < repeats; i++) {
        const double begin = now_ns();
        kv_sweep_run(&sweep, scratch);
        const double middle = now_ns(), flops = set->peak(200000), end = now_ns();
        best = middle - begin < best ? middle - begin : best;
        *peak = flops / (end - middle) > *peak ? flops / (end - middle) : *peak;
    }
    void *const blocks[] = {keys, values, queries, outputs, lse, position, token, until, scratch};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
    return best;
}

static void bench_sweep(const struct kv_kernels *set, int csv)
{
    static const uint32_t shapes[][2] = {{1024, 64}, {4096, 64}, {1024, 128}, {4096, 128}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const uint32_t tokens = shapes[i][0], dim = shapes[i][1];
        if (!strcmp(set->isa, "generic") && tokens > 1024) continue;   /* minutes */
        double peak;
        const double ns = sweep_ns(set, tokens, dim, &peak);
        const double rate = 4.0 * dim * 4 * tokens * (tokens + 1.0) / 2 / ns;
        char name[64];
        snprintf(name, sizeof name, "attention %u d%u", tokens, dim);
        print_line(csv, set->isa, name, ns, rate, "GFLOP/s", rate / peak);
    }
}

/* -- all --------------------------------------------------------------------------------------- */

static void fill_data(void)
{
    fill_floats(data.a, sizeof data.a / sizeof *data.a, NORMAL, 1);
    fill_floats(data.b, sizeof data.b / sizeof *data.b, NORMAL, 2);
    fill_floats(data.c, sizeof data.c / sizeof *data.c, NORMAL, 3);
    for (size_t i = 0; i < 2 * N; i++) data.halves[i] = (uint16_t)(0x3000 + i % 0x1000);
    for (size_t i = 0; i < N; i++) data.nibbles[i] = (uint8_t)(i * 7 % 16);
    for (size_t t = 0; t < 256; t++) data.table[t] = ((float)t - 7) * 0.3f;
}

void bench_all(int csv)
{
    double generic_ns[N_BENCHES];
    if (csv) puts("set,entry,ns,rate,unit,ratio");
    else puts("ratio: times as fast as generic; attention: share of peak");
    fill_data();
    for (const struct kv_isa *isa = kv_isa_list(); isa->name; isa++) {
        if (!isa->built || !isa->runs) continue;
        struct kv_kernels set;
        kv_isa_list()->set(&set);
        isa->set(&set);
        set.isa = isa->name;
        const double peak_ns = best_ns(bench_peak, &set), peak = set.peak(20000) / peak_ns;
        print_line(csv, isa->name, "peak", peak_ns, peak, "GFLOP/s", 1);
        for (size_t i = 0; i < N_BENCHES; i++) {
            const double ns = best_ns(benches[i].run, &set);
            if (isa == kv_isa_list()) generic_ns[i] = ns;
            const double work = benches[i].flops > 0 ? benches[i].flops : benches[i].bytes;
            print_line(csv, isa->name, benches[i].name, ns, work / ns,
                       benches[i].flops > 0 ? "GFLOP/s" : "GB/s", generic_ns[i] / ns);
        }
        bench_sweep(&set, csv);
    }
}
