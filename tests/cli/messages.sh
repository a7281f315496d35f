#!/bin/sh
# Usage errors: exit 2, nothing on stdout, and the message names the word, what was expected, the
# nearest known name.
. "$(dirname "$0")/common.sh"
make_trace

refuse() {
    expect 2 "$@"
    [ ! -s out ] || complain "$*: expected nothing on stdout"
}

refuse 'run: unknown option --metods; did you mean --methods?' --metods h2o
refuse 'unknown command rum; did you mean run?' rum
refuse 'run: expected options, found h2o; methods go after --methods' run h2o
refuse 'run: --methods: expected LIST, found nothing' --methods
refuse '--quiet: expected no value, found 1' --quiet=1
refuse '--threads: expected a whole number from 1 to 4096, found 0' --threads 0
refuse '--threads: expected a whole number from 1 to 4096, found 1.5' --threads=1.5
refuse '--queries: expected all or a whole number from 1 to 4000000000, found few' --queries few
refuse '--seed: expected a whole number from 0 to 2^64 - 1, found -1' --seed -1
refuse '--timeout: expected a number from 0.001 to 1000000000, found 0' --timeout 0
refuse 'run: --layers: expected up to 1000 numbers from 0 to 999 such as 1,3-5, found 3-1' --layers 3-1
refuse '--layers 99: expected a recorded layer' --trace small.h5 --methods f16 --layers 99
# The second recording lacks the layer: no cell of the first is run before that is said.
kvbench trace slice small.h5 --layers 0 --out first.h5 || complain 'trace slice'
refuse 'first.h5: --layers 1: expected a recorded layer' --trace small.h5 --trace first.h5 --methods f16 --layers 1
refuse '--format: expected table, markdown, csv or json' --format xml
refuse "unknown isa 'avx3'" --trace small.h5 --methods f16 --isa avx3
refuse "unknown isa 'avx3'" check int --isa avx3
for isa in neon avx512; do              # one of them cannot run here
    kvbench list isas | grep -q "^$isa .*runs here" || expect 5 "isa '$isa'" check int --isa $isa
done
for later in calibrate recommend selftest; do
    refuse "$later: not in this version" $later
done

refuse 'unknown method kivy; did you mean kivi?' --methods kivy
refuse 'int: bits: expected a whole number from 1 to 8, found 9' --methods f16,int:bits=9
refuse 'h2o: unknown parameter buget; did you mean budget?' --methods h2o:buget=3
refuse 'int: axis: expected one of token|channel, found row' --methods int:axis=row
refuse 'h2o: budget: expected 1 to 4000000000 tokens, a share such as 0.2 or 20%, bytes of a layer such as 256KiB or bits per element such as 2.5b, found 0' --methods h2o:budget=0
refuse 'layer-share: map: expected at most 256 whole numbers from 0 to 1023 joined by -, none left out, found 0--2' \
    --methods layer-share:map=0--2
refuse 'joined by -, none left out, found 0-x' --methods layer-share:map=0-x
refuse 'f16: where: expected one of device|host, found disk' --methods f16:where=disk
refuse 'policies come before codecs' --methods int+h2o
refuse 'linear-state keeps no rows: expected no stage beside it' --methods linear-state+int
refuse 'linear-state keeps no rows: expected no stage beside it' --methods h2o+linear-state
refuse 'linear-state: a state speaks of both sides, found k.linear-state' --methods k.linear-state
refuse 'at most one may' --methods quest+topk

refuse 'list: expected methods, columns' list xyzzy
refuse 'did you mean columns?' list colums
refuse 'list: expected one NAME, found h2o and kivi' list h2o kivi
refuse 'list: unknown option --jsn; did you mean --json?' list --jsn
refuse 'new: expected NAME, found nothing' new
refuse 'new: int: a method of that name exists' new int
refuse 'new: kivi2: a preset of that name exists' new kivi2
refuse 'expected a name of a-z, 0-9, - and _' new Bad-Name
refuse 'check: expected a method or `all`, found nothing' check
refuse 'unknown method kivy' check kivy
refuse 'compare: expected OLD NEW, found nothing' compare
refuse 'dump: expected --trace FILE, found nothing' dump
refuse 'dump: expected --layer N, found nothing' dump --trace small.h5 --method f16 --out x.h5
refuse 'dump: --heads: expected KV heads from 0 to 1, found 7' dump --trace small.h5 --method f16 --layer 0 --heads 7 --out x.h5
refuse 'dump: --heads: expected up to 1000 numbers from 0 to 65535 such as 1,3-5, found 0,x' dump --trace small.h5 --method f16 --layer 0 --heads 0,x --out x.h5
refuse 'dump: --seed: expected a whole number from 0 to 2^64 - 1, found -1' dump --trace small.h5 --method f16 --layer 0 --seed -1 --out x.h5
refuse 'dump: --layer: expected N, found an empty word' dump --trace small.h5 --method f16 --layer '' --out x.h5
refuse 'dump: --layer: expected a whole number from 0 to 999, found +1' dump --trace small.h5 --method f16 --layer=+1 --out x.h5
refuse 'dump: unknown option --layers; did you mean --layer?' dump --trace small.h5 --layers 0
# Every command says an option that it does not know in one form.
for command in run list info 'trace validate' 'trace hash' 'trace slice' 'trace merge' dump check new compare report reproduce perf memory; do
    refuse "$command: unknown option --helf; did you mean --help?" $command --helf
done
# What reads a recording does not write it, by whatever name.
refuse 'dump: --out ./small.h5: expected another file' dump --trace small.h5 --method f16 --layer 0 --out ./small.h5
refuse '--out ./small.h5: expected another file' trace slice small.h5 --out ./small.h5
refuse '--trace: expected FILE, found an empty word' --trace ''
refuse 'head_dim=65: expected an even number, or rope=none' trace synth x.h5 --head-dim 65
refuse 'dump: --queries: expected all or a whole number from 1 to 4000000000, found 0' dump --trace small.h5 --method f16 --layer 0 --queries 0 --out x.h5
refuse 'dump: --heads: expected KV heads from 0 to 1, found 2' dump --trace small.h5 --method f16 --layer 0 --heads 0-2 --out x.h5
refuse 'reproduce: --seed: expected a whole number from 0 to 2^64 - 1, found 18446744073709551616' reproduce kivi --seed 18446744073709551616
refuse 'run: --layers: expected up to 1000 numbers from 0 to 999 such as 1,3-5, found 0,' --trace small.h5 --methods f16 --layers 0,
refuse 'info: expected TRACE..., found nothing' info
refuse 'trace: expected validate, hash, synth, slice, merge or record, found nothing' trace
refuse 'found validat; did you mean validate?' trace validat
refuse 'report: expected DIR..., found nothing' report

[ -z "$(ls results 2>/dev/null)" ] || complain 'expected no result directory from a refused command'
[ -z "$(find . -name '*.partial')" ] || complain 'expected no partial files'
finish
