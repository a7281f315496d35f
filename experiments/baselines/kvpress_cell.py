#!/usr/bin/env python3
"""What a cell (method, budget, text) costs in kvpress and here: one text, one core.

    kvpress_cell.py --gguf MODEL.gguf --text FILE --trace ALL_LAYERS.h5 [--kvbench PROGRAM]

kvpress: prefill of 1,024 tokens under the press, then 256 tokens read from the evicted cache in one block
(its fast way; token by token costs 20 times that). kvbench: the same presses by their names here, on a
recording of the same model, text and tokens (all layers), the exact reference computed once and shared.
Processor seconds of each, one JSON line. README.md says how to install and record."""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import turns  # noqa: F401, first: one thread

PROMPT, SCORED = 1024, 256
CELLS = [('SnapKVPress', 'snapkv'), ('TOVAPress', 'tova:when=prefill'), ('KnormPress', 'knorm:when=prefill'),
         ('KeyDiffPress', 'keydiff:when=prefill'), ('StreamingLLMPress', 'streaming:when=prefill')]


def load(gguf, text):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.set_num_threads(1)
    folder, file = os.path.split(os.path.abspath(gguf))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(folder, gguf_file=file)(text, return_tensors='pt').input_ids
    return model, ids[:, :PROMPT + SCORED]


def theirs(model, ids, press_name, removed):
    """Processor seconds of a cell: the better of two."""
    import kvpress
    import torch
    from transformers import DynamicCache
    press = getattr(kvpress, press_name)(compression_ratio=removed)
    seconds = []
    for _ in range(2):
        begin = time.process_time()
        with torch.no_grad():
            cache = DynamicCache()
            with press(model):
                model.model(ids[:, :PROMPT], past_key_values=cache)
            positions = torch.arange(PROMPT, ids.shape[1])[None]
            model(ids[:, PROMPT:], past_key_values=cache, position_ids=positions)
        seconds.append(time.process_time() - begin)
    return min(seconds)


def ours(program, trace, specs):
    """Processor seconds of a run over the specs, the reference being there already."""
    with tempfile.TemporaryDirectory() as cache:
        def run(methods):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([program, 'run', '--trace', trace, '--methods', methods, '--threads', '1',
                            '--out', os.path.join(cache, 'out'), '--quiet', '--no-plots'], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                           env=dict(os.environ, KVBENCH_CACHE=cache))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        first = run('f16')   # reads, verifies, computes the reference
        one, all_specs = run('f16'), run('f16,' + ','.join(specs))
        return {'first_run_seconds': first, 'run_of_f16_seconds': one,
                'cell_seconds': (all_specs - one) / len(specs), 'cells': len(specs)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--gguf', required=True)
    parser.add_argument('--text', required=True)
    parser.add_argument('--trace', required=True)
    parser.add_argument('--kvbench', default='build/harness/kvbench')
    parser.add_argument('--removed', type=float, default=0.5, help='share of the prompt that goes')
    options = parser.parse_args()
    with open(options.text, encoding='utf-8') as file:
        text = file.read()
    model, ids = load(options.gguf, text)
    peers = {press: theirs(model, ids, press, options.removed) for press, _ in CELLS}
    result = ours(options.kvbench, options.trace,
                  [f'{spec}:budget={1 - options.removed}' for _, spec in CELLS])
    mean = sum(peers.values()) / len(peers)
    print(json.dumps({'tokens': int(ids.shape[1]), 'kvpress_seconds': peers, 'kvpress_mean': mean, 'kvbench': result,
                      'removed': options.removed,
                      'ratio': result['cell_seconds'] / mean, 'goal': 1 / 50}))
    sys.exit(result['cell_seconds'] > mean / 50)


if __name__ == '__main__':
    main()
