#!/bin/sh
# A row does not hang on what runs beside it: prompt statistics are shared, with the longest tail.
. "$(dirname "$0")/common.sh"
make_trace
methods='tova snapkv:observation_window=8 snapkv:observation_window=32'
# shellcheck disable=SC2086 # words
kvbench run --trace small.h5 --methods "$(echo $methods | tr ' ' ,)" --no-plots --quiet --out all >out 2>err ||
    complain "together: $(cat err)"
for method in $methods; do
    kvbench run --trace small.h5 --methods "$method" --no-plots --quiet --out one >out 2>err ||
        complain "$method: $(cat err)"
    tail -n 1 one/rows.csv >row
    grep -q -x -F -f row all/rows.csv || complain "$method: expected the row of a run alone"
    rm -r one
done

# In a trace of one layer a batch leaves rows and exact answers to the next one: eight methods a batch for
# one thread and one head.
kvbench trace synth one.h5 --tokens 160 --prefill 128 --layers 1 --q-heads 2 --kv-heads 1 || exit 2
batches=f16,int:bits=2,int:bits=3,int:bits=4,h2o,tova,snapkv,quest,kivi,window,streaming:budget=0.5,q4_0
kvbench run --trace one.h5 --methods $batches --threads 1 --no-verify --no-plots --quiet --out all >out 2>err ||
    complain "batches: $(cat err)"
for method in f16 h2o window q4_0; do
    kvbench run --trace one.h5 --methods $method --no-plots --no-verify --quiet --out one >out 2>err ||
        complain "$method: $(cat err)"
    tail -n 1 one/rows.csv >row
    grep -q -x -F -f row all/rows.csv || complain "$method: expected the row of a run alone, after batches"
    rm -r one
done
finish
