#!/bin/sh
# memory and run have one law of bytes: every codec, every policy and every state, alone and together, comes to the same
# bytes of every class on a recording of the same shape. Where memory says that the data decide, run lies
# between the two figures.
. "$(dirname "$0")/common.sh"
kvbench trace synth small.h5 --tokens 160 --prefill 136 --layers 2 --q-heads 4 --kv-heads 2 --head-dim 64 || exit 2
cat >config.json <<'END'
{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 4,
 "num_key_value_heads": 2}
END
codecs=$(kvbench list methods --json | awk -F'"' '/"kind"/ {kind = $4} /"name"/ && kind == "codec" {print $4}')
policies=$(kvbench list methods --json | awk -F'"' '/"kind"/ {kind = $4} /"name"/ && kind == "policy" {print $4}')
answers=$(kvbench list methods --json | awk -F'"' '/"kind"/ {kind = $4} /"name"/ && kind == "answer" {print $4}')
[ "$answers" ] || complain 'expected a method without rows, found none'
methods=
for name in $codecs $policies $answers; do methods="$methods${methods:+,}$name"; done
for name in $policies; do methods="$methods,$name+int:bits=4"; done
methods="$methods,svd:rank=16+int:bits=4,int:bits=4:sinks=4:recent=20,int:bits=4:span=heads,window:budget=40+f16+rest+int:bits=2"
methods="$methods,int:bits=2:layers=1,kivi:group_size=16:residual_length=48,h2o:budget=0.3+kivi:group_size=16:residual_length=32"
methods="$methods,snapkv:budget=60+int:bits=8+rest+kivi:group_size=16:residual_length=32,streaming:budget=60+kvquant"
open="adakv:budget=50+kivi:group_size=16:residual_length=32,snapkv:budget=50:pooled_heads=1+gear,snapkv:budget=50+kvquant"
open="$open,adakv:budget=50+minicache,h2o:budget=50+palu,snapkv:budget=50+xkv:group_layers=2,snapkv:budget=60+quest:page_size=8"
open="$open,tova:budget=60+int:bits=4:span=all,knorm:budget=60:when=prefill+int:bits=4:sinks=4,keydiff:budget=2b:when=prefill+kivi"
open="$open,h2o:budget=60+kivi:group_size=16:residual_length=32,tova:budget=50+gear,h2o:budget=50:pooled_heads=1+kivi:group_size=16:residual_length=32"
open="$open,scissorhands:pooled_heads=1"
methods="$methods,window:budget=50+kivi:group_size=16:residual_length=32,$open"

# agree TRACE CONFIG LEAST ARGS...: of at least so many methods that run on both.
agree() {
    kvbench run --trace "$1" --methods "$methods" --format csv --no-plots --quiet --out out.$3 >run.csv 2>err
    kvbench memory --model "$2" --methods "$methods" --format csv --context "$4" --decode "$5" >memory.csv ||
        complain "$(cat err)"
    awk -F, -v least_methods="$3" '
    FNR == 1 { for (i = 1; i <= NF; i++) column[FILENAME, $i] = i; next }
    FILENAME == "run.csv" {
        if ($column[FILENAME, "status"] != "ok") next
        name = $column[FILENAME, "method"]
        run[name] = $column[FILENAME, "resident_bytes"]
        classes[name] = $column[FILENAME, "payload_bytes"] " " $column[FILENAME, "metadata_bytes"] " " \
            $column[FILENAME, "residual_bytes"] " " $column[FILENAME, "basis_bytes"]
        next
    }
    $2 != "method" { next }
    {
        name = $3
        if (!(name in run)) next
        both++
        bytes = $column[FILENAME, "bytes"]; least = $column[FILENAME, "least_bytes"]
        mine = $column[FILENAME, "payload_bytes"] " " $column[FILENAME, "metadata_bytes"] " " \
            $column[FILENAME, "residual_bytes"] " " $column[FILENAME, "basis_bytes"]
        if (least < bytes || $0 ~ /the data decide/) {
            open++
            if (run[name] < least || (run[name] > bytes && $0 !~ /more than this/)) {
                print "FAILED: " name ": run " run[name] ", memory from " least " to " bytes
                bad = 1
            }
            print "the data decide: " name ": run " run[name] ", memory " least " to " bytes
        } else if (bytes != run[name] || mine != classes[name]) {
            print "FAILED: " name ": run " run[name] " (" classes[name] "), memory " bytes " (" mine ")"
            bad = 1
        }
    }
    END {
        printf "%d methods, of %d the data decide\n", both, open
        # A law that said of everything that the data decide would prove nothing.
        if (both < least_methods || open * 4 > both) { print "FAILED: too few methods with one figure"; bad = 1 }
        exit bad
    }' run.csv memory.csv || bad=1
}
agree small.h5 config.json 30 160 24

# A vector a token in place of heads: methods that speak of values alone are refused by both.
cat >latent.json <<'END'
{"model_type": "deepseek_v3", "num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 6,
 "num_key_value_heads": 6, "kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12}
END
methods="int:bits=4,int:bits=4:span=joint,layer-share,layer-share:shared=0.5,linear-state,mla:rank=8,svd:rank=4,kivi:group_size=8:residual_length=16"
methods="$methods,h2o:budget=12,h2o:budget=0.5+int:bits=4,snapkv:budget=14:observation_window=4,palu,gqa,minicache:start=0.1,f16,k.int+v.int,cam"
agree "$source/tests/micro/deepseek_mla.h5" latent.json 14 48 16
for name in k.int cam; do
    grep "^latent.json,method,.*$name.*,unsupported," memory.csv >out || complain "$name: expected a refusal, found $(grep "$name" memory.csv)"
done
grep '"\?v.int: the values of this layer are columns of its keys' memory.csv >out || complain "expected a reason, found $(grep v.int memory.csv)"
finish
