#!/bin/sh
# memory: exact bytes of models whose arithmetic is known, its parts, its formats, and what it refuses.
. "$(dirname "$0")/common.sh"

# bytes MODEL CONTEXT METHOD COLUMN VALUE: a whole number of the method's row.
bytes() {
    kvbench memory --model "$1" --context "$2" --methods "$3" --format csv >out 2>err || complain "$*: $(cat err)"
    awk -F, -v name="$4" -v wanted="$5" '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i }
        $2 == "method" && ++n == 1 && $column[name] != wanted { print "FAILED: found " $column[name]; exit 1 }
        END { exit n != 1 }' out || complain "$*"
}

# Dense and grouped: 2 * layers * kv_heads * head_dim * 2 bytes a token.
while read -r model token; do
    bytes "$model" 4096 f16 bytes $((token * 4096))
done <<'END'
llama-2-7b 524288
llama-2-13b 819200
llama-2-70b 327680
llama-3-8b 131072
llama-3.1-405b 516096
llama-3.2-1b 32768
llama-3.2-3b 114688
mistral-7b-v0.3 131072
qwen2.5-0.5b 12288
qwen2.5-7b 57344
qwen2.5-32b 262144
qwen3-0.6b 114688
qwen3-8b 147456
qwen3-30b-a3b 98304
qwen3-235b-a22b 192512
deepseek-67b 389120
opt-30b 1376256
opt-175b 4718592
phi-2 327680
phi-4 204800
smollm2-135m 23040
smollm2-1.7b 196608
falcon-7b 8192
falcon-40b 122880
bitnet-b1.58-2b-4t 76800
deepseek-v3 70272
END

# Windows, sharing, latents, states.
bytes mistral-7b-v0.1 32768 f16 bytes 536870912
bytes phi-3-mini-4k 4096 f16 bytes 804913152
bytes gemma-2-2b 8192 f16 bytes $((13 * 2 * 4 * 256 * 2 * (8192 + 4096)))
bytes gemma-3-270m 32768 f16 bytes $((3 * 32768 * 1024 + 15 * 512 * 1024))
bytes gemma-3-27b 131072 f16 bytes $((10 * 131072 * 8192 + 52 * 1024 * 8192))
bytes gemma-3n-e2b 32768 f16 bytes 285212672
bytes gemma-3n-e4b 32768 f16 bytes 285212672
bytes gemma-4-e2b 131072 f16 bytes 811597824
bytes gemma-4-e4b 131072 f16 bytes 2168455168
bytes gemma-4-26b-a4b 131072 f16 bytes $((5 * 131072 * 4096 + 25 * 1024 * 8192))
bytes gemma-4-31b 131072 f16 bytes $((10 * 131072 * 8192 + 50 * 1024 * 16384))
bytes gpt-oss-20b 131072 f16 bytes $((12 * 2048 * (131072 + 128)))
bytes deepseek-v2 131072 f16 bytes 9059696640
bytes mamba2-2.7b 1000000 f16 bytes 86638592
bytes jamba-v0.1 262144 f16 payload_bytes 4294967296
bytes jamba-v0.1 262144 f16 state_bytes 9175040
bytes nemotron-h-56b 4096 f16 state_bytes 461832192
bytes nemotron-3-nano-30b-a3b 4096 f16 payload_bytes $((6144 * 4096))
bytes qwen3.5-27b 4096 f16 state_bytes 79429632

