#!/bin/sh
# list: every name that a message sends people to is there, with its parameters, in text and in JSON.
. "$(dirname "$0")/common.sh"
expect 0 '' list
for name in full window streaming random topk h2o snapkv quest f32 f16 bf16 int q8_0 q4_0 kivi turboquant svd kivi2; do
    says "  $name "
done
for what in methods columns isas traces models claims; do
    expect 0 '' list $what
    [ -s out ] || complain "list $what: expected lines"
    expect 0 '' list $what --json
    [ "$(head -c 1 out)" = '[' ] || complain "list $what --json: expected an array"
done
expect 0 '' list columns
says 'bits_per_element'
expect 0 '' list isas
says 'runs here'

for name in $(kvbench list --json | sed -n 's/.*"name":[^"]*"\([^"]*\)".*/\1/p'); do
    expect 0 '' list "$name"
    grep -q '^spec: ' out || complain "list $name: expected its canonical spec"
    expect 0 '' list "$name" --json
done
expect 0 '' list h2o
for text in 'arXiv 2306.14048' 'kv-heads|query-heads' recent_percent 'drops rows at every step' 'spec: h2o:budget=0.2'; do
    says "$text"
done
expect 0 '' list int
for text in group_size '1 to 8' rotate 'spec: int:bits=4:axis=token:group_size=64 (quantizer)'; do
    says "$text"
done
finish
