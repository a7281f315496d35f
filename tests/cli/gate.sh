#!/bin/sh
# The regression gate: equal results pass, worse ones fail, and the negative control (1 bit and random
# eviction) fails every gate.
. "$(dirname "$0")/common.sh"
make_trace
run="--trace small.h5 --no-plots --quiet --isa generic"
# shellcheck disable=SC2086 # words
kvbench $run --methods f16,int:bits=8 --out good >out 2>err || complain "$(cat err)"
# shellcheck disable=SC2086 # words
kvbench $run --methods f16,int:bits=8 --out again >out 2>err || complain "$(cat err)"
# shellcheck disable=SC2086 # words
kvbench $run --methods f16,control --out control >out 2>err || complain "$(cat err)"

expect 0 '' compare good again
expect 0 '' compare good --max dkl=0.1 --max output_error=0.2
expect 1 'gates broken' compare control --max dkl=0.1
expect 1 'gates broken' compare control --max output_error=0.5
expect 1 'removed' compare good control

# The same row made worse is named with both values.
awk -F, -v OFS=, 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "output_error") c = i }
    NR == 3 { $c = $c * 1.5 } { print }' good/rows.csv >worse.csv
cp -r good worse
cp worse.csv worse/rows.csv
expect 1 'worse' compare good worse
says output_error
expect 0 '' compare worse good
says better
finish
