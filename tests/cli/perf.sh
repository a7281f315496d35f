#!/bin/sh
# Every bench of `perf` runs, with sizes that say nothing about speed, and prints JSON that a program can
# read; usage errors name the word. No time is judged here.
. "$(dirname "$0")/common.sh"
command -v python3 >/dev/null || skip 'no python3 here'

kvbench perf --help >help || complain 'perf --help'
benches=$(awk '/^$/ { part++ } part == 1 && NF { print $1 }' help)
[ -n "$benches" ] || complain 'expected benches in the help'
for bench in $benches; do
    expect 0 '' perf "$bench" --tiny --repeats 2 --json
    python3 - "$bench" <<'END' || complain "perf $bench: expected rows as JSON, found $(head -n 5 out)"
import json, math, sys
rows = json.load(open("out"))["rows"]
assert rows, "no rows"
for row in rows:
    assert row["bench"] == sys.argv[1] and row["case"] and row["verdict"], row
    if row["verdict"] == "skipped":
        assert row["reason"], row
        continue
    assert "not counted" not in (row.get("reason") or ""), row
    ours = row["ours"]["median"]
    if row["unit"] == "exponent":     # of times this short: below 0 for threads, and by chance
        assert ours is None or math.isfinite(ours), row
        continue
    assert row["unit"] and ours is None or ours > 0, row
END
done

cat >yardstick <<'END'
#!/bin/sh
[ "$1" = attn ] || { echo skip this bench; exit; }
echo "a yardstick of $2 $3"
while read -r word; do echo 0.5; done
END
chmod +x yardstick
expect 0 '' perf attn --tiny --repeats 2 --json --vs ./yardstick
says 'a yardstick of tokens=96 dim=64'
printf '#!/bin/sh\necho silent\n' >yardstick
expect 5 'silent: expected seconds' perf attn --tiny --vs ./yardstick
expect 5 './nobody: expected a line with its name' perf attn --tiny --vs ./nobody

# What its text says products can reach is the fastest row of them, not what multiply-adds can.
expect 0 '' perf attn --tiny --repeats 2 --json
PYTHONPATH="$source/experiments" python3 - <<'END' || complain "fastest products: found $(cat out)"
import json
from measured import machine
rows = {"attn": json.load(open("out"))["rows"]}
assert len(machine.products(rows)) == 2, rows
for k, row in enumerate(machine.products(rows)):
    row["ours"]["median"] = 300 + k
rows["attn"].append({"case": "T=4096 d=128", "limit": {"median": 200}})
rate, how = machine.fastest_products(rows)
assert rate == 301 and how.startswith("products of halves d=64 in the cache, "), (rate, how)
rows["attn"][-1]["limit"]["median"] = 400
assert machine.fastest_products(rows) == (400, "multiply-adds in registers")
assert machine.fastest_products({}) is None
END

# The document of experiments/ is made of these rows; a section without its ingredients says which.
python3 "$source/experiments/performance.py" --kvbench "$program" --tiny --repeats 2 fht kvpress neon >document 2>err ||
    complain "performance.py: $(cat err)"
for text in '## fht' '| d=64 |' '--gguf' '--aarch64' '| G6 |'; do
    grep -q -F -e "$text" document || complain "performance.py: expected $text, found $(cat document)"
done
python3 "$source/experiments/performance.py" --kvbench nobody fht >document 2>err && complain 'performance.py: expected a failure'
case $(cat err) in
'performance.py: nobody: expected the program; build it first'*) ;;
*) complain "performance.py: expected what to build, found $(cat err)" ;;
esac

expect 2 'perf: unknown bench atn; did you mean attn?' perf atn
expect 2 'perf: unknown option --reapeats; did you mean --repeats?' perf --reapeats 3
expect 2 'perf: --tokens: expected up to 16 numbers from 1 to 16777216 such as 1,3-5, found 0' perf --tokens 0
expect 2 'perf: --dims: expected LIST, found nothing' perf --dims
expect 2 'perf fht: expected powers of two up to 4096, found 48' perf fht --dims 48 --tiny
expect 2 'perf decode: --method nonsense: expected all, f16, int8, int4, turboquant4, qjl scores' perf decode --method nonsense --tiny
finish