# Methods on SmolLM2-135M, 2048 tokens: what stays, and the bases.
bytes smollm2-135m 2048 f16 bytes 47185920
bytes smollm2-135m 2048 svd:rank=32 payload_bytes 23592960
bytes smollm2-135m 2048 svd:rank=32 basis_bytes 737280
bytes smollm2-135m 2048 svd:rank=96:span=heads payload_bytes 23592960
bytes smollm2-135m 2048 svd:rank=96:span=heads basis_bytes 2211840
bytes smollm2-135m 2048 svd:rank=136:span=heads+int:bits=3:group_size=136 bytes $((6758400 + 3133440))
bytes smollm2-135m 2048 svd:rank=96:span=heads+int:bits=2:group_size=96 bytes $((3440640 + 2211840))
# ShadowKV-like: keys of rank 30 here, values on the host; what chunk means (49152 elements a layer) and chunks
# kept exact (24576) would add to it is of no method.
bytes smollm2-135m 2048 k.svd:rank=30:span=heads+v.f16:where=host offloaded_bytes 23592960
bytes smollm2-135m 2048 k.svd:rank=30:span=heads+v.f16:where=host bytes $((8110080 - 30 * 2 * (49152 + 24576) + 345600))
# TransMLA's 512 + 64 of 2048; ranks above the rows that a codec is made on here. Bases: maps of a layer.
bytes llama-3-8b 8192 mla payload_bytes $((8192 * 32 * 576 * 2))
bytes llama-3-8b 8192 mla basis_bytes $((32 * (2 * 2048 * 512 + 8 * 2 * 64 + 4)))
bytes llama-3-8b 8192 palu:rank=0.5 basis_bytes $((32 * 2 * 2 * 2 * 512 * 256))
bytes llama-3-8b 8192 svd:rank=512:span=all basis_bytes $((32 * 2 * 2048 * 512))
bytes smollm2-135m 2048 window:budget=512:layers=0-24 bytes 17694720

# Weights against the cache: counted by formula, or the entry's own bytes of a 1-bit model.
bytes llama-2-7b 4096 f16 parameters 6738415616
bytes deepseek-v3 4096 f16 parameters 671026404352
bytes bonsai-8b 4096 f16 weights_bytes 1150000000
bytes bonsai-8b 4096 f16 break_even_tokens 7799

# The order of savings; serving; what fits.
expect 0 '' memory --model gemma-4-e2b --context 128Ki --format csv
for line in '45097156608' 'grouped heads,ok,131072,1,5637144576' 'layers that share,ok,131072,1,2415919104' \
    'windows,ok,131072,1,811597824'; do
    says "$line"
done
expect 0 '' memory --model llama-3-8b --context 2200 --users 64 --prefix 2000 --format csv
says ",$((8832 * 16 * 131072)),$((957 * 16 * 131072)),"
expect 0 '' memory --model llama-3-70b --context 128Ki --tp 8 --format csv
says ",$((40 << 30)),0,$((5 << 30)),"
expect 0 '' memory --model falcon-7b --context 2048 --tp 8 --format csv
says ",$((2048 * 8192)),0,$((2048 * 8192)),"
expect 0 '' memory --model gemma-3-1b --context 32Ki --chunk 8192 --format csv
says ",$((4 * 2048 * 16384 + 22 * 545 * 16384)),"
expect 0 '' memory --model deepseek-v3 --context 1 --serving --format csv
says 'vllm fp8_ds_mla,ok,1,1,40016'
expect 0 '' memory --model llama-3-8b --context 8Ki --fit 24GiB --weights-bits 16 --format csv --methods f16
says ',122533,74075,'
# With a policy, by the law of its rows: of a fifth of them the weights are five times as far; a fixed number
# never reaches them and leaves room for any context.
weights=$((2 * 8030261248)) room=$(((24 << 30) - 2 * 8030261248))
for of in 1 5; do
    [ $of = 1 ] && method=f16 || method=window:budget=0.2
    expect 0 '' memory --model llama-3-8b --context 8Ki --fit 24GiB --format csv --methods $method
    says ",$(((weights + 131071) / 131072 * of)),$(((room / 131072 + 1) * of - 1)),"
done
expect 0 '' memory --model llama-3-8b --context 8Ki --fit 24GiB --format csv --methods window:budget=512
says ",$weights,,1073741824,144,"

for format in table markdown csv json; do
    expect 0 '' memory --model llama-3-8b,smollm2-135m --format $format
    [ -s out ] || complain "memory --format $format: expected a text"
