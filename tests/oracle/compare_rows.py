"""Runs the program over a trace and compares rows.csv with the oracle's own replay.

    compare_rows.py --kvbench build/harness/kvbench --trace FILE [--trace FILE ...] [--methods LIST]

Prints one line per (trace, method, layer, metric) that disagrees, then a summary; the last line is
`N passed, N failed`. Exit 1 on a disagreement. With --audit it also prints, for columns whose
definition leaves room (quantile rule, drift), how far apart the two are, without judging.
"""
import argparse
import csv
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")   # one process a core instead: products are small

import disturbed
import linear_state
import metrics
import makers
import mla
import replay
import specs
import structure
from rows import UNKNOWN, all_rows
from tolerances import AUDITED, EXACT, close, feature_floor, rounding_floor
from trace_file import read_trace
from turboquant_claims import distortion_claims

METHODS = """
f32 f16 bf16 int:bits=8 int:bits=4 int:bits=2 int:bits=3:group_size=32 int:k.bits=4:v.bits=2
int:bits=4:axis=channel:group_size=32 q8_0 q4_0 q5_1 q5_0 q4_1 iq4_nl
window:budget=64 streaming:sinks=4:budget=64 streaming:sinks=4:budget=0.25 random:budget=64
topk:budget=16 h2o:budget=64 h2o:budget=63 h2o:budget=0.2 h2o:budget=64:prefill_score=mean
h2o:budget=64:decay=0.9 h2o:budget=64:reduce=mean h2o:budget=64:reduce=max
h2o:budget=64:oracle=future kivi:bits=2 kivi:bits=4 kivi:bits=2:group_size=32:residual_length=32
turboquant:bits=4:mode=mse turboquant:bits=2:mode=mse turboquant:bits=3:mode=prod turboquant:bits=2.5
turboquant:bits=3.5 svd:rank=32 svd:rank=24+int:bits=4 snapkv:budget=80:observation_window=32
snapkv:budget=80 quest:budget=64 tova:budget=64 tova:budget=64:when=prefill
knorm:budget=64 keydiff:budget=64
h2o:budget=64+int:bits=4 snapkv:budget=80+kivi:bits=2:residual_length=32:v.where=host snapkv:budget=80+palu+int:bits=4
streaming:sinks=4:budget=80+kivi:bits=4:residual_length=32 window:budget=64+svd:rank=32
h2o:budget=64+kivi:bits=4:residual_length=32
svd:rank=24:keys=unrotated svd:rank=48:span=heads:v.where=host svd:rank=16:keys=unrotated:span=heads+int:bits=8
palu:rank=0.5:group_heads=2 palu:rank=0.25+int:bits=4 xkv:rank=0.25:group_layers=3
xkv:k.rank=32:v.rank=64:group_layers=2 kq-svd:rank=0.25 kq-svd:rank=8+int:bits=8 k.kq-svd:rank=16:keys=unrotated+v.palu:rank=24:group_heads=1
autoencoder:rank=0.5:steps=3
think k.think:ratio=0.7+k.int:bits=8 minicache:start=0.3 minicache:start=1:retain=below gqa
gqa:heads=1:align=procrustes interleave:budget=100 interleave:budget=64:locals=2:global_at=0
layer-share layer-share:shared=0.5:choose=similar+int:bits=4 k.layer-share:shared=3
layer-share:span=heads:choose=similar:shared=3
layer-share:map=0-1-2-3-4-5-6-2-8-5-10-11-12-9-14-15-16-12-18-19-20-21-22-23-24-25-26-27-24-29
mla:fold=4 mla:rank=0.3:rope=128:recent=24+int:bits=8 mla:rank=64+int:bits=3:axis=channel:group_size=32:residual_length=32 h2o:budget=64+mla:rank=96:rope=1.0 quest:budget=96+mla:rank=64
linear-state linear-state:features=elu linear-state:features=elu:sharpness=1:decay=1
linear-state:sharpness=0.5
k.int:bits=2+v.kivi:bits=4 v.svd:rank=16:where=host+v.int:bits=8 svd:rank=16:side=keys int:bits=2:side=values h2o:budget=64+k.kivi:bits=2:residual_length=32
int:bits=4:grid=symmetric int:bits=3:group_size=32:residual_length=40
int:bits=2:grid=symmetric:axis=channel:group_size=32:residual_length=64
fp8 fp8:format=e5m2:scale=head fp8:scale=tensor fp8:scale=token mxfp4 mxfp4:group_size=16:rule=ceil
nvfp4 nvfp4:scale=head nvfp4:rotate=hadamard sign ternary
int:bits=2:outliers=0.05 int:bits=2:rotate=hadamard:center=mean outliers:share=0.02+kivi:bits=2
nvfp4:outliers=0.05 fp8:scale=tensor:outliers=0.01:center=mean:rotate=hadamard:sinks=4 h2o:budget=64+nvfp4:center=mean
gear:keys=unrotated h2o:budget=64+q4_0:keys=unrotated
gear:recent=40:sinks=2 streaming:budget=3 streaming:sinks=6:budget=4+int:bits=4 h2o:budget=1 h2o:budget=2:every=9:sinks=4
v.kivi:bits=2:outliers=0.03 int:bits=2:exact_layers=first9_last3
qjl polar-wu polar-wu:value_bits=4 polar-han polar-han:codebook=online:generated=coded kvquant
polar-han:generated=coded:center=mean:outliers=0.02
kvquant:bits=3:weights=none gear gear:buffer=64+kivi:bits=2:group_size=64 gear:sparsity=0.1:buffer=9+kivi:bits=4:group_size=16
streaming:sinks=4:budget=80+gear:rank=2:sparsity=0+int:bits=2 gear:recent=24+q4_0
""".split()

