#!/bin/sh
# Golden rows: the generic kernels give these rows, byte for byte, on every CPU.
#   golden.sh PROGRAM SOURCE [accept]     `accept` writes the rows that are found
# A layer of each bundled trace and 32 scored queries keep it short enough for an emulator.
set -eu
program=$1 source=$2 accept=${3:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export KVBENCH_CACHE="$work/cache"
status=0
for pair in prose:16 code:12; do
    trace=${pair%:*} layer=${pair#*:}
    ${MESON_EXE_WRAPPER:-} "$program" run --isa generic --trace "$source/traces/data/$trace.h5" \
        --layers "$layer" --queries 32 --methods "@$source/tests/golden/methods.list" \
        --no-plots --quiet --out "$work/$trace" >/dev/null 2>"$work/err" || [ $? = 4 ] || {
        cat "$work/err"                # 4: a method that this trace lacks something for is a row, too
        exit 1
    }
    if [ "$accept" = accept ]; then
        cp "$work/$trace/rows.csv" "$source/tests/golden/$trace.csv"
    elif ! cmp "$work/$trace/rows.csv" "$source/tests/golden/$trace.csv"; then
        diff "$source/tests/golden/$trace.csv" "$work/$trace/rows.csv" | cut -c1-400 | head -20 || true
        status=1
    fi
done
exit $status
