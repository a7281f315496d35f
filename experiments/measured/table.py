"""Rows of `kvbench perf --json` as tables."""


def number(value, digits=3):
    return '' if value is None else f'{value:.{digits}g}'


def percent(value):
    return '' if value is None else f'{100 * value:.0f} %'


def median(row, name):
    return (row.get(name) or {}).get('median')


def print_table(head, lines):
    print('| ' + ' | '.join(head) + ' |')
    print('|' + '---|' * len(head))
    for line in lines:
        print('| ' + ' | '.join(str(cell) for cell in line) + ' |')


def goal(row):
    texts = []
    if row.get('goal') is not None:
        texts.append(f"{row['goal_is']} {row['goal']:g}")
    if row.get('yardstick_goal'):
        texts.append(f">= {row['yardstick_goal']:g}x yardstick")
    return ', '.join(texts)


def yardstick(row):
    against = median(row, 'to_yardstick')
    name = row.get('yardstick_name') or ''
    return f'{name}: {number(against)}x' if against else name


def print_rows(rows):
    """Limit, ours and what they say; reasons of missed goals below."""
    print_table(['case', 'limit', 'ours', 'unit', 'ratio', 'spread', 'pairs', 'of pairs', 'others', 'sibling',
                 'yardstick', 'goal', 'verdict'],
                [[row['case'], number(median(row, 'limit')), number(median(row, 'ours')), row.get('unit', ''),
                  number(median(row, 'ratio')), percent(row.get('spread')), row.get('pairs', ''),
                  percent(row.get('pair_spread')), percent(row.get('foreign_load')),
                  percent(row.get('sibling_at_work')), yardstick(row), goal(row), row['verdict']] for row in rows])
    reasons = {}
    for row in rows:
        if row.get('reason'):
            reasons.setdefault(row['case'], row['reason'])
    if reasons:
        print('\nMissed, or not judged, because:\n')
    for case, reason in reasons.items():
        print(f'- {case}: {reason}')


def print_growth(rows):
    """Rows of `perf scale` have seconds by size and no limit."""
    lines = []
    for row in rows:
        seconds = ', '.join(f"{pair['size']:.0f}: {pair['seconds']:.3g}" for pair in row['seconds'])
        fixed = row.get('fixed_seconds')
        lines.append([row['case'], seconds, f"{row['ours']['median']:.2f}",
                      '' if fixed is None else f'{fixed:.3f} s', f"{row['exponent_without_fixed']:.2f}",
                      f"{row['model']:g}"])
    print_table(['grows with', 'seconds', 'exponent', 'beside a fixed part of', 'exponent of all', 'cost model'], lines)