# Evictors that join parts: how rows are scored, and how layers, heads and chunks share a budget.
METHODS += """
lagkv:budget=64:sinks=4:lag=32 lagkv:budget=200 pyramidkv:budget=96 pyramidkv:budget=80:observation_window=16
pyramidkv:budget=96:layer_budget=pyramid_integer pyramidkv:budget=96:layer_budget=pyramid_kvpress
adakv:budget=64 adakv:budget=64:floor=safeguard adakv:budget=96:floor_percent=0:observation_window=16
knorm:budget=64:pooled_heads=1 snapkv:budget=80:pooled_heads=1:layer_budget=inverted
chunkkv:budget=100 chunkkv:budget=100:shared_heads=0 chunkkv:budget=60 h2o:budget=100:chunk=8:shared_heads=1
criticalkv:budget=80 criticalkv:budget=80:pooled_heads=1
cam:budget=64:draw=expected cam:budget=64:draw=expected:base=streaming:sinks=4:recent_percent=0
cam:budget=80:draw=expected:every=8+kivi:bits=4:residual_length=32
cake:budget=96 cake:budget=64:gamma=0:pooling=max snapkv:budget=160:layer_budget=cake
expected-attention:budget=64 expected-attention:budget=0.2:epsilon=0.02:pooled_heads=1:floor_percent=20
expected-attention:budget=64:covariance=0:value_norm=0 scissorhands:budget=64
scissorhands:budget=64:history_window=64:every_percent=0 h2o:budget=64:every=16
streaming:budget=0.2:positions=cache h2o:budget=48:positions=cache
snapkv:budget=80:pooled_heads=1:positions=cache+kivi:bits=4:residual_length=32
snapkv:budget=80:pooling=max:join=before snapkv:budget=80:votes=max:group=max
""".split()

# Budgets in bytes of a layer and in bits per element, of what is composed; questions that are not known.
METHODS += """
h2o:budget=2.5b h2o:budget=64KiB+int:bits=4 snapkv:budget=6b:observation_window=32 adakv:budget=192KiB
snapkv:budget=5b+kivi:bits=2:residual_length=32 streaming:budget=1b+svd:rank=16 h2o:budget=100B
h2o:budget=96+window:budget=64 window:budget=90+h2o:budget=40 snapkv:budget=80:observation_window=16+quest:budget=64:dense_layers=0
snapkv:budget=70:observation_window=16+tova:budget=40
knorm:budget=64+tova:budget=48:when=prefill h2o:budget=64+scissorhands:budget=48+int:bits=4
snapkv:budget=48:observation_window=16:query=agnostic h2o:budget=0.3:query=agnostic
adakv:budget=48:observation_window=8:query=agnostic+kivi:bits=2:residual_length=32
expected-attention:budget=40:query=agnostic tova:budget=40:query=agnostic snapkv:budget=6b:query=agnostic
cake:budget=48:query=agnostic svd:rank=16:query=agnostic scissorhands:budget=40:query=agnostic
""".split()

# Every query head with rows of its own; prompts in blocks.
METHODS += """
f16:layout=query-heads h2o:budget=64:layout=query-heads snapkv:budget=80:layout=query-heads+int:bits=4
tova:budget=2.5b:layout=query-heads
keydiff:budget=64:prompt_block=128 knorm:budget=72:prompt_block=50:sinks=4:recent=8+int:bits=4
streaming:budget=64:prompt_block=40+kivi:bits=2:residual_length=32
""".split()

