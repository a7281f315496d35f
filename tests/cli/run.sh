#!/bin/sh
# A run: what it prints, what it leaves, options from files, and the formats.
. "$(dirname "$0")/common.sh"
make_trace
expect 0 '' --trace small.h5 --methods f16,int:bits=4/2,h2o --no-plots --out out.d
says 'open loop'
for file in manifest.json rows.csv timings.csv table.md report.html journal.jsonl; do
    [ -s out.d/$file ] || complain "expected $file in the result directory"
done
[ "$(wc -l <out.d/rows.csv)" = 5 ] || complain 'expected a header and four rows'
awk 'length > 100' out | grep . && complain 'expected a table of at most 100 columns'
head -n 1 out.d/rows.csv | grep -q '^trace,trace_hash,model,method,family,layer,isa,seed,status,reason,tokens,' ||
    complain 'expected the columns in their order'

# A line for each cell that ends, on stderr.
kvbench --trace small.h5 --methods f16,gqa:heads=4 --no-plots --verbose --out v.d >out 2>err
for line in '^small: f16: ok, .* s$' '^small: gqa:heads=4:.*: unsupported: gqa: 4 heads of 2, .* s$'; do
    grep -q "$line" err || complain "--verbose: expected $line, found $(cat err)"
done

# The same from files: options one a line, specs one a line.
printf '# a comment\n--trace small.h5\n--methods @specs   # more\n--no-plots\n--quiet\n' >run.args
printf 'f16\nint:bits=4/2  # a sweep\n\nh2o\n' >specs
expect 0 '' @run.args --out file.d
cmp out.d/rows.csv file.d/rows.csv || complain '@file: expected the same rows'
expect 0 '' run --trace=small.h5 --methods=f16 --methods=int:bits=4/2,h2o --no-plots --quiet --out=twice.d
cmp out.d/rows.csv twice.d/rows.csv || complain '--methods twice: expected the same rows'

for format in csv json markdown; do
    expect 0 '' --trace small.h5 --methods f16,int --no-plots --quiet --format $format --out $format.d
    [ -s out ] || complain "expected $format on stdout"
done
cmp csv.d/rows.csv out >/dev/null && complain 'expected markdown last'
expect 0 '' --trace small.h5 --methods f16,int --no-plots --quiet --format csv --out csv.d
cmp csv.d/rows.csv out || complain '--format csv: expected rows.csv on stdout'

expect 0 '' --trace small.h5 --methods int --per-layer --split --no-plots --quiet --format csv --out s.d
[ "$(wc -l <out)" = 10 ] || complain "--split --per-layer: expected three specs of three rows: $(cut -c1-120 out)"

# dkl_seq is a diagnostic: a column that is empty unless asked for.
expect 0 '' --trace small.h5 --methods int --no-plots --quiet --format csv --out usual.d
[ "$(column dkl_seq)" = '' ] || complain "expected no dkl_seq: $(tail -1 out)"
expect 0 '' --trace small.h5 --methods int --no-plots --quiet --format csv --metrics full --out full.d
case $(column dkl_seq) in [0-9]*) ;; *) complain "expected dkl_seq: $(tail -1 out)" ;; esac
expect 2 '--metrics: expected usual or full, found all' --trace small.h5 --methods int --metrics all

# Chains, the policy that does nothing, and a folder named by itself.
expect 0 '' --trace small.h5 --methods full,svd:rank=16+int --no-plots --quiet --format csv --out f.d
says ',ok,'
expect 0 'results: results/' --trace small.h5 --methods f16 --no-plots
[ "$(find results -name rows.csv | wc -l)" = 1 ] || complain 'expected one folder in results/'
expect 0 '' --help
says '--methods'
expect 0 '' --version
expect 0 '' help
says 'reproduce'
for command in run list info trace dump check new compare report reproduce perf memory; do
    expect 0 '' $command --help
    says "kvbench $command"
done

# The stages of a profile and what is left over make up the wall time.
if command -v python3 >/dev/null; then
    expect 0 '' --trace small.h5 --methods f16 --no-plots --out profiled --profile stages.json
    python3 - <<'END' || complain "--profile: expected stages that add up, found $(cat stages.json)"
import json
profile = json.load(open("stages.json"))
total = sum(stage["seconds"] for stage in profile["stages"].values())
assert abs(total - profile["wall_seconds"]) < 1e-3 * profile["wall_seconds"] + 1e-6, total
assert set(profile["stages"]) >= {"open", "read", "reference", "audit", "replay", "measure", "other"}
memory = profile["memory_bytes"]
assert set(memory) == {"layers", "reference", "prompt", "logits", "answers", "largest_method_state"}, memory
assert memory["layers"] > 0 and memory["reference"] > 0 and memory["answers"] > 0, memory
END
    # Of the prompt's statistics no more heads are in memory than the threads work on.
    for heads in 2 8; do
        expect 0 '' trace synth heads$heads.h5 --tokens 96 --prefill 64 --layers 1 --q-heads $heads --kv-heads $heads \
            --head-dim 16 --probes off
        expect 0 '' --trace heads$heads.h5 --methods snapkv,h2o --threads 1 --no-plots --out heads$heads \
            --profile heads$heads.json
    done
    python3 - <<'END' || complain "expected statistics of few heads at once"
import json
two, eight = (json.load(open(f"heads{n}.json"))["memory_bytes"]["prompt"] for n in (2, 8))
assert 0 < eight <= two, (two, eight)
END
    expect 5 'nowhere/stages.json: cannot write' --quiet --trace small.h5 --methods f16 --no-plots --out again \
        --profile nowhere/stages.json
fi

finish
