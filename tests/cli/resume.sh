#!/bin/sh
# --resume takes a cell back only where spec, trace, seed and options are the same; what was asked besides is run.
. "$(dirname "$0")/common.sh"
make_trace
kvbench trace synth twin.h5 --tokens 160 --prefill 128 --layers 2 --seed 9 || exit 2

# resumed NEW ARGS...: so many cells are run; the rows are those of a run of its own.
resumed() {
    new=$1 before=$(wc -l <cells/journal.jsonl)
    shift
    kvbench run --resume cells --no-plots --quiet "$@" >out 2>err || complain "$*: $(cat err)"
    [ $(($(wc -l <cells/journal.jsonl) - before)) = "$new" ] ||
        complain "$*: expected $new new cells, found $(($(wc -l <cells/journal.jsonl) - before))"
    rm -rf alone
    kvbench run --out alone --no-plots --quiet "$@" >out 2>err || complain "$*: $(cat err)"
    cmp cells/rows.csv alone/rows.csv || complain "$*: expected the rows of a run of its own"
}

kvbench run --trace small.h5 --methods int:bits=4,random:budget=16 --out cells --no-plots --quiet >out 2>err || complain "$(cat err)"
resumed 1 --trace small.h5 --methods int:bits=2,random:budget=16
resumed 0 --trace small.h5 --methods int:bits=4,int:bits=2
resumed 2 --trace twin.h5 --methods int:bits=2,random:budget=16
resumed 1 --trace small.h5 --methods random:budget=16 --seed 5
resumed 1 --trace small.h5 --methods int:bits=2 --layers 0
resumed 1 --trace small.h5 --methods svd:rank=8
resumed 1 --trace small.h5 --methods svd:rank=8 --calibrate twin.h5
resumed 0 --trace small.h5 --methods svd:rank=8 --calibrate twin.h5
# Another recording under the same name.
kvbench trace synth twin.h5 --tokens 160 --prefill 128 --layers 2 --seed 10 || exit 2
resumed 1 --trace small.h5 --methods svd:rank=8 --calibrate twin.h5
# A path that a shell would take apart.
mv twin.h5 "it's a twin.h5"
kvbench run --trace small.h5 --methods svd:rank=8 --calibrate "it's a twin.h5" --out blank --no-plots --quiet \
    >out 2>err || complain "$(cat err)"
cp blank/rows.csv blank.csv
kvbench run --resume blank --no-plots --quiet >out 2>err || complain "--resume, a blank in --calibrate: $(cat err)"
cmp blank/rows.csv blank.csv || complain '--resume, a blank in --calibrate: expected the same rows'
mv "it's a twin.h5" twin.h5
# Alone it goes on with what the run was: methods, traces, seed, layers, and rows of each layer.
run='--trace small.h5 --methods int:bits=4,random:budget=16 --seed 3 --layers 1 --per-layer'
# shellcheck disable=SC2086 # words
kvbench run $run --out whole --no-plots --quiet >out 2>err || complain "$(cat err)"
cp whole/rows.csv rows.csv
tail -n 1 whole/journal.jsonl >last && cp last whole/journal.jsonl
kvbench run --resume whole --no-plots --quiet >out 2>err || complain "--resume alone: $(cat err)"
[ "$(wc -l <whole/journal.jsonl)" = 2 ] || complain '--resume alone: expected one new cell'
cmp whole/rows.csv rows.csv || complain '--resume alone: expected the same rows'
expect 2 'expected no --out' run --resume whole --out elsewhere
# Killed before its first cell: a manifest, perhaps a journal without a line.
: >whole/journal.jsonl
rm whole/rows.csv
kvbench run --resume whole --no-plots --quiet >out 2>err || complain "--resume, no cell: $(cat err)"
cmp whole/rows.csv rows.csv || complain '--resume, no cell: expected the same rows'
rm whole/manifest.json
expect 3 "whole/manifest.json: expected the run's manifest, or --methods and --trace" run --resume whole
# The same recording under another.
mv small.h5 moved.h5
resumed 0 --trace moved.h5 --methods svd:rank=8
finish