# Two caches: the second keeps what the first drops.
METHODS += """
h2o:budget=64+f16+rest+int:bits=2:where=host streaming:budget=40+kivi:bits=4:residual_length=32+rest+int:bits=2:axis=channel:group_size=32
adakv:budget=64+int:bits=4+rest+kivi:bits=2:keys=unrotated:residual_length=64 knorm:budget=64+rest+gear
scissorhands:budget=64+k.int:bits=4+v.svd:rank=16+rest+k.q4_0:recent=9+v.int:bits=2
h2o:budget=64+rest+v.none h2o:budget=64+int:bits=4+rest+k.int:bits=2+v.none:center=mean v.none:recent=40:sinks=4 none
""".split()

# Dropped rows that wait in host memory, some of which are looked up there.
METHODS += """
snapkv:budget=64+f16+rest+quest:budget=64:dense_layers=0+f16:where=host
""".split()

# Of the documents, but of no method list yet: left out where the program does not know them.
LATER = []


def run_program(program, trace, spec, folder):
    """The rows of one spec, or raises with what the program said."""
    out = Path(folder) / "run"
    command = [program, "run", "--trace", trace, "--methods", spec, "--per-layer", "--no-plots",
               "--metrics", "full", "--quiet", "--threads", "1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    table = out / "rows.csv"
    if not table.exists():
        raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[:300]}")
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def value_of(row, column):
    cell = row.get(column, "")
    return float(cell) if cell not in ("", None) else None


LOST = 4                 # floors: answers so near are known as right, but gradients weigh rounding alone
PROBED = {"dkl", "dkl_max", "dkl_seq", "dnll1", "ppl_est"}


def compare_value(column, want, got, floor, expected, moved=None):
    """None when they agree, else a sentence. An empty cell agrees only with an empty one. `moved`: whether
    the value goes so far by itself (asked only when it decides), or None where nothing is on a border."""
    if want is None and got is None:
        return None
    if want is None or got is None:
        return f"oracle {want}, program {'empty' if got is None else got}"
    if want == got:
        return None
    if column in ("wo_error", "residual_error"):
        floor *= expected.get("stretch", 1.0)
    if column in EXACT:
        same = abs(want - got) <= 1e-8 * max(1.0, abs(want))     # %.9g of an exact quotient
    else:
        same = close(column, want, got, floor, expected.get("residual_signal") or 1.0,
                     expected.get("dkl_seq_spread" if column == "dkl_seq" else "dnll1_spread") or 0.0,
                     expected.get("answers", 64)) or (
            column == "error_max" and abs(want - got) <= floor * expected.get("worst_cancelling", 0) * (1 + 2 * want))
    same = same or moved is not None and moved(column, abs(want - got))
    return None if same else f"oracle {want:.9g}, program {got:.9g}, relative {relative(want, got):.1e}"


def relative(want, got):
    return abs(got - want) / abs(want) if want else math.inf


class Report:
    def __init__(self):
        self.passed = self.failed = self.skipped = self.on_border = 0

    def note(self, where, column, problem):
        self.passed += problem is None
        self.failed += problem is not None
        if problem is not None:
            print(f"{where} {column}: {problem}")

    def skip(self, where, reason):
        self.skipped += 1
        print(f"{where}: not compared: {reason}")


def columns_for(spec):
    """Methods that draw random numbers can only agree in what does not depend on them."""
    judged = ["output_error", "dkl", "dkl_seq", "dnll1", "ppl_est", "residual_error", "wo_error",
              "attention_kl", "lost_mass", "key_error", "value_error", "error_max", "dkl_max"]
    if specs.is_random(spec):
        return sorted(EXACT - specs.by_chance(spec))
    return sorted(EXACT) + judged


def on_basis(spec):
    return structure.knows(spec) or structure.finds_basis(spec)


CHOOSING = specs.POLICIES - {"window", "streaming", "full", "random", "interleave"}


def decides(spec):
    """By what f32 knows less well than float64: bases, scores of rows, keys before the rotation, halves of sums."""
    return on_basis(spec) or ":keys=unrotated" in spec or any(
        stage.name in CHOOSING | {"kvquant", "sign", "ternary"} for stage in specs.all_stages(spec))


def floor_of(trace):
    """Of the layer where rounding shows most; computed once."""
    if trace.floor is None:
        trace.floor = max(rounding_floor(layer) for layer in trace.layers.values())
    return trace.floor


def fewest_answers(trace):
    return min(len(layer.q) for layer in trace.layers.values()) * (trace.tokens - trace.prefill_length)


