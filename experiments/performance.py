#!/usr/bin/env python3
"""Makes experiments/performance.md: what `kvbench perf` measures on this machine, as tables.

    experiments/performance.py [--kvbench PROGRAM] [--repeats N] [BENCH...] > experiments/performance.md

`field` among them is no bench of kvbench: it times whole runs, all quantizers, all policies at three budgets
and all structural methods at three ranks (speed-*.args), on the bundled recordings.

Run it on an idle machine: rows measured beside other programs, or too uneven, say so and are no verdict.
Yardsticks (baselines/) take part where numpy and torch are installed for the python3 on the PATH."""
import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# Scripts of baselines/, and sizes for those that are slow at the bench's own.
YARDSTICKS = {'attn': [('numpy_sgemm.py', []), ('numpy_chunked.py', ['--tokens', '4096'])],
              'e2e': [('torch_plain.py', [])], 'encode': [('turboquant_cpu.py', [])]}
# Fewer turns where one takes seconds, so that all of it is done in some ten minutes.
MOST_REPEATS = {'e2e': 5, 'attn': 5}


def cpu_name():
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            lines = dict(line.split(':', 1) for line in file if ':' in line)
        pick = {name.strip(): text.strip() for name, text in lines.items()}
        family = ', family {cpu family} model {model}'.format(**pick) if 'cpu family' in pick else ''
        return pick.get('model name', platform.machine()) + family
    except OSError:
        return platform.machine()


def benches(program):
    """Names in the help's second paragraph."""
    text = subprocess.run([program, 'perf', '--help'], check=True, capture_output=True, text=True).stdout
    return [line.split()[0] for line in text.split('\n\n')[1].splitlines() if line.strip()]


def number(value, digits=3):
    return '' if value is None else f'{value:.{digits}g}'


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout)['rows'] if done.returncode == 0 else done.stderr.strip()


def measure(program, bench, repeats):
    """Rows of a bench, against each of its yardsticks; without them where none can run, and a row that
    says so where the bench itself fails."""
    command = [program, 'perf', bench, '--json', '--repeats', str(min(repeats, MOST_REPEATS.get(bench, repeats)))]
    rows = []
    for name, sizes in YARDSTICKS.get(bench, []):
        found = run(command + sizes + ['--vs', os.path.join(HERE, 'baselines', name)])
        if not isinstance(found, str):
            rows += found
    if not rows:
        rows = run(command)
    return [{'case': 'failed', 'verdict': 'failed', 'reason': rows}] if isinstance(rows, str) else rows


# Seconds of two cores for each list on one recording.
FIELD = {'quantizers': 15, 'evictors': 20, 'structure': 60}


def time_run(program, name, trace):
    """User and system seconds of a run of the list on one trace, and those of the wall."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, 'run', '--methods', f'@{HERE}/speed-{name}.args', '--trace', trace, '--out',
                   os.path.join(folder, 'out'), '--threads', '2', '--no-plots', '--quiet', '--format', 'csv']
        run = subprocess.run(command, capture_output=True, text=True,
                             env={**os.environ, 'KVBENCH_CACHE': os.path.join(folder, 'cache')})
    if run.returncode not in (0, 4):  # 4: a method that the recording lacks something for
        sys.exit(f'{" ".join(command)}: {run.stderr.strip()}')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cells = len(run.stdout.splitlines()) - 1
    return cells, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - begin


def print_field(program):
    """The processors' time is what a shared machine lets one compare; the wall's is half of it where two
    cores are idle, and beside other programs it is not."""
    print('\n## field\n\nAll methods of a family on one recording, the exact reference computed afresh.\n')
    print('| list | recording | methods | CPU s | CPU s / 2 | wall s | goal | verdict |')
    print('|---|---|---|---|---|---|---|---|')
    for name, most in FIELD.items():
        for trace in ('prose', 'code'):
            cells, busy, wall = time_run(program, name, os.path.join(HERE, '..', 'traces', 'data', trace + '.h5'))
            print(f'| {name} | {trace} | {cells} | {busy:.1f} | {busy / 2:.1f} | {wall:.1f} | {most} s '
                  f"| {'met' if busy / 2 <= most else 'missed'} |")
            sys.stdout.flush()


def goal(row):
    texts = []
    if row.get('goal') is not None:
        texts.append(f"{row['goal_is']} {row['goal']:g}")
    if row.get('yardstick_goal'):
        texts.append(f"{row['yardstick_goal']:g}x yardstick")
    return ', '.join(texts)


def print_rows(rows):
    print('| case | limit | ours | unit | ratio | spread | others | yardstick | goal | verdict |')
    print('|---|---|---|---|---|---|---|---|---|---|')
    for row in rows:
        median = lambda name: (row.get(name) or {}).get('median')
        against = median('to_yardstick')
        yardstick = f"{row['yardstick_name']}: {number(against)}x" if against else row.get('yardstick_name') or ''
        share = lambda name: '' if row.get(name) is None else f'{100 * row[name]:.0f} %'
        print(f"| {row['case']} | {number(median('limit'))} | {number(median('ours'))} | {row.get('unit', '')} "
              f"| {number(median('ratio'))} | {share('spread')} | {share('foreign_load')} | {yardstick} "
              f"| {goal(row)} | {row['verdict']} |")
    missed = {row['case']: row['reason'] for row in rows if row.get('reason') and not row.get('meets')}
    if missed:
        print('\nNot met, because:\n')
    for case, reason in missed.items():
        print(f'- {case}: {reason}')


def print_all(rows):
    """Rows of growth have seconds by size and no limit."""
    growing = [row for row in rows if 'seconds' in row]
    if growing:
        print_growth(growing)
        print()
    others = [row for row in rows if 'seconds' not in row]
    if others:
        print_rows(others)


def print_growth(rows):
    print('| grows with | seconds | exponent | cost model |')
    print('|---|---|---|---|')
    for row in rows:
        seconds = ', '.join(f"{pair['size']}: {pair['seconds']:.3f}" for pair in row['seconds'])
        print(f"| {row['case']} | {seconds} | {row['ours']['median']:.2f} | {row['model']:g} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--kvbench', default=os.path.join(HERE, '..', 'build', 'harness', 'kvbench'))
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('bench', nargs='*')
    options = parser.parse_args()
    compiler = subprocess.run(['cc', '--version'], capture_output=True, text=True).stdout.splitlines()
    print('# Performance\n')
    print('Made by `experiments/performance.py`. Limits, ours and yardsticks take turns in one process; medians'
          f' of at most {options.repeats} turns; ratios are taken inside a turn. `spread` is (p90 - p10) / median of the'
          ' ratio, `others` the share of the CPUs that other processes took: above 15 % and 10 % a row'
          ' is marked invalid and its verdict does not count.\n')
    print(f'- CPU: {cpu_name()}, {os.cpu_count()} seen')
    print(f'- compiler: {compiler[0] if compiler else "unknown"}; the release build\'s flags')
    for bench in options.bench or benches(options.kvbench) + ['field']:
        if bench == 'field':
            print_field(options.kvbench)
            continue
        rows = measure(options.kvbench, bench, options.repeats)
        print(f'\n## {bench}\n')
        print_all(rows)
        sys.stdout.flush()


if __name__ == '__main__':
    main()
