"""What a cell (method, budget, text) costs in kvpress and here: baselines/kvpress_cell.py."""
import json
import os
import subprocess

from measured import table

CELL = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'baselines', 'kvpress_cell.py')
WANTED = ('kvpress_python', 'gguf', 'text', 'trace')


def products(program, trace, removed):
    """GFLOP of a cell's answers alone: each scored query of each head meets the rows kept and those decoded
    before it; and of their differences from the exact ones through W_o, which the residual error is made of, with as
    many rows as columns."""
    done = subprocess.run([program, 'info', '--json', trace], check=True, capture_output=True, text=True)
    info = json.loads(done.stdout)
    queries = info['tokens'] - info['prefill_length']
    rows = (1 - removed) * info['prefill_length'] + queries / 2
    answers = sum(2 * (layer['d_k'] + layer['d_v']) * layer['q_heads'] * queries * rows for layer in info['layers'])
    through = sum(2 * (layer['q_heads'] * layer['d_v']) ** 2 * queries for layer in info['layers'] if layer['w_o'])
    return answers / 1e9, through / 1e9


def section(options, fastest, peak):
    """`fastest`: GFLOP/s of products on one thread and how they are made, or None; `peak`: of multiply-adds."""
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
    row = {'case': 'a cell, ours / kvpress', 'ratio': {'median': found['ratio']}, 'goal': found['goal'],
           'goal_is': '<=', 'verdict': 'met' if found['ratio'] <= found['goal'] else 'not met'}
    print(f"\nA cell costs 1/{1 / found['ratio']:.0f} of kvpress's mean of {found['kvpress_mean']:.2f} s; goal 1/50: "
          f"{row['verdict']}.")
    answers, through = products(options.kvbench, options.trace, found['removed'])
    if row['verdict'] != 'met' and fastest:
        rate, how = fastest
        apart = peak / 2
        goal, times = found['kvpress_mean'] / 50, (answers / rate, through / apart)
        print(f"The answers of a cell are {answers:.1f} GFLOP, {times[0]:.3f} s at {rate:.0f} GFLOP/s ({how}). Their errors "
              f"through W_o, a column that kvpress does not have, are {through:.1f}: products and sums are rounded one by "
              "one there, so that every machine prints the same number, which takes a core two operations for one "
              f"multiply-add: {times[1]:.3f} s at {apart:.0f} GFLOP/s. Together {sum(times):.3f} s at these rates; the goal "
              f"is {goal:.3f} s" + (', less than these two alone.' if sum(times) > goal else '.'))
    return [row]
