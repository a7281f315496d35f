/* Quantiles and bootstrap intervals; see statistics.h. */
#include "metrics/statistics.h"

#include <math.h>
#include <stdlib.h>

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_rng.h>
#include <gsl/gsl_statistics_double.h>

#include "harness/base/status.h"

double kv_ratio(double top, double bottom)
{
    if (bottom > 0) return top / bottom;
    return top == 0 ? 0.0 : NAN;
}

double kv_root_ratio(double top, double bottom) { return sqrt(kv_ratio(top, bottom)); }

uint32_t kv_gather_known(double *values, uint32_t n)
{
    uint32_t known = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!isnan(values[i])) {
            const double value = values[i];
            values[i] = values[known];
            values[known++] = value;
        }
    return known;
}

double kv_quantile(double *values, uint32_t n, double share)
{
    if (!n) return NAN;
    const double place = share * (n - 1);
    const uint32_t below = (uint32_t)place;
    const double low = gsl_stats_select(values, 1, n, below);
    return below == n - 1 ? low : (1 - (place - below)) * low + (place - below) * gsl_stats_select(values, 1, n, below + 1);
}

enum { ENOUGH_BLOCKS = 8, LONG_BLOCK = 32, SHORT_BLOCK = 16 };

static uint32_t cut_runs(const uint32_t *run_items, uint32_t n_runs, uint32_t length,
                         uint32_t *ends)
{
    uint32_t n = 0, start = 0;
    for (uint32_t run = 0; run < n_runs; start += run_items[run++]) {
        const uint32_t rounded = (run_items[run] + length / 2) / length;
        const uint32_t pieces = rounded ? rounded : 1;
        for (uint32_t piece = 1; piece < pieces; piece++) ends[n++] = start + piece * length;
        if (run_items[run]) ends[n++] = start + run_items[run];
    }
    return n;
}

uint32_t kv_cut_blocks(const uint32_t *run_items, uint32_t n_runs, uint32_t *ends)
{
    if (n_runs >= ENOUGH_BLOCKS) return cut_runs(run_items, n_runs, UINT32_MAX, ends);
    const uint32_t n = cut_runs(run_items, n_runs, LONG_BLOCK, ends);
    return n >= ENOUGH_BLOCKS ? n : cut_runs(run_items, n_runs, SHORT_BLOCK, ends);
}

static double statistic(const struct kv_block_sums *sums, const uint32_t *times_drawn)
{
    double total = 0;
    for (uint32_t series = 0; series < sums->n_series; series++) {
        const size_t row = (size_t)series * sums->n_blocks;
        double top = 0, bottom = 0;
        for (uint32_t block = 0; block < sums->n_blocks; block++) {
            top += times_drawn[block] * sums->top[row + block];
            bottom += times_drawn[block] * sums->bottom[row + block];
        }
        total += sums->root ? kv_root_ratio(top, bottom) : kv_ratio(top, bottom);
    }
    return total / sums->n_series;
}

static void draw_replicates(const struct kv_block_sums *sums, gsl_rng *rng, uint32_t *times_drawn,
                            double *replicates)
{
    for (uint32_t replicate = 0; replicate < KV_REPLICATES; replicate++) {
        for (uint32_t block = 0; block < sums->n_blocks; block++) times_drawn[block] = 0;
        for (uint32_t block = 0; block < sums->n_blocks; block++)
            times_drawn[gsl_rng_uniform_int(rng, sums->n_blocks)]++;
        replicates[replicate] = statistic(sums, times_drawn);
    }
}

/* Normal share below -t sqrt(n / (n-1)): 0.0057 at 8 blocks, 0.025 at many. */
static double tail_share(uint32_t n_blocks)
{
    const double freedom = n_blocks - 1;
    const double reach = gsl_cdf_tdist_Qinv(0.025, freedom) * sqrt(n_blocks / freedom);
    return gsl_cdf_ugaussian_P(-reach);
}

int kv_bootstrap(const struct kv_block_sums *sums, uint64_t seed, double *low, double *high)
{
    *low = *high = NAN;
    if (sums->n_blocks < 2 || !sums->n_series) return KV_OK;
    uint32_t *times_drawn = malloc(sums->n_blocks * sizeof *times_drawn);
    double *replicates = malloc(KV_REPLICATES * sizeof *replicates);
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    const int status = times_drawn && replicates && rng ? KV_OK : KV_EMEMORY;
    if (status == KV_OK) {
        gsl_rng_set(rng, (unsigned long)seed);
        draw_replicates(sums, rng, times_drawn, replicates);
        if (kv_gather_known(replicates, KV_REPLICATES) == KV_REPLICATES) {
            const double tail = tail_share(sums->n_blocks);
            *low = kv_quantile(replicates, KV_REPLICATES, tail);
            *high = kv_quantile(replicates, KV_REPLICATES, 1 - tail);
        }
    }
    if (rng) gsl_rng_free(rng);
    free(replicates);
    free(times_drawn);
    return status;
}