def compare_spec(report, trace, name, spec, want, printed, audit):
    floor = state_floor = floor_of(trace)
    unrest = disturbed.Unrest(lambda: all_rows(trace, spec), want, on_basis(spec)) if decides(spec) else None
    if "positions=cache" in spec:                 # both sides of a product turn in f32
        floor *= 4
    if linear_state.knows(spec):
        sharpness = specs.parse(spec)[0].params.get("sharpness", 0)
        state_floor = max(floor, *(feature_floor(layer, sharpness) for layer in trace.layers.values()))

    for row in printed:
        where = f"{name} {spec} layer {row['layer']}"
        if row["status"] != "ok":
            report.note(where, "status", f"{row['status']}: {row['reason']}")
            continue
        layer = "all" if row["layer"] == "all" else int(row["layer"])
        expected = want[layer] | {"answers": fewest_answers(trace)}
        if linear_state.knows(spec):          # rounding is the answer's, not the exact one's; two rows compete
            expected["answers"], floor = 1, state_floor * (1 + (expected.get("output_error") or 0))
        lost = (expected.get("output_error") or 0) < LOST * floor
        for column in columns_for(spec):
            unknown = expected.get(column) == UNKNOWN
            if column in row and not unknown and not (lost and column in PROBED and expected.get(column)):
                problem = compare_value(column, expected.get(column), value_of(row, column), floor, expected,
                                        unrest and partial(unrest.reaches, layer))
                report.note(where, column, problem)
        for column, problem in distortion_claims(trace, spec, row):
            report.note(where, column, problem)
        if audit:
            print_audit(where, expected, row)
    if unrest:
        report.on_border += unrest.reached


def print_audit(where, expected, row):
    for column in AUDITED:
        want, got = expected.get(column), value_of(row, column)
        if want is not None and got is not None and not close(column, want, got):
            print(f"audit {where} {column}: oracle {want:.6g}, program {got:.6g}")


REFUSED_BY_BOTH = "refused by both"
JOB = {}                 # what every spec of a trace shares: inherited by the fork, never copied


def both_rows(spec):
    """(oracle's rows, program's rows, None), or (None, None, why not)."""
    trace, impossible = JOB["trace"], None
    try:
        specs.check_sides(trace, spec)
        if mla.knows(spec):
            mla.check(trace, spec)
        elif not structure.knows(spec):
            makers.check(trace, spec)
        else:
            structure.check(trace, spec)
    except specs.Unknown as reason:
        return None, None, f"not covered: {reason}"
    except ValueError as reason:                  # the shape does not allow it
        impossible = reason
    with tempfile.TemporaryDirectory() as folder:
        try:
            printed = run_program(JOB["program"], JOB["path"], spec, folder)
        except RuntimeError as error:
            return None, None, str(error)
    if not impossible:
        try:
            return all_rows(trace, spec), printed, None
        except specs.Unknown as reason:
            return None, None, f"not covered: {reason}"
        except ValueError as reason:
            impossible = reason
    refused = all(row["status"] in ("unsupported", "skipped") for row in printed)
    return None, None, REFUSED_BY_BOTH if refused else f"ran, but the oracle has {impossible}"


def compare_trace(report, program, path, methods, audit):
    """Specs are replayed side by side; the report keeps their order."""
    trace, name = read_trace(path), Path(path).stem
    JOB.update(program=program, path=path, trace=trace)
    floor_of(trace)                               # once, before the fork
    for layer in trace.layers.values():
        metrics.exact_logs(replay.empty_answers(trace, layer))
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        results = pool.imap(both_rows, methods)
        for spec, (want, printed, reason) in zip(methods, results):
            if reason is None:
                compare_spec(report, trace, name, spec, want, printed, audit)
            elif reason == REFUSED_BY_BOTH:
                report.note(f"{name} {spec}", "status", None)
            elif reason.startswith("not covered") or (spec in LATER and "unknown method" in reason):
                report.skip(f"{name} {spec}", reason)
            else:
                report.note(f"{name} {spec}", "run", reason)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kvbench", required=True)
    parser.add_argument("--trace", required=True, action="append")
    parser.add_argument("--methods", help="comma separated; default: every method of the oracle")
    parser.add_argument("--audit", action="store_true")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    methods = arguments.methods.split(",") if arguments.methods else METHODS + LATER
    report = Report()
    for path in arguments.trace:
        compare_trace(report, arguments.kvbench, path, methods, arguments.audit)
    if report.on_border:
        print(f"{report.on_border} agree as far as a border lets them")
    if report.skipped:
        print(f"{report.skipped} not compared")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
