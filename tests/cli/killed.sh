#!/bin/sh
# Ctrl-C ends a run within a second; what was finished is readable, and --resume completes it to the
# rows that an uninterrupted run gives.
. "$(dirname "$0")/common.sh"
[ -z "${MESON_EXE_WRAPPER:-}" ] || skip 'seconds mean nothing under an emulator'
kvbench trace synth long.h5 --tokens 1280 --prefill 1024 --layers 2 || exit 2
methods=f16,int:bits=8/4/2,h2o:budget=512/256/128,kivi:bits=2,tova:budget=512/256,random:budget=512
run="--trace long.h5 --methods $methods --threads 1 --no-plots --quiet"

# shellcheck disable=SC2086 # words
"$program" $run --out cut >out 2>err &
pid=$!
waited=0
while [ $waited -lt 600 ] && [ "$(cat cut/journal.jsonl 2>/dev/null | wc -l)" -lt 2 ]; do
    sleep 0.05
    waited=$((waited + 1))
done
start=$(date +%s%N)
kill -INT $pid
wait $pid
status=$?
took=$((($(date +%s%N) - start) / 1000000))
[ $status = 130 ] || complain "expected exit 130, found $status: $(cat err)"
# A second on a quiet machine; a loaded or sanitized one is given ten, since a test is no benchmark.
[ $took -lt 10000 ] || complain "expected an end at once, found $took ms"
lines=$(wc -l <cut/journal.jsonl)
[ "$lines" -ge 2 ] || complain "expected two finished cells in the journal, found $lines"
[ -s cut/rows.csv ] || complain 'expected rows.csv of what is finished'
[ "$(grep -c ',ok,' cut/rows.csv)" -ge 2 ] || complain "expected two rows that are ok: $(cut -c1-200 cut/rows.csv)"
[ -z "$(find cut -name '*.partial*')" ] || complain 'expected no partial files'

# shellcheck disable=SC2086 # words
kvbench $run --resume cut >out 2>err || complain "--resume: $(cat err)"
# shellcheck disable=SC2086 # words
kvbench $run --out whole >out 2>err || complain "uninterrupted: $(cat err)"
cmp cut/rows.csv whole/rows.csv || complain 'expected the rows of an uninterrupted run'
finish
