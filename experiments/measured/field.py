"""Whole families of methods on the bundled recordings."""
import os
import resource
import subprocess
import sys
import tempfile
import time

from measured import table

HERE = os.path.dirname(os.path.abspath(__file__))
# Seconds of two cores for each list on one recording.
MOST = {'quantizers': 15, 'evictors': 20, 'structure': 60}


def time_run(program, name, trace):
    """Cells, processor seconds and wall seconds of a run of the list on one trace."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, 'run', '--methods', f'@{HERE}/../speed-{name}.args', '--trace', trace, '--out',
                   os.path.join(folder, 'out'), '--threads', '2', '--no-plots', '--quiet', '--format', 'csv']
        run = subprocess.run(command, capture_output=True, text=True,
                             env={**os.environ, 'KVBENCH_CACHE': os.path.join(folder, 'cache')})
    if run.returncode not in (0, 4):  # 4: a method that the recording lacks something for
        sys.exit(f'{" ".join(command)}: {run.stderr.strip()}')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cells = len(run.stdout.splitlines()) - 1
    return cells, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - begin


def section(options):
    """The processors' time is what a shared machine lets one compare; the wall's is half of it where two
    cores are idle, and beside other programs it is not."""
    print('All methods of a family on one recording, two threads, the exact reference computed afresh.\n')
    rows = []
    for name, most in MOST.items():
        for trace in ('prose', 'code'):
            data = os.path.join(HERE, '..', '..', 'traces', 'data', trace + '.h5')
            cells, busy, wall = time_run(options.kvbench, name, data)
            rows.append({'case': f'{name} on {trace}', 'cells': cells, 'busy': busy, 'wall': wall, 'goal': most,
                         'verdict': 'met' if busy / 2 <= most else 'not met'})
    table.print_table(['list and recording', 'methods', 'CPU s', 'CPU s / 2', 'wall s', 'goal', 'verdict'],
                      [[row['case'], row['cells'], f"{row['busy']:.1f}", f"{row['busy'] / 2:.1f}",
                        f"{row['wall']:.1f}", f"{row['goal']} s", row['verdict']] for row in rows])
    return rows
