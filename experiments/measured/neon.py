"""NEON kernels, which nothing here can time: tests/kernels/neon_audit.py on an aarch64 build."""
import os
import re
import subprocess
import sys

from measured import table

AUDIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tests', 'kernels', 'neon_audit.py')
COUNT = re.compile(r'(?:not )?ok (\w+): (\d+) instructions for (\d+) multiply-adds: ([\d.]+) each')
USED = re.compile(r'(?:info|not ok|ok) (\w+) on ([\w-]+): .*: (\d+) %(.*)$')


def section(options):
    if not options.aarch64:
        print('Not measured: `--aarch64 PROGRAM` not given; `.ci/run aarch64` says how it is built.')
        return []
    done = subprocess.run([sys.executable, AUDIT, options.aarch64, '--objdump', options.objdump, '--llvm-mca',
                           options.llvm_mca], capture_output=True, text=True)
    counts = {found[1]: found for line in done.stdout.splitlines() if (found := COUNT.match(line))}
    if not counts:
        print(f'Not measured: {(done.stderr or done.stdout).strip()}')
        return []
    used = {}
    for line in done.stdout.splitlines():
        if found := USED.match(line):
            used.setdefault(found[1], {})[found[2]] = found[3] + ' %' + (' (a model lent)' if found[4] else '')
    cores = list(dict.fromkeys(core for by_core in used.values() for core in by_core))
    print(f'`tests/kernels/neon_audit.py` with {options.llvm_mca}: instructions for each vector multiply-add (at most '
          '1.35) and predicted use of the multiply-add pipes (at least 80 %) in the innermost loops. `a model lent`: '
          'this llvm-mca has none of the core and takes another one\'s.\n')
    table.print_table(['kernel', 'instructions / multiply-add'] + cores,
                      [[kernel, found[4]] + [used.get(kernel, {}).get(core, '') for core in cores]
                       for kernel, found in counts.items()])
    print(f'\n{done.stdout.strip().splitlines()[-1]}')
    return [{'case': 'NEON audit', 'verdict': 'met' if done.returncode == 0 else 'not met'}]
