#!/bin/sh
# The table of the README is what the command prints, to the digit.
. "$(dirname "$0")/common.sh"
kvbench list isas | grep -q '^avx2 .*runs here' || skip 'the table was printed with the avx2 kernels'
kvbench --trace "$source/traces/data/prose.h5" --isa avx2 --no-plots --out out.d >out 2>err || complain "$(cat err)"
awk '/^## What it prints/ { here = 1 } here && /^```/ { if (inside) exit; inside = 1; next } inside' "$source/README.md" >printed
[ "$(wc -l <printed)" -gt 20 ] || complain 'expected a table in the README'
head -n "$(wc -l <printed)" out | diff printed - || complain 'README.md: expected what the command prints'
finish
