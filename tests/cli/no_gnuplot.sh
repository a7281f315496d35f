#!/bin/sh
# Without gnuplot a run ends well, and says which plots it left out.
. "$(dirname "$0")/common.sh"
make_trace
mkdir empty
[ -z "${MESON_EXE_WRAPPER:-}" ] || skip 'the emulator is found through PATH'
PATH=$work/empty "$program" --trace small.h5 --methods f16,int --out results/x >out 2>err ||
    complain "expected exit 0: $(/bin/cat err)"
grep -q 'gnuplot' err || complain "expected gnuplot to be named, found $(cat err)"
grep -q 'left out' err || complain "expected what was left out, found $(cat err)"
for file in rows.csv table.md manifest.json timings.csv journal.jsonl report.html; do
    [ -s results/x/$file ] || complain "expected $file"
done
[ -z "$(find results/x -name '*.svg')" ] || complain 'expected no plots'
PATH=$work/empty "$program" --trace small.h5 --methods f16,int --no-plots --quiet --out results/y >out 2>err
[ ! -s err ] || complain "--no-plots --quiet: expected silence, found $(cat err)"
finish
