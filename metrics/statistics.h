/* Quantiles and bootstrap intervals: the one place that knows GSL. */
#ifndef KVBENCH_METRICS_STATISTICS_H
#define KVBENCH_METRICS_STATISTICS_H

#include <stdbool.h>
#include <stdint.h>

/* 0/0 is 0, x/0 is NaN: the rule of measures.h. */
double kv_ratio(double top, double bottom);
double kv_root_ratio(double top, double bottom);

/* Moves values that are not NaN to the front and returns how many they are. */
uint32_t kv_gather_known(double *values, uint32_t n);

/* Linear between the two order statistics around (n - 1) share (type 7, numpy's default; those of GSL's sorted
 * data, to the bit); NaN of nothing. The values change places: nobody sorts them all. */
double kv_quantile(double *values, uint32_t n, double share);

/* Blocks for the bootstrap: `ends` (capacity: one per item) receives the end, in items, of each
 * block and the number of blocks is returned. A run is a stretch of neighbouring items (a
 * window, or scored tokens without a gap); no block crosses two runs. With 8 runs or more each
 * is a block. Else runs are cut into blocks of 32 items (peers.md section 3.5: at least 32), or
 * of 16 when 32 would give fewer than 8 blocks; a last piece under half a block joins the one
 * before it. */
uint32_t kv_cut_blocks(const uint32_t *run_items, uint32_t n_runs, uint32_t *ends);

/* What is resampled: sums over each block, of one or more series (layers). The statistic is the
 * mean over series of top/bottom, or of its square root. */
struct kv_block_sums {
    uint32_t n_blocks, n_series;
    const double *top, *bottom;          /* [n_series][n_blocks] */
    bool root;
};

enum { KV_REPLICATES = 1000 };

/* A 95 % interval: blocks are drawn with replacement KV_REPLICATES times by mt19937 from seed
 * alone, so that statistics over equally many blocks meet the same resamples. Its ends are the
 * expanded percentiles of Hesterberg (2015, "What teachers should know about the bootstrap"):
 * plain ones are too narrow by t_{n-1} sqrt(n / (n-1)) / 1.96, which is 1.29 at 8 blocks. A few
 * blocks that carry the whole sum still make any such interval too narrow. NaN with fewer than
 * two blocks or when the statistic is not finite. KV_OK or KV_EMEMORY. */
int kv_bootstrap(const struct kv_block_sums *sums, uint64_t seed, double *low, double *high);

#endif