done
[ "$(head -c 1 out)" = '[' ] || complain 'memory --format json: expected an array'
expect 0 '' list models
[ "$(grep -c . out)" -ge 43 ] || complain 'list models: expected 40 and more'
# Every entry of the registry can be read.
expect 0 '' memory --model "$(awk 'found { print $1 } /^registry/ { found = 1 }' out | head -n 60 | paste -sd,)" --methods f16

if command -v gnuplot >/dev/null; then
    expect 0 '' memory --model bonsai-8b --plot drawn
    [ -s drawn/memory_context.svg ] || complain "memory --plot: expected a drawing: $(cat err drawn/gnuplot.log)"
fi

# Commonly quoted arithmetic, from formulas: every verdict is the one that the data expect.
expect 0 '' reproduce architecture --json
awk -F'"' '/"claim":/ { claim = $4 } /"verdict":/ { verdict = $4 }
    /"expected":/ { n++; if ($4 != verdict) { print "FAILED: " claim ": " verdict ", expected " $4; bad = 1 } }
    END { exit bad || n < 60 }' out || complain 'reproduce architecture: another verdict'

# A config.json of one's own.
config() { printf '%s' "$1" >config.json; }
config '{"text_config": {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "kv_source": [0, 0, 2, 2], "time_step_limit": [0.0, Infinity]}}'
bytes config.json 100 f16 bytes $((2 * 2 * 2 * 16 * 2 * 100))

# A field that is absent is what the class of transformers makes of it; null is a number for some.
shape='"num_hidden_layers": 6, "hidden_size": 512, "num_attention_heads": 64'
config "{\"model_type\": \"gpt_oss\", $shape, \"sliding_window\": 128}"
bytes config.json 1000 f16 bytes $((3 * 2 * 8 * 64 * 2 * (1000 + 128)))
config "{\"model_type\": \"glm\", $shape}"
bytes config.json 100 f16 bytes $((6 * 2 * 2 * 128 * 2 * 100))
config "{\"model_type\": \"qwen2\", $shape, \"num_key_value_heads\": null, \"sliding_window\": 8, \"use_sliding_window\": true}"
bytes config.json 100 f16 bytes $((6 * 2 * 64 * 8 * 2 * 100))
config "{\"model_type\": \"gpt2\", $shape, \"num_key_value_heads\": 2, \"head_dim\": 16}"
bytes config.json 100 f16 bytes $((6 * 2 * 64 * 8 * 2 * 100))
# Which layers use a window, or share rows, by rules of their own.
window='"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 3'
while read -r type locals; do
    config "{\"model_type\": \"$type\", $shape, $window}"
    bytes config.json 100 f16 bytes $((2 * 2 * 8 * 2 * (locals * 8 + (6 - locals) * 100)))
done <<'END'
qwen3 3
qwen2_moe 2
qwen3_moe 6
smollm3 1
llama 0
END
config "{\"model_type\": \"gemma3n_text\", \"num_hidden_layers\": 20, \"hidden_size\": 512, \"num_attention_heads\": 64, $window}"
bytes config.json 100 f16 bytes $((2 * 2 * 8 * 2 * (4 * 8 + 100)))

refuse() {
    wanted=$1
    config "$2"
    expect 3 "$wanted" memory config.json
}
refuse 'expected JSON' 'nonsense'
refuse 'expected an object' '[]'
refuse 'model_type: expected a name, found nothing' '{}'
refuse 'model_type lama is not known here, and what it caches is not guessed; did you mean llama?' '{"model_type": "lama"}'
refuse 'num_hidden_layers: expected a whole number from 1 to 1024, found nothing' '{"model_type": "llama"}'
refuse 'num_hidden_layers: expected a whole number from 1 to 1024, found 2.5' '{"model_type": "llama", "num_hidden_layers": 2.5}'
refuse 'hidden_size 100 is no multiple of 7 heads, or too large' \
    '{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 100, "num_attention_heads": 7}'
