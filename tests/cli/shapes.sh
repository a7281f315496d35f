#!/bin/sh
# Shapes that no bundled recording has: every codec runs or says why not, and bytes are those of the shape.
. "$(dirname "$0")/common.sh"

is() { [ "$(column "$1")" = "$2" ] || complain "$1: expected $2, found $(column "$1")"; }
run() { expect "$1" '' --trace small.h5 --no-plots --quiet --format csv --out out.d --methods "$2"; }

# Values that are columns of the keys are stored once: 2 layers x 1 head x 160 tokens x 96 columns.
make_trace --mla on --head-dim 96 --value-dim 64 --kv-heads 1 --q-heads 4
run 0 f16 && is resident_bytes 61440 && is bits_per_element 16 && is bits_value '' && is output_error 0
run 0 int:bits=8:group_size=32 && is resident_bytes 34560 && is metadata_bytes 3840
run 0 int:bits=4:group_size=32:span=joint && is resident_bytes 19200
run 0 h2o:budget=64+f16+rest+int:bits=8 && is output_error_low "$(column output_error_low)" && is status ok
run 4 int:bits=4:side=values && is status unsupported
is reason 'side=values: the values of this layer are columns of its keys'
run 4 cam:budget=64 && is status unsupported     # merging would change the keys with the values
expect 0 '' info small.h5 && says 'cam: keys that hold the values'

run 4 f16:layout=query-heads && is reason 'layout=query-heads: layer 0 keeps a latent that is no head'\''s own'

# Every query head has rows of its own: 2 KV heads of 4 are 4, of 2 the recorded ones. Bits are of the recorded elements.
make_trace --q-heads 4
run 0 f16:layout=query-heads && is bits_per_element 32 && is kept_tokens 160 && is output_error 0
run 0 window:budget=8b:layout=query-heads && is kept_tokens 40 && is bits_per_element 8
run 0 window:budget=40 && alike=$(column output_error) && is bits_per_element 4
run 0 window:budget=40:layout=query-heads && is bits_per_element 8 && is output_error "$alike"
run 0 h2o:budget=40:layout=query-heads:exact_layers=first1 && is bits_per_element 12.0625 && is kept_tokens 80
make_trace --q-heads 2
run 0 h2o:budget=40+int:bits=4 && sed 's/,h2o[^,]*,/,/' out >alone
run 0 h2o:budget=40+int:bits=4:layout=query-heads && sed 's/,h2o[^,]*,/,/' out | cmp -s - alone ||
    complain 'a layout changes the rows of heads that are not grouped'

# Rows on the host: the same bytes elsewhere, shown beside bits that are the device's alone.
run 0 window:budget=40+int:bits=4:v.where=host && is bits_key 1.125 && is bits_value 0 && is offloaded_bytes 5760 &&
    is offloaded_read_bytes_per_step 5760 && is flags 'open-loop offloaded bits-with-host:1.125'
expect 0 '' run --trace small.h5 --methods f16,int:bits=4:where=host --no-plots --out host
says 'host read' && says 'Pareto front of bits, host bytes and dkl' && says 'bits-with-host:4.5'

# A prompt of 8 rows has no 32 directions.
make_trace --prefill 8 --needles 0 --heavy 0 --sinks 0
run 4 svd:rank=32 && is status unsupported && is reason 'svd: rank 32 of a prompt of 8 rows'
expect 0 '' info small.h5 && says 'svd: rank 32 of a prompt of 8 rows'

# A fifth of four rows is none.
make_trace --prefill 4 --needles 0 --heavy 0 --sinks 0
run 4 topk:budget=0.2 && is reason 'topk: 20% of a prompt of 4 rows keeps none of them'
run 4 window:budget=0.2 && is reason 'window: 20% of a prompt of 4 rows keeps none of them'

# Budgets in bytes of a layer and bits per element: 2 heads x 64 columns x 2 sides x 2 bytes = 512 a row.
make_trace
run 0 window:budget=8KiB && is kept_tokens 16 && is resident_bytes 16384
run 0 window:budget=8703B && is kept_tokens 16
run 0 window:budget=512B && is kept_tokens 1
run 0 window:budget=8b && is kept_tokens 80 && is bits_per_element 8
run 0 window:budget=17b && is kept_tokens 160 && is output_error 0
run 0 window:budget=8b+int:bits=4 && is kept_tokens 160       # 4.5 bits a row: all of them fit
run 0 window:budget=2.25b+int:bits=4 && is kept_tokens 80 && is bits_per_element 2.25
run 0 knorm:budget=8b && is kept_tokens 80                    # the decoded rows are among them
run 4 window:budget=511B && is status unsupported
says 'window: budget: expected room for a row, which takes 512 bytes a layer, found 511B'
run 4 knorm:budget=1b && is status unsupported
expect 2 'bytes of a layer such as 256KiB' --trace small.h5 --methods window:budget=0B
expect 2 'quest: budget: expected 1 to' --trace small.h5 --methods quest:budget=64KiB
expect 0 '' --trace small.h5 --no-plots --methods window:budget=8b --out out.d
grep -q 'window:budget=8b was asked to store 8 bits per element (80 rows a head) and stores 8' out.d/table.md ||
    complain 'expected what a budget in bits came to'
# A question at the prompt's end: policies see it, or choose without it and get its tokens one by one.
make_trace --needles 1
run 0 snapkv:budget=60:observation_window=16 && aware=$(column span_retention)
says 'query-aware'
run 0 snapkv:budget=60:observation_window=16:query=agnostic && agnostic=$(column span_retention)
says 'query-agnostic'
is kept_tokens 108                                # 60 of the context, 16 of the question, 32 decoded
awk "BEGIN { exit !($aware > $agnostic) }" || complain "expected the needle to be kept by who knows the question: $aware, $agnostic"
run 0 h2o:budget=60:query=agnostic && is kept_tokens 60
run 0 int:bits=4:query=agnostic && is kept_tokens 160
make_trace --needles 0
run 4 snapkv:query=agnostic && is status skipped && is reason 'query=agnostic: the trace marks no question'

# What info says cannot run is what run refuses, for the same reason.
make_trace --prefill 40
expect 0 '' info small.h5 && says 'palu: rank 64 of a prompt of 40 rows'
run 4 palu && is reason 'palu: rank 64 of a prompt of 40 rows'
make_trace
expect 0 '' info small.h5
! grep -q 'mla:' out || complain 'info says that mla cannot run'
run 0 mla && is status ok

# What fits on queries and gradients fits behind a modifier, too; a turn of the rows changes no metric.
make_trace
run 0 kq-svd:rank=8:rotate=hadamard && turned=$(column output_error)
run 0 kq-svd:rank=8 && awk -v a="$turned" -v b="$(column output_error)" \
    'BEGIN { exit !(a - b < 1e-4 * b && b - a < 1e-4 * b) }' || complain 'a turn of the rows moves kq-svd'
run 0 think:center=mean && is status ok
run 0 hadamard+think && is status ok
run 4 think+think && is status unsupported && is reason 'think: queries of rows behind think are not known'
finish
