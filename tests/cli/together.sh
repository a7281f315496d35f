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
finish