shape='"num_hidden_layers": 6, "hidden_size": 64, "num_attention_heads": 4, "head_dim": 16'
refuse 'layers: expected at most 2^30 bytes a token' \
    '{"model_type": "llama", "num_hidden_layers": 1024, "hidden_size": 262144, "num_attention_heads": 64}'
refuse 'num_key_value_heads: expected a divisor of num_attention_heads, found 3 for 4 query heads' \
    "{\"model_type\": \"llama\", $shape, \"num_key_value_heads\": 3}"
refuse 'num_key_value_heads: expected a whole number, found null' \
    "{\"model_type\": \"gpt_oss\", $shape, \"num_key_value_heads\": null}"
refuse 'num_key_value_heads: expected a divisor of num_attention_heads, found 8 for 4 query heads' "{\"model_type\": \"mistral\", $shape}"
refuse 'sliding_window: expected a whole number' "{\"model_type\": \"gemma3_text\", $shape}"
refuse 'no_rope_layers: expected one number a hidden layer' \
    "{\"model_type\": \"llama4_text\", $shape, \"attention_chunk_size\": 8, \"no_rope_layers\": [1]}"
refuse 'attn_layer_offset: expected less than attn_layer_period' \
    "{\"model_type\": \"jamba\", $shape, \"attn_layer_period\": 2, \"attn_layer_offset\": 2, \"mamba_d_state\": 16, \"mamba_d_conv\": 4, \"mamba_expand\": 2}"
refuse 'num_heads: expected expand * hidden_size / head_dim of them' \
    '{"model_type": "mamba2", "num_hidden_layers": 2, "hidden_size": 64, "expand": 2, "num_heads": 3, "head_dim": 32, "state_size": 16, "n_groups": 1, "conv_kernel": 4}'
refuse 'num_kv_shared_layers: expected fewer than the hidden layers, found 6' \
    "{\"model_type\": \"gemma3n_text\", $shape, \"sliding_window\": 8, \"num_kv_shared_layers\": 6}"
refuse 'num_kv_shared_layers: expected an earlier layer of every shared kind, found 3' \
    "{\"model_type\": \"gemma3n_text\", $shape, \"sliding_window\": 8, \"num_kv_shared_layers\": 3}"
refuse 'layer_types: expected one word a hidden layer, found 1' "{\"model_type\": \"llama\", $shape, \"layer_types\": [\"full_attention\"]}"
refuse 'layer_types: expected kinds of layers that are known, found wave' \
    "{\"model_type\": \"llama\", $shape, \"layer_types\": [\"wave\",\"wave\",\"wave\",\"wave\",\"wave\",\"wave\"]}"
refuse 'kv_source: expected layers that read their own keys and values, found a chain or a cycle' \
    "{\"model_type\": \"llama\", $shape, \"kv_source\": [1, 0, 2, 3, 4, 5]}"
refuse 'kv_lora_rank: expected a whole number' \
    "{\"model_type\": \"deepseek_v3\", $shape, \"qk_rope_head_dim\": 64}"

expect 2 'expected --model NAME or a config.json' memory
expect 2 'unknown model llama-3-8x; did you mean llama-3-8b?' memory --model llama-3-8x
expect 2 'memory: unknown option --modell; did you mean --model?' memory --modell x
expect 2 '--context: expected a whole number from 1 to 1073741824' memory --model opt-30b --context 12x
expect 2 '--weights-bits: expected a number from 0.001 to 64, found 0' memory --model opt-30b --weights-bits 0
expect 2 '--format: expected table, markdown, csv or json' memory --model opt-30b --format xml
expect 2 'unknown method kivy; did you mean kivi?' memory --model opt-30b --methods kivy
expect 2 'more than 2^63 bytes' memory --model opt-175b --batch 1000000000 --context 100M
expect 3 'cannot be read' memory --model ./none.json
expect 0 '' memory --model deepseek-v3 --methods k.int+v.int --context 64
says 'unsupported: v.int: the values of this layer are columns of its keys'
finish
