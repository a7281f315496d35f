"""Peak memory of whole runs on made traces, beside what they may take."""
import json
import os
import subprocess
import sys
import tempfile

from measured import table

THREADS, DIM, HEADS, LAYERS = 2, 128, 8, 2
MIB = 1 << 20
KINDS = ('layers', 'reference', 'prompt', 'logits', 'answers', 'largest_method_state')
SOME = 'f16,int,turboquant,kivi,streaming,snapkv,h2o,quest'


def peak(command, environment):
    """Its highest resident memory in bytes, and its processor seconds."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f'{" ".join(command)}: {said.strip()}')
    return usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def measure(options, folder, tokens, methods):
    """A run of the methods over a made trace of that many tokens, and of `info`, which only opens it."""
    trace, profile = os.path.join(folder, f'{tokens}.h5'), os.path.join(folder, 'profile.json')
    environment = {**os.environ, 'KVBENCH_CACHE': os.path.join(folder, 'cache')}
    if not os.path.exists(trace):
        subprocess.run([options.kvbench, 'trace', 'synth', trace, '--tokens', str(tokens), '--prefill',
                        str(tokens - 256), '--layers', str(LAYERS), '--q-heads', str(HEADS), '--kv-heads', str(HEADS),
                        '--head-dim', str(DIM), '--sink-mass', '0', '--heavy-mass', '0', '--probes', 'off'],
                       check=True, stdout=subprocess.DEVNULL)
    idle, _ = peak([options.kvbench, 'info', trace], environment)
    taken, seconds = peak([options.kvbench, 'run', '--trace', trace, '--methods', methods, '--queries', '256',
                           '--threads', str(THREADS), '--out', os.path.join(folder, 'out'), '--no-plots', '--quiet',
                           '--no-verify', '--profile', profile], environment)
    with open(profile, encoding='utf-8') as file:
        held = json.load(file)['memory_bytes']
    layer = 2 * tokens * DIM * 3 * HEADS
    allowed = 2 * layer + THREADS * (4 * MIB + held['largest_method_state'])
    return {'case': f"{methods.replace(',', ', ')}: {tokens:,} tokens", 'layer': layer, 'peak': taken, 'idle': idle,
            'held': held, 'allowed': allowed, 'seconds': seconds,
            'verdict': 'met' if taken - idle <= allowed else 'not met'}


def section(options):
    print(f'`--queries 256`, {THREADS} threads, {LAYERS} layers x {HEADS} KV heads x {HEADS} query heads x d {DIM}, '
          'halves. Allowed are Q, K and V of two layers, 4 MiB and one method state a thread; the peak is the '
          'kernel\'s count of resident memory, less that of `kvbench info` on the same file. The next layer is '
          'read ahead while its bytes, for each method of a batch, are at most 64 MiB. Other columns: what the run holds '
          'at most of each kind (`run --profile`).\n')
    sizes = [(16384, 'f16'), (16384, SOME)] + ([(131072, 'f16')] if options.big else [])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for tokens, methods in sizes:
            rows.append(measure(options, folder, tokens, methods))
    mib = lambda value: f'{value / MIB:.0f}'
    table.print_table(['run', 'a layer, MiB', 'peak', 'idle', 'peak - idle', 'allowed', 'verdict', 'layers',
                       'reference', 'prompt statistics', 'logits', 'answers', 'a method\'s state', 'CPU s'],
                      [[row['case'], mib(row['layer']), mib(row['peak']), mib(row['idle']),
                        mib(row['peak'] - row['idle']), mib(row['allowed']), row['verdict']]
                       + [mib(row['held'][kind]) for kind in KINDS] + [f"{row['seconds']:.0f}"]
                       for row in rows])
    for row in rows:
        if row['verdict'] != 'met':
            held, extra = row['held'], row['peak'] - row['idle'] - row['allowed']
            print(f"\nNot met by {mib(extra)} MiB: {row['case']}: beyond layers and states a thread it holds statistics of "
                  f"the prompt for the heads at hand ({mib(held['prompt'])} MiB), exact logits "
                  f"({mib(held['logits'])}), answers ({mib(held['answers'])}) and the reference "
                  f"({mib(held['reference'])}).")
    if not options.big:
        print('\nWithout `--big`: 131,072 tokens were not replayed.')
    return rows
