"""Goals of the project's performance plan (G1 to G16), and the rows that judge them."""
from measured import table
from measured.machine import find

# (goal, what it asks, [(section, beginnings of cases)], what is judged elsewhere or not at all)
GOALS = [
    ('G1', 'exact reference: of the multiply-add peak 85 % at d 128 and 82 % at d 64 with AVX-512, 75 % with AVX2',
     [('attn', ['T='])], ''),
    ('G2', 'reference 1.5x hand-chunked numpy, 8x eager torch 1.13', [], 'ggml and ik_llama are in no registry'),
    ('G3', 'quantized KV at most 1.05x the time of floats from 96 rows on, 1.2x at 24',
     [('attend', ['f16 ', 'int', 'kivi', 'turboquant', 'q4_0', 'q8_0'])], 'ik_llama and llama.cpp are in no registry'),
    ('G4', 'one query, 128K tokens: f16 75 %, int8 70 %, 4 bits 60 % of the read bandwidth, 80 % on two cores',
     [('decode', ['f16 T=131072', 'int8 T=131072', 'int4 T=131072', 'turboquant4 T=131072'])],
     'ik_llama and llama.cpp are in no registry'),
    ('G5', 'KIVI-2 and TurboQuant-4 beside forks of llama.cpp', [], 'not measured: the forks are in no registry'),
    ('G6', 'Hadamard transform of 128 in 34 steps of 64 flop', [('fht', ['d=128'])], 'FFHT is in no registry'),
    ('G7', 'TurboQuant-4 encode in 145 steps of 64 flop; other encoders 3x of reading their input from L2; at most 1 % '
     'of a run over all queries', [('encode', [''])],
     'turbovec, the llama.cpp fork and ggml are in no registry'),
    ('G8', 'QJL scores at 70 % of the read bandwidth', [('decode', ['qjl scores T=131072'])], ''),
    ('G9', '20 methods, 256 scored, and the full reference in 0.4x of plain torch attention once; all positions scored in '
     '3x', [('e2e', ['20 methods'])], ''),
    ('G10', 'outside of stages at most 5 % of a run', [('e2e', ['outside stages'])], ''),
    ('G11', 'a second core brings 0.95 of what it brings to multiply-adds',
     [('scale', ['attention']), ('attend', ['2 threads'])], ''),
    ('G12', 'reading a layer at 80 % of pread, 300x of HDF5\'s own conversion; chunked 50 %', [('io', ['f16 '])], ''),
    ('G13', 'column sums at most 0.55 of the reference, H2O online at a 20 % budget 0.6', [('evict', ['column', 'h2o'])], ''),
    ('G14', 'memory: two layers, 4 MiB and one method state a thread', [('e2e', ['memory']), ('memory', [''])], ''),
    ('G15', 'the kept reference costs 1 % of its first cost', [('e2e', ['kept reference'])], ''),
    ('G16', 'NEON: 1.35 instructions a multiply-add, 80 % of the pipes by llvm-mca', [('neon', ['NEON'])], ''),
    ('kvpress', 'a cell costs 1/50 of kvpress\'s', [('kvpress', ['a cell'])], ''),
    ('field', 'all quantizers 15 s, all policies 20 s, all structural methods 60 s of two cores',
     [('field', ['quantizers', 'evictors', 'structure'])], ''),
]


def matches(case, beginning):
    two = '2 threads' in case and ' rows ' in case
    return two if beginning == '2 threads' else case.startswith(beginning) and not two


def rows_of(rows, where):
    """Rows of these cases that have a goal; a case is judged once for each yardstick that it ran beside."""
    found = {}
    for section, beginnings in where:
        for row in rows.get(section) or []:
            if any(matches(row['case'], beginning) for beginning in beginnings):
                if row.get('goal') is not None or row.get('yardstick_goal') or 'meets' not in row:
                    found[(section, row['case'], row.get('yardstick_name'))] = row
    return list(found.values())


def count(judged):
    """Text of how many met, did not, or say nothing."""
    kinds = {'met': 0, 'not met': 0, 'invalid': 0, 'not judged': 0}
    for row in judged:
        verdict = row['verdict'].split(':')[0]
        kinds[verdict if verdict in kinds else 'not judged'] += 1
    alone = sum(row['verdict'] == 'not met' and row.get('meets_without_sibling', False) for row in judged)
    texts = [f'{n} {kind}' for kind, n in kinds.items() if n]
    return ', '.join(texts) + (f' ({alone} of these met without the other thread)' if alone else '')


def sgemm_share(rows):
    """G1: where sgemm itself stays below 85 % of the peak, 1.0x of it is asked instead."""
    for row in rows.get('attn') or []:
        sgemm, peak = table.median(row, 'yardstick'), table.median(row, 'limit')
        if sgemm and 'sgemm' in row['yardstick_name'] and row['case'] == 'T=4096 d=128':
            asks = 'so the share of the peak is asked' if sgemm >= 0.85 * peak else 'so 1.0x of it is asked'
            return f"OpenBLAS's sgemm of 2048 reaches {100 * sgemm / peak:.0f} % of the peak, {asks}"
    return ''


def against_torch_and_numpy(rows):
    """G2: what the yardsticks of `attn` were beaten by."""
    texts = []
    for row in rows.get('attn') or []:
        against = table.median(row, 'to_yardstick')
        name = row.get('yardstick_name') or ''
        if against and 'sgemm' not in name and 'd=128' in row['case']:
            texts.append(f"{against:.2f}x of {name}")
    return '; '.join(texts) or 'no yardstick ran'


def encode_share(rows):
    """G7: 8,192 vectors (keys and values of 4,096 tokens) beside the attention of all queries."""
    encode, attn = find(rows, 'encode', 'turboquant:bits=4 d=128'), find(rows, 'attn', 'T=4096 d=128')
    if not table.median(encode, 'ours') or not table.median(attn, 'ours'):
        return ''
    seconds = 2 * 4096 / (table.median(encode, 'ours') * 1e6)
    attention = 4 * 128 * 4 * 4096 * 4097 / 2 / (table.median(attn, 'ours') * 1e9)
    return f'encoding is {100 * seconds / attention:.2f} % of a run over all queries'


def threads_of_decode(rows):
    one, two = (find(rows, 'decode', f'f16 T=131072 d=128, {n} thread') for n in (1, 2))
    read, ours = ([table.median(row, side) for row in (one, two)] for side in ('limit', 'ours'))
    if not all(read + ours):
        return ''
    return (f'decode from memory is capped at what a second thread brings to reading, {read[1] / read[0]:.2f}x; '
            f'f16 gains {ours[1] / ours[0]:.2f}x')


NOTES = {'G1': sgemm_share, 'G2': against_torch_and_numpy, 'G7': encode_share, 'G11': threads_of_decode}


def print_table(rows):
    print('\n## Goals\n')
    print('Of the performance plan; judged by the rows of the tables above. Programs that no package registry ships '
          'are left to others.\n')
    lines = []
    for name, text, where, note in GOALS:
        judged = rows_of(rows, where)
        notes = [NOTES[name](rows)] if name in NOTES else []
        notes += [note] if note else []
        sections = ', '.join(section for section, _ in where)
        verdict = count(judged) if judged else ('not measured here' if where else '')
        lines.append([name, text, sections, verdict, '; '.join(filter(None, notes))])
    table.print_table(['goal', 'asks for', 'rows in', 'verdicts', 'beside that'], lines)
