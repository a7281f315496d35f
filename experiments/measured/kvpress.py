"""What a cell (method, budget, text) costs in kvpress and here: baselines/kvpress_cell.py."""
import json
import os
import subprocess

from measured import table

CELL = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'baselines', 'kvpress_cell.py')
WANTED = ('kvpress_python', 'gguf', 'text', 'trace')


def section(options):
    missing = ['--' + name.replace('_', '-') for name in WANTED if not getattr(options, name)]
    if missing:
        print(f'Not measured: {", ".join(missing)} not given; `baselines/README.md` says how to install kvpress 0.5.5 '
              'and to record the trace.')
        return []
    done = subprocess.run([options.kvpress_python, CELL, '--gguf', options.gguf, '--text', options.text, '--trace',
                           options.trace, '--kvbench', options.kvbench], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{')]
    if not lines:
        print(f'Not measured: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no output"}')
        return []
    found = json.loads(lines[-1])
    ours = found['kvbench']
    print(f"One text of {found['tokens']:,} tokens, all layers, one core, processor seconds; the exact reference is "
          f"shared by cells ({ours['first_run_seconds']:.1f} s for the run that computes it).\n")
    table.print_table(['cell', 'seconds'], [[name, f'{seconds:.2f}'] for name, seconds in
                                            found['kvpress_seconds'].items()] +
                      [[f"ours, mean of {ours['cells']}", f"{ours['cell_seconds']:.3f}"]])
    row = {'case': 'a cell, ours / kvpress', 'ratio': {'median': found['ratio']}, 'goal': found['goal'], 'goal_is': '<=',
           'verdict': 'met' if found['ratio'] <= found['goal'] else 'not met'}
    print(f"\nA cell costs 1/{1 / found['ratio']:.0f} of kvpress's mean of {found['kvpress_mean']:.2f} s; goal 1/50: "
          f"{row['verdict']}.")
    return [row]
