#!/bin/sh
# Bases fitted before the text: on another recording, or on tokens that are not scored then.
. "$(dirname "$0")/common.sh"
make_trace
kvbench trace synth other.h5 --tokens 160 --prefill 128 --layers 1 --seed 7 || exit 2

calibrated() {
    kind=$1
    shift
    expect 0 '' --trace small.h5 --methods "svd:rank=8" --no-plots --quiet --format csv --out "$kind.d" "$@"
    [ "$(column calibration)" = "$kind" ] || complain "$*: expected $kind, found $(column calibration)"
}

calibrated online --layers 0
[ "$(column basis_bytes)" = "$(($(column resident_bytes) - $(column payload_bytes)))" ] ||
    complain 'online: expected the basis in the resident bytes'
calibrated disjoint --layers 0 --calibrate other.h5
[ "$(column resident_bytes)" = "$(column payload_bytes)" ] || complain 'expected a basis of all texts beside the rest'
says "shared-basis:$(column basis_bytes)"
calibrated oracle --layers 0 --calibrate small.h5
calibrated same-trace --calibrate 120:140
[ "$(column scored_queries)" = 20 ] || complain "expected 12 of 32 steps unscored, found $(column scored_queries)"

# A layer that the other recording has not: a row that says so, and the other method runs.
expect 4 'their rows say why' --trace small.h5 --methods svd:rank=8,linear-state,int --calibrate other.h5 --no-plots --quiet --format csv --out m.d
says 'skipped,svd: calibration: layer 1 is not recorded there'
says 'skipped,linear-state: calibration: layer 1 is not recorded there'
says ',ok,'
expect 2 'expected tokens FROM:TO with FROM below TO, found 9:3' --trace small.h5 --methods f16 --calibrate 9:3
expect 2 'expected tokens of the 160 recorded' --trace small.h5 --methods f16 --calibrate 0:161
expect 2 'expected decode steps left to score, found none' --trace small.h5 --methods f16 --calibrate 128:160
expect 3 'nowhere.h5' --trace small.h5 --methods f16 --calibrate nowhere.h5

# Codecs that join layers: the row names them; dump replays the whole group and shows the layer's part.
expect 0 '' --trace small.h5 --methods xkv:rank=0.25:group_layers=2 --no-plots --quiet --format csv --out x.d
says 'joined:0+1'
expect 0 '' dump --trace small.h5 --method xkv:rank=0.25:group_layers=2 --layer 1 --out x.h5
[ -s x.h5 ] || complain 'expected a dump of a layer of a group'
finish
