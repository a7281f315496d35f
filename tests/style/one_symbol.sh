#!/bin/sh
# A kernel set exports exactly one symbol, kv_kernels_set_NAME: anything else that was compiled for a
# wide instruction set could be picked at link time and run where it must not. Nor does it call libm,
# whose results differ from one CPU to another.
#   one_symbol.sh ARCHIVE...        (libkv_kernels_NAME.a)
command -v nm >/dev/null || { echo 'no nm here'; exit 77; }
status=0
for archive; do
    name=${archive##*/libkv_kernels_}
    expected=kv_kernels_set_${name%.a}
    found=$(${NM:-nm} -g --defined-only "$archive" | awk 'NF == 3 { print $3 }' | grep -v '^__[aou]*san' | tr '\n' ' ')
    [ "$found" = "$expected " ] || { status=1; echo "$archive: expected one symbol, $expected, found $found"; }
    ${NM:-nm} -u "$archive" | grep -wE '(exp2?|expm1|log2?|log1p|pow|sin|cos|tan|tanh|erf)f?' &&
        { status=1; echo "$archive: calls libm"; }
done
exit $status
