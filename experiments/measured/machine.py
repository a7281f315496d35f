"""The machine: what it is, and what its measured limits leave of the goals."""
import os
import platform
import re
import subprocess

from measured import table


def cpu_name():
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            lines = dict(line.split(':', 1) for line in file if ':' in line)
        pick = {name.strip(): text.strip() for name, text in lines.items()}
        family = ', family {cpu family} model {model}'.format(**pick) if 'cpu family' in pick else ''
        return pick.get('model name', platform.machine()) + family
    except OSError:
        return platform.machine()


def output(command):
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        return ''


def compiler(program):
    """As the program's own comment section has it; else the one on the PATH."""
    found = re.findall(r'\]\s+(.*(?:GCC|clang).*)', output(['readelf', '-p', '.comment', program]))
    return '; '.join(dict.fromkeys(found)) or (output(['cc', '--version']).splitlines() or ['unknown'])[0]


def caches():
    texts = re.findall(r'^(L\d\w*) cache:\s+(.*?)\s*$', output(['lscpu']), re.MULTILINE)
    return ', '.join(f'{name} {size}' for name, size in texts)


def print_head(options):
    print('# Performance\n')
    print('Made by `experiments/performance.py`; nothing here is written by hand. Limits, ours and yardsticks take '
          'turns in one process. A pair is a stretch of ours of at least 2 ms, and as long as one call of the limit or of a yardstick\'s script, '
          'beside one of the limit, half of it before and half after (calls that take longer are taken whole, in '
          'turning order; of short ones beside a long one as many as are as long, since only the first meets the caches '
          f'that the long one left); its ratio is taken inside it. A turn is 30 ms of pairs, or one; of {options.repeats} '
          'turns (5 of long ones) each counts as the median of its pairs, and printed are the medians over the turns. '
          '`spread` is (p90 - p10) / median of the ratio over '
          'the turns. While it is above 15 % and a case has taken less than 6 s, as many pairs again are taken and '
          'turns become twice as long: every pair counts, and `of pairs` is the same spread over single pairs. `others` '
          'is the share of the CPUs that other processes took (empty: too short to tell), `sibling` the share of looks at '
          'which the core\'s other hardware thread, of this system or of another on the same machine, was at work: cores '
          'then keep half as many instructions in flight, which two loads that miss every cache show (empty: this core is '
          'not known). Above 15 % of spread or 10 % '
          'of others a row is invalid: its numbers stand, its verdict does not count. Each missed goal has its reason '
          'under the table, measured in the same run, and where that thread was at work the ratio of pairs beside it and '
          'without it; of these as many more are taken as come within two seconds, up to five.\n')
    print(f'- CPU: {cpu_name()}, {os.cpu_count()} seen; {caches()}')
    print(f'- compiler: {compiler(options.kvbench)}; the release build\'s flags')
    print(f"- {output([options.kvbench, '--version']).strip()}; load average at the beginning {os.getloadavg()[0]:.1f}")


def find(rows, bench, case):
    """The row of a bench whose name begins so; {} when it was not measured."""
    return next((row for row in rows.get(bench) or [] if row['case'].startswith(case)), {})


def peak(rows):
    """GFLOP/s of multiply-adds on one thread, as attention was measured beside; None when it was not."""
    return table.median(find(rows, 'attn', 'T=4096 d=128'), 'limit')


def products(rows):
    """Rows of products alone, on a tile in the cache."""
    return [row for row in rows.get('attn') or [] if row['case'].startswith('products')]


def fastest_products(rows):
    """(GFLOP/s, how) of one thread: multiply-adds in registers, or a tile's products where they are faster; None when
    not measured."""
    rates = [(peak(rows), 'multiply-adds in registers')]
    rates += [(table.median(row, 'ours'), f"{row['case']} in the cache, {row['ours_name']}") for row in products(rows)]
    return max((rate for rate in rates if rate[0]), default=None)


# Values that a stored byte holds, and goals as shares of the read bandwidth of one thread.
# Not listed is what some kernel set reads without a multiply-add a value: books and signs are looked up, codes of 4
# bits are summed as whole numbers.
FORMATS = {'f16': (0.5, 0.75), 'int8': (1, 0.70)}


def print_formats(rows, multiply_adds):
    lines = []
    for name, (values, share) in FORMATS.items():
        row = find(rows, 'decode', f'{name} T=131072 d=128, 1 thread')
        read, ours = table.median(row, 'limit'), table.median(row, 'ours')
        if not read:
            continue
        adds, goal = multiply_adds / 2 / values, share * read
        lines.append([name, table.number(adds), table.number(goal), f'{100 * goal / adds:.0f} %', table.number(ours),
                      f'{100 * ours / adds:.0f} %'])
    if not lines:
        return
    print('\nOne query over halves or codes of 8 bits is a multiply-add of every value in these kernels; the share of '
          'the multiply-add rate that a goal takes is what unpacking, converting and scaling, which use the same ports, '
          'may not:\n')
    table.print_table(['format', 'by multiply-adds alone, GB/s', 'goal, GB/s', 'goal takes of them', 'ours, GB/s',
                       'ours takes'], lines)


def print_limits(rows):
    """What the rows above say of the machine; nothing where none of them were measured."""
    limits = [('multiply-adds, one thread', peak(rows), 'GFLOP/s', 'attn'),
              *((f"{row['case']} in the cache, {row['ours_name']}", table.median(row, 'ours'), 'GFLOP/s', 'attn')
                for row in products(rows)),
              ('what a second thread brings to multiply-adds', table.median(find(rows, 'scale', 'attention'), 'limit'),
               'x', 'scale'),
              ('reading from L2, one thread', table.median(find(rows, 'encode', 'f16'), 'limit'), 'GB/s', 'encode'),
              ('reading from memory, one thread', table.median(find(rows, 'decode', 'f16 T=131072 d=128, 1'), 'limit'),
               'GB/s', 'decode'),
              ('reading from memory, two threads', table.median(find(rows, 'decode', 'f16 T=131072 d=128, 2'), 'limit'),
               'GB/s', 'decode'),
              ('pread from the page cache', table.median(find(rows, 'io', 'f16 contiguous'), 'limit'), 'GB/s', 'io')]
    limits = [line for line in limits if line[1]]
    if not limits:
        return
    print('\n## What this machine can do\n')
    table.print_table(['limit', 'measured', 'unit', 'in'],
                      [[name, table.number(value), unit, where] for name, value, unit, where in limits])
    if peak(rows):
        print_formats(rows, peak(rows))
