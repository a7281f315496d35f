"""Audits the NEON kernels of an aarch64 build, where none of its CPUs is at hand to time them.

    neon_audit.py PROGRAM [--objdump NAME] [--llvm-mca NAME]

Of logits and accumulate it takes the innermost loop of the full register tile (the one with the
most multiply-adds), counts its instructions for each vector multiply-add (at most 1.35), and asks
llvm-mca how long it takes on every core that this llvm-mca has a model for. Utilisation is the
loop's rate of multiply-adds over that of independent multiply-adds on the same model (at least
80 %): nothing about a core's pipes is written down here."""
import argparse
import re
import shutil
import subprocess
import sys

# Cores to ask for, and the first llvm with a scheduling model of the core itself: an older one knows
# the name and lends it another core's model, which the output says. apple-m1 has none to this day.
CORES = {'neoverse-n1': 16, 'neoverse-n2': 16, 'neoverse-v1': 17, 'neoverse-v2': 17, 'apple-m1': 99}
NEEDED = ('neoverse-n2', 'neoverse-v2', 'apple-m1')
MOST_INSTRUCTIONS, LEAST_UTILISATION = 1.35, 0.80
KERNELS = ('logits_neon', 'accumulate_neon')
ITERATIONS = 200
# 24 chains of independent multiply-adds: more than pipes times latency of any core here.
PEAK = [f'fmla v{chain}.4s, v30.4s, v31.s[0]' for chain in range(24)]


def disassemble(objdump, program):
    """{function: [(address, text)]}"""
    text = subprocess.run([objdump, '-d', '--no-show-raw-insn', program], check=True,
                          capture_output=True, text=True).stdout
    functions, lines = {}, None
    for line in text.splitlines():
        if head := re.match(r'[0-9a-f]+ <(.+)>:$', line):
            lines = functions.setdefault(head[1], [])
        elif body := re.match(r'\s+([0-9a-f]+):\t(.*)$', line):
            lines.append((int(body[1], 16), re.sub(r'\s*//.*', '', body[2]).strip()))
    return functions


def innermost_loops(lines):
    """Runs from the target of a backward branch to it, without another branch inside."""
    index = {address: i for i, (address, _) in enumerate(lines)}
    for i, (address, text) in enumerate(lines):
        branch = re.match(r'(?:b\.\w+|cbn?z|tbn?z)\s.*?\b([0-9a-f]+) <', text)
        if not branch or int(branch[1], 16) > address or int(branch[1], 16) not in index:
            continue
        body = [t for _, t in lines[index[int(branch[1], 16)]:i + 1]]
        if not any(re.match(r'(b|b\.\w+|bl|cbn?z|tbn?z|ret)\s', t) for t in body[:-1]):
            yield body


def multiply_adds(body):
    return sum(text.startswith('fmla') and '.4s' in text for text in body)


def cycles(llvm_mca, core, body):
    """Predicted cycles of one iteration, or None where this llvm-mca does not know the core. The
    branch's target is outside the text: it goes to a label of our own."""
    body = [re.sub(r'[0-9a-f]+ <.*>', '.Lloop', text) for text in body]
    run = subprocess.run([llvm_mca, '-mtriple=aarch64', f'-mcpu={core}',
                          f'-iterations={ITERATIONS}'], input='\n'.join(['.Lloop:'] + body) + '\n',
                         capture_output=True, text=True)
    if 'not a recognized processor' in run.stderr:
        return None
    if run.returncode or 'error' in run.stderr:
        sys.exit(f'{llvm_mca} -mcpu={core}: {run.stderr[:400]}')
    return int(re.search(r'Total Cycles:\s+(\d+)', run.stdout)[1]) / ITERATIONS


def llvm_version(llvm_mca):
    text = subprocess.run([llvm_mca, '--version'], check=True, capture_output=True, text=True).stdout
    return int(re.search(r'LLVM version (\d+)', text)[1])


def audit(kernel, loops, llvm_mca, verdict):
    body = max(loops, key=multiply_adds, default=[])
    count = multiply_adds(body)
    if not count:
        return verdict(False, f'{kernel}: a loop with vector multiply-adds')
    share = len(body) / count
    verdict(share <= MOST_INSTRUCTIONS, f'{kernel}: {len(body)} instructions for {count} multiply-adds:'
            f' {share:.2f} each, at most {MOST_INSTRUCTIONS}')
    spills = sum('[sp' in text for text in body)
    verdict(spills == 0, f'{kernel}: {spills} accesses to the stack in the loop')
    version = llvm_version(llvm_mca)
    for core, first in CORES.items():
        taken = cycles(llvm_mca, core, body)
        if taken is None:
            print(f'skip {kernel} on {core}: llvm-mca {version} does not know it')
            continue
        peak = len(PEAK) / cycles(llvm_mca, core, PEAK)
        used = count / taken / peak
        note = '' if version >= first else f' (llvm {version} lends {core} another core\'s model)'
        text = f'{kernel} on {core}: {count / taken:.2f} of {peak:.2f} multiply-adds a cycle: {100 * used:.0f} %{note}'
        if core in NEEDED:
            verdict(used >= LEAST_UTILISATION, text)
        else:
            print('info ' + text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('program')
    parser.add_argument('--objdump', default='aarch64-linux-gnu-objdump')
    parser.add_argument('--llvm-mca', default='llvm-mca-19')
    arguments = parser.parse_args()
    for tool in (arguments.objdump, arguments.llvm_mca):
        if not shutil.which(tool):
            sys.exit(f'{tool}: not installed')
    passed, failed = 0, 0

    def verdict(good, text):
        nonlocal passed, failed
        passed, failed = passed + bool(good), failed + (not good)
        print(('ok ' if good else 'not ok ') + text)

    functions = disassemble(arguments.objdump, arguments.program)
    for kernel in KERNELS:
        loops = [body for name, lines in functions.items() if name == kernel
                 for body in innermost_loops(lines)]
        audit(kernel, loops, arguments.llvm_mca, verdict)
    print(f'{passed} passed, {failed} failed')
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
