#!/bin/sh
# rows.csv is a pure function of traces, specs, seed and isa: any number of threads gives the same bytes,
# and so does a second run, which finds the exact reference in the cache.
. "$(dirname "$0")/common.sh"
make_trace --needles 1 --w-o on --x2 on
methods=f16,int:bits=4,kivi2:residual_length=32,h2o,snapkv+tq3,quest,random,svd:rank=16+int,h2o:budget=32+f16+rest+int:bits=2
run="--trace small.h5 --methods $methods --per-layer --no-plots --quiet --seeds 2"
for threads in 1 2 3 7; do
    # shellcheck disable=SC2086 # words
    kvbench $run --threads $threads --out t$threads >out$threads 2>err || complain "$threads threads: $(cat err)"
    cmp t1/rows.csv t$threads/rows.csv || complain "$threads threads: expected the rows of one"
    cmp out1 out$threads || complain "$threads threads: expected the table of one"
done
# shellcheck disable=SC2086 # words
kvbench $run --isa generic --threads 2 --out g2 >out 2>err || complain "generic: $(cat err)"
# shellcheck disable=SC2086 # words
kvbench $run --isa generic --threads 1 --out g1 >out 2>err || complain "generic: $(cat err)"
cmp g1/rows.csv g2/rows.csv || complain 'generic: expected the rows of one thread'
finish
