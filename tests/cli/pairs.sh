#!/bin/sh
# Every evictor over every quantizer, and every evictor at budgets that leave no room: a row each, with finite
# numbers or with a reason. A prompt shorter than the observation window is one of the shapes.
. "$(dirname "$0")/common.sh"
kvbench trace synth tiny.h5 --tokens 72 --prefill 56 --layers 1 || exit 2
kvbench list methods --json >methods.json || exit 2
names() {
    python3 - "$1" <<'P'
import json, sys
with open("methods.json") as file:
    methods = json.load(file)
methods = methods if isinstance(methods, list) else methods["methods"]
print("\n".join(m["name"] for m in methods if m["kind"] == sys.argv[1]))
P
}
policies=$(names policy | grep -vxE 'full|topk|quest')
codecs=$(names codec)
[ "$(echo "$policies" | wc -l)" -ge 15 ] || complain "expected 15 evictors or more, found: $policies"

# run NAME SPECS...: rows in NAME/rows.csv; every status is ok, or skipped or unsupported with a reason.
run() {
    name=$1
    shift
    kvbench run --trace tiny.h5 --methods "$(echo "$*" | tr ' ' ,)" --no-plots --quiet --out "$name" >out 2>err
    [ $? = 0 ] || grep -q 'cells have no result' err || complain "$name: $(cat err)"
    python3 - "$name/rows.csv" "$#" <<'P' || complain "$name: see above"
import csv, math, sys
rows = list(csv.DictReader(open(sys.argv[1], newline="")))
bad = [r["method"] for r in rows if r["status"] == "ok" and not math.isfinite(float(r["output_error"]))]
bad += [r["method"] for r in rows if r["status"] not in ("ok", "skipped", "unsupported")]
bad += [r["method"] for r in rows if r["status"] != "ok" and not r["reason"]]
for method in bad:
    print("no result and no reason:", method)
if len(rows) != int(sys.argv[2]):
    print("expected", sys.argv[2], "rows, found", len(rows))
sys.exit(bool(bad) or len(rows) != int(sys.argv[2]))
P
}

# shellcheck disable=SC2046,SC2086 # words
run pairs $(for p in $policies; do for c in $codecs; do echo "$p:budget=24+$c"; done; done)
# Policies in a row: each sees what the one before it left, whichever of the two looks at all heads.
# shellcheck disable=SC2046,SC2086 # words
run rows $(for p in $policies quest topk; do echo "snapkv:budget=40:observation_window=8+$p:budget=24"; done) \
    $(for p in $policies; do echo "$p:budget=40+tova:budget=24"; done)
# shellcheck disable=SC2046,SC2086 # words
run budgets $(for p in $policies; do for b in 1 3 1000 0.01 1.0; do echo "$p:budget=$b:sinks=4:recent=8"; done; done)
for p in $policies; do
    kvbench run --trace tiny.h5 --methods "$p:budget=0" --no-plots --quiet --out none >out 2>err
    [ $? = 2 ] || complain "$p:budget=0: expected a usage error"
    grep -q 'budget' err || complain "$p:budget=0: expected the parameter's name, found: $(cat err)"
done
finish
