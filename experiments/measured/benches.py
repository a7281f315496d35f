"""The benches of `kvbench perf`, against their yardsticks."""
import json
import os
import subprocess

from measured import table

BASELINES = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'baselines')
# Scripts of baselines/, and sizes for those that are slow at the bench's own.
ONE_SHAPE = ['--tokens', '4096', '--dims', '128']
YARDSTICKS = {'attn': [('numpy_sgemm.py', []), ('numpy_chunked.py', ['--tokens', '4096']),
                       ('torch_sdpa.py', ONE_SHAPE), ('torch_plain.py', ONE_SHAPE)],
              'e2e': [('torch_plain.py', [])], 'encode': [('turboquant_cpu.py', [])]}
# Fewer turns where one takes seconds, so that all of it is done in some nine minutes.
MOST_REPEATS = {'e2e': 5, 'attn': 5}
ABOUT = {
    'attn': 'Exact causal attention, 4 query heads on one KV head; the limit is the multiply-add peak of the kernel '
            'set, which sets that multiply in tiles of bfloats pass: rows of products say by how much.',
    'attend': 'Query rows over codes beside the same rows over 32-bit floats; with two threads the limit is what a '
              'second thread brings to multiply-adds.',
    'encode': 'Rows of halves in the L2 cache; the limit is reading them once, for TurboQuant a step of 64 '
              'floating-point operations (a cycle of a core with two 512-bit units).',
    'fht': 'In steps of 64 floating-point operations: a cycle of a core with two 512-bit units.',
    'decode': 'One query over stored codes; the limit is reading the same bytes.',
    'evict': 'Watching attention beside the exact reference of the same layer (rates: a ratio is of times).',
    'io': 'A layer of a trace beside what else reads as many bytes, from the page cache.',
    'scale': 'Processor seconds (wall seconds for threads), the best of three runs, of a run of 2 methods over 4,096 '
             'tokens, one layer, one KV head with 2 query heads, d 64, where nothing else is said; exponents are '
             'fitted beside a part that does not grow.',
    'e2e': 'A comparison of 20 methods, 256 scored tokens, from file to rows, and the reference of all queries; then all '
           'positions scored but for a prompt of 64 tokens.'}


def names(program):
    """In the help's second paragraph."""
    text = subprocess.run([program, 'perf', '--help'], check=True, capture_output=True, text=True).stdout
    return [line.split()[0] for line in text.split('\n\n')[1].splitlines() if line.strip()]


def run(command):
    """Rows, or what it said when it failed."""
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout)['rows'] if done.returncode == 0 else done.stderr.strip()


def measure(options, bench):
    """Rows of a bench, against each of its yardsticks; without them where none can run, and a row that says so
    where the bench itself fails."""
    repeats = min(options.repeats, MOST_REPEATS.get(bench, options.repeats))
    command = [options.kvbench, 'perf', bench, '--json', '--repeats', str(repeats)]
    command += ['--tiny'] if options.tiny else []
    rows = []
    for name, sizes in YARDSTICKS.get(bench, []):
        found = run(command + sizes + ['--vs', os.path.join(BASELINES, name)])
        if not isinstance(found, str):
            once = {row['case'] for row in rows}
            rows += [row for row in found if row.get('yardstick_name') or row['case'] not in once]
    if not rows:
        rows = run(command)
    return [{'case': 'failed', 'verdict': 'failed', 'reason': rows}] if isinstance(rows, str) else rows


def section(options, bench):
    rows = measure(options, bench)
    growing = [row for row in rows if 'seconds' in row]
    others = [row for row in rows if 'seconds' not in row]
    if bench in ABOUT:
        print(ABOUT[bench] + '\n')
    if growing:
        table.print_growth(growing)
    if growing and others:
        print()
    if others:
        table.print_rows(others)
    return rows
