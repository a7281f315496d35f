#!/bin/sh
# Every header compiles alone, and has a guard of ours.
#   headers.sh SOURCE COMPILER...
cd "$1" || exit 2
shift
status=0
# Not headers but lists and bodies to be expanded, or for another machine.
skipped='harness/output/columns\.h|methods/kernels/(bodies|stripes|grids|blocks_simd|minifloats|fields|stripe_rows|wide_sums|pack_cells|channels|polar|projections|entries)\.h|methods/kernels/(x86|arm)/.*|tests/.*'
flags=$(pkg-config --cflags hdf5 libcjson libxxhash gsl 2>/dev/null)
empty=$(mktemp) || exit 2
trap 'rm -f "$empty"' EXIT
for header in $(find harness methods traces metrics -name '*.h' | grep -vE "^($skipped)$"); do
    # shellcheck disable=SC2086 # words
    "$@" -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-function -fsyntax-only -I . $flags \
        -include "$header" -x c "$empty" || { status=1; echo "$header does not compile alone"; }
    case $(grep -m 1 '^#ifndef' "$header") in
    *KVBENCH_*_H) ;;
    *) status=1; echo "$header: expected a guard KVBENCH_FOLDER_FILE_H" ;;
    esac
done
exit $status
