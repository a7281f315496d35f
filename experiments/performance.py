#!/usr/bin/env python3
"""Makes experiments/performance.md: what `kvbench perf` and whole runs measure on this machine, as tables,
and what they say of each goal.

    experiments/performance.py [options] [SECTION...] > experiments/performance.md

Sections are the benches of `kvbench perf`, and
    field     all quantizers, all policies at three budgets, all structural methods at three ranks
              (speed-*.args) on the bundled recordings
    memory    peak memory of whole runs on made traces; with --big one of 128K tokens, too
    kvpress   a cell of a comparison in kvpress and here; wants --kvpress-python, --gguf, --text, --trace
              (baselines/README.md says where from)
    neon      instructions and llvm-mca's cycles of the NEON kernels; wants --aarch64
A section that lacks its ingredients says what is missing. Run it on an idle machine: rows measured beside
other programs, or too uneven, say so and are no verdict. Yardsticks (baselines/) take part where the python
that runs this has numpy and torch. Everything but --big takes some nine minutes on two cores."""
import argparse
import os
import sys

from measured import benches, field, goals, kvpress, machine, memory, neon

HERE = os.path.dirname(os.path.abspath(__file__))


def sections(options, rows):
    """{name: function that prints the section and returns its rows}, in the order of the document; `rows` are
    those of the sections before."""
    own = {name: lambda name=name: benches.section(options, name) for name in benches.names(options.kvbench)}
    own['field'] = lambda: field.section(options)
    own['memory'] = lambda: memory.section(options)
    own['kvpress'] = lambda: kvpress.section(options, machine.fastest_products(rows), machine.peak(rows))
    own['neon'] = lambda: neon.section(options)
    return own


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--kvbench', default=os.path.join(HERE, '..', 'build', 'harness', 'kvbench'))
    parser.add_argument('--repeats', type=int, default=9, help='turns of a row (9); of long ones 5')
    parser.add_argument('--tiny', action='store_true', help='smallest sizes of benches: numbers mean nothing')
    parser.add_argument('--big', action='store_true', help='replay 131,072 tokens x 2 layers x 8 heads (1.6 GB)')
    parser.add_argument('--aarch64', metavar='PROGRAM', help='kvbench built for aarch64')
    parser.add_argument('--objdump', default='aarch64-linux-gnu-objdump')
    parser.add_argument('--llvm-mca', default='llvm-mca-19')
    parser.add_argument('--kvpress-python', metavar='PYTHON', help='a python with kvpress 0.5.5')
    parser.add_argument('--gguf', help='of the model that --trace was recorded from')
    parser.add_argument('--text', help='the text of --trace')
    parser.add_argument('--trace', help='all layers, 1,280 tokens, 1,024 of them prompt')
    parser.add_argument('section', nargs='*')
    return parser.parse_args()


def main():
    options = parse()
    if not os.access(options.kvbench, os.X_OK):
        sys.exit(f'performance.py: {os.path.relpath(options.kvbench)}: expected the program; build it first '
                 '(./kvbench list) or name it (--kvbench)')
    # Yardsticks begin with `env python3`: that is to be this one.
    os.environ['PATH'] = os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH']
    rows = {}
    every = sections(options, rows)
    unknown = [name for name in options.section if name not in every]
    if unknown:
        sys.exit(f'performance.py: unknown section {unknown[0]}; expected {", ".join(every)}')
    machine.print_head(options)
    for name in options.section or every:
        print(f'\n## {name}\n')
        rows[name] = every[name]()
        sys.stdout.flush()
    machine.print_limits(rows)
    goals.print_table(rows)


if __name__ == '__main__':
    main()
