#!/bin/sh
# Texts without tabs, trailing blanks and unfinished words, each with a final newline; no file above a
# MiB outside traces/data.
#   text.sh SOURCE
cd "$1" || exit 2
status=0
complain() { status=1; echo "    the above: $1"; }

list=$(mktemp) || exit 2
trap 'rm -f "$list"' EXIT
if git ls-files >/dev/null 2>&1; then git ls-files --cached --others --exclude-standard
else find . -type f ! -path './.git/*' ! -path './build*/*' ! -path './results/*' ! -name '*.pyc' | sed 's#^\./##'
fi | grep -vE '^(traces/data/|LICENSE$)' | while read -r file; do [ ! -f "$file" ] || echo "$file"; done >"$list"

find traces/data -name '*.h5' -size +21M | grep . && complain 'bundled traces of at most 20 MiB'
# shellcheck disable=SC2046 # file names have no blanks
set -- $(cat "$list")
find "$@" -size +1024k | grep . && complain 'files of at most a MiB'
set -- $(grep -vE '\.(h5|png|svg|csv)$' "$list")
grep -nP '\t' "$@" && complain 'no tabs'
grep -nE '[[:blank:]]$' "$@" && complain 'no blanks at the end of a line'
grep -nwE 'TOD[O]|FIXM[E]|XX[X]|HAC[K]|TB[D]|WI[P]' "$@" && complain 'no unfinished words'
grep -nE '(^|[^.[:alnum:]])/(work|root|home)/' "$@" && complain 'no paths of one machine'
for file; do
    [ -z "$(tail -c 1 "$file")" ] || { echo "$file"; complain 'a newline at the end'; }
done
exit $status
