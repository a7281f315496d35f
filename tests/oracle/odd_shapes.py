"""Draws traces of odd shapes and specs of odd settings, and compares the program's rows with the oracle's.

    odd_shapes.py --kvbench build/harness/kvbench [--seed N] [--count N] [--methods N] [--specs N] [--keep FOLDER]

Each case is a small trace (synthetic.py) whose dimensions, attributes, type and rows are drawn from the
seed, some of the methods of compare_rows.py (0: all), and some specs drawn from the program's own tables
of parameters. What the oracle does not know must at least not crash: rows, or a refusal with a reason. The
same seed draws the same cases; the last line is `N passed, N failed`.
"""
import argparse
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import compare_rows                      # before numpy, which it keeps to one thread
from compare_rows import METHODS, Report, both_rows, compare_spec, run_program
import numpy as np
import specs
from synthetic import FLAWS, Case, write_trace
from trace_file import read_trace

HEAD_DIMS = (1, 2, 3, 7, 8, 13, 16, 33, 48, 64, 80, 96, 100, 112, 128, 160, 192, 256)


# ---- shapes ----

def chance(rng, share):
    return bool(rng.random() < share)


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def draw_tokens(rng):
    """(tokens, prompt): now and then the shortest there are, or a prompt that leaves one step."""
    most = pick(rng, (24, 24, 24, 48, 48, 96, 300))
    tokens = pick(rng, (2, 3) + tuple(int(rng.integers(6, most)) for _ in range(10)))
    return tokens, pick(rng, (1, tokens - 1, int(rng.integers(1, tokens)), max(1, 2 * tokens // 3)))


def draw_layers(rng):
    layers = pick(rng, (1, 2, 2, 3, 4))
    depth = layers + int(rng.integers(0, 6))
    chosen = sorted(int(i) for i in rng.choice(depth, layers, replace=False))
    return dict(layers=layers, indices=tuple(chosen), model_layers=depth)


def draw_rope(rng, d_k):
    layout = pick(rng, ("none", "half", "interleaved"))
    if d_k < 2:
        layout = "none"
    dims = 0 if d_k % 2 == 0 and chance(rng, 0.5) else 2 * int(rng.integers(1, d_k // 2 + 1)) if d_k > 1 else 0
    return dict(rope_layout=layout, rope_dims=dims, rope_scale=pick(rng, (1.0, 1.0, 1.37)))


def draw_case(rng):
    d_k = pick(rng, HEAD_DIMS)
    kv_heads = int(rng.integers(1, 6 if d_k < 50 else 3))          # joint bases of wide layers take seconds
    group = int(rng.integers(1, 9)) if d_k < 50 and kv_heads < 3 else int(rng.integers(1, 3))
    tokens, prompt = draw_tokens(rng)
    prefix = kv_heads == 1 and chance(rng, 0.15)
    d_v = int(rng.integers(1, d_k + 1)) if prefix else d_k if chance(rng, 0.5) else pick(rng, HEAD_DIMS)
    layers = draw_layers(rng)
    case = dict(tokens=tokens, prefill=prompt, d_k=d_k, d_v=d_v, kv_heads=kv_heads, q_heads=group * kv_heads,
                value_prefix=prefix, dtype=pick(rng, ("f16", "f16", "bf16", "f32")),
                window=pick(rng, (0, 0, 1, 7, 20)), softcap=pick(rng, (0.0, 0.0, 0.0, 15.0)),
                sink_logits=chance(rng, 0.2), scale=pick(rng, (0.0, 0.0, 1.0, 0.07)),
                probes=tokens - prompt > 6 and chance(rng, 0.6), w_o=chance(rng, 0.6), nll=chance(rng, 0.8),
                post_norm=chance(rng, 0.15), flaw=pick(rng, [""] * 6 + list(FLAWS)),
                question=int(rng.integers(1, prompt)) if prompt > 1 and chance(rng, 0.3) else 0,
                shared=layers["layers"] > 1 and not prefix and chance(rng, 0.2),
                first_position=pick(rng, (0, 0, 1000)), step_position=pick(rng, (1, 1, 3)),
                seed=int(rng.integers(1, 10 ** 6)))
    return Case(**case, **layers, **draw_rope(rng, d_k))


def story(case):
    """What differs from the default."""
    return " ".join(f"{name}={value}" for name, value in vars(case).items()
                    if value != getattr(Case, name))


# ---- specs ----

def ask(program, *arguments):
    done = subprocess.run([program, "list", *arguments, "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def tables(program):
    """{kind: {name: [parameter]}} of policies, codecs and the methods that keep no rows."""
    result = {}
    for method in ask(program):
        if method["kind"] in ("policy", "codec", "answer"):
            found = ask(program, method["name"])
            result.setdefault(method["kind"], {})[method["name"]] = [
                parameter for parameter in found["parameters"] if "whole spec" not in parameter["kind"]]
    return result


def draw_number(rng, low, high, real):
    if real:
        return pick(rng, (low, high, round(float(low + (high - low) * rng.random()), 3)))
    near = [low, low + 1, 2, 3, 4, 5, 8, 16, 31, 32, 64]
    return pick(rng, [value for value in near if low <= value <= high])


BUDGETS = (1, 2, 3, 5, 8, 16, 33, 64, 0.1, 0.5, 0.9, "1.0", "30%", "3b", "1KiB", "9000B")


def draw_value(rng, parameter):
    """A legal value of a parameter by its printed range, or None where none is told."""
    name, words = parameter["name"], parameter["range"]
    if "|" in words:
        return pick(rng, words.split("|"))
    if name == "budget":
        return pick(rng, BUDGETS)
    if not re.fullmatch(r"\S+ to \S+", words):
        return pick(rng, (1, 2, 5, 0.25, 0.6)) if "share" in words else None
    low, high = (float(end) for end in words.split(" to "))
    real = "." in words + parameter["default"] or high <= 1 and "1:" not in parameter["meaning"]
    return draw_number(rng, low, high, True) if real else draw_number(rng, int(low), int(high), False)


def draw_stage(rng, name, parameters, share, prefix=""):
    words = [prefix + name]
    for parameter in parameters:
        common = not parameter["kind"].startswith("own")
        wanted = parameter["name"] == "budget" or chance(rng, share / 4 if common else share)
        value = draw_value(rng, parameter) if wanted else None
        if value is not None:
            words.append(f"{parameter['name']}={value}")
    return ":".join(words)


def draw_codecs(rng, codecs):
    if chance(rng, 0.15):
        return "+".join(draw_stage(rng, *pick(rng, list(codecs.items())), 0.4, side) for side in ("k.", "v."))
    outer = draw_stage(rng, *pick(rng, list(codecs.items())), 0.5)
    return outer + "+" + draw_stage(rng, *pick(rng, list(codecs.items())), 0.4) if chance(rng, 0.25) else outer


LAID_OUT = 0.1           # share of the specs that keep rows for each query head


def draw_spec(rng, known):
    parts = []
    if chance(rng, 0.45):
        parts.append(draw_stage(rng, *pick(rng, list(known["policy"].items())), 0.25))
    if not parts or chance(rng, 0.4):
        parts.append(draw_codecs(rng, known["codec"]))
        if chance(rng, 0.1):
            parts[-1] += ":exact_layers=" + pick(rng, ("first1", "last1", "first1_last1"))
    if chance(rng, 0.03):
        parts = [draw_stage(rng, *pick(rng, list(known["answer"].items())), 0.5)]
    return "+".join(parts) + (":layout=query-heads" if chance(rng, LAID_OUT) else "")


# ---- comparison ----

def survived(spec):
    """None, or what is wrong with how the program took a spec that the oracle does not know."""
    job = compare_rows.JOB
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows = run_program(job["program"], job["path"], spec, folder)
        except RuntimeError as error:
            return None if refusal(str(error)) else str(error)
    silent = [row for row in rows if row["status"] != "ok" and not row["reason"]]
    return "no reason" if silent else next((f"{row['status']}: {row['reason']}" for row in rows
                                           if row["status"] in ("failed", "crashed", "timeout")), None)


def refusal(text):
    """A spec that the program cannot read: exit 2, and it says why."""
    return text.startswith("exit 2: kvbench: ")


def ordered_by_rounding(spec, flaw):
    """Rows whose scores are one and the same real number, in another order of sums; keys of whole numbers, which
    turned back lie on borders between codes: x s - s x is 0 in f32, and goes to the lower code, where float64
    leaves 1e-9 of the recorded keys' rounding, of either sign."""
    alike = {"flat": {"keydiff"}, "ties": {"kvquant"}, "tiny": specs.POLICIES - {"window", "streaming", "full", "interleave"}}
    return any(stage.name in alike.get(flaw, ()) for stage in specs.parse(spec))


def odd_rows(spec):
    try:
        want, printed, reason = both_rows(spec)
    except Exception as error:  # pylint: disable=broad-except
        return None, None, f"the oracle itself: {type(error).__name__}: {error}"
    if want and ordered_by_rounding(spec, compare_rows.JOB["flaw"]):
        reason = "not covered: scores that only rounding tells apart"
    if reason and reason.startswith("not covered"):
        reason = survived(spec) or reason
    return want, printed, reason


def compare_case(report, program, path, flaw, chosen):
    trace = read_trace(path)
    compare_rows.JOB.update(program=program, path=str(path), trace=trace, flaw=flaw)
    with multiprocessing.get_context("fork").Pool() as pool:
        for spec, (want, printed, reason) in zip(chosen, pool.imap(odd_rows, chosen)):
            where = f"{path.stem} {spec}"
            if reason is None:
                compare_spec(report, trace, path.stem, spec, want, printed, False)
            elif reason == compare_rows.REFUSED_BY_BOTH:
                report.note(where, "status", None)
            elif reason.startswith("not covered") or refusal(reason):
                report.skip(where, reason)
            else:
                report.note(where, "run", reason)


class Quiet(Report):
    """Skips are many here, and of no interest."""

    def skip(self, where, reason):
        self.skipped += 1


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kvbench", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=5, help="shapes")
    parser.add_argument("--methods", type=int, default=20, help="of compare_rows.py, for each shape; 0: all")
    parser.add_argument("--specs", type=int, default=20, help="drawn from the tables, for each shape")
    parser.add_argument("--keep", help="folder that the traces stay in")
    parser.add_argument("--skips", action="store_true", help="say what was not compared, and why")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    report = Report() if arguments.skips else Quiet()
    known = tables(arguments.kvbench)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(arguments.seed, arguments.seed + arguments.count):
            rng = np.random.default_rng(number)
            case, path = draw_case(rng), folder / f"odd{number}.h5"
            print(f"# {number}: {story(case)}", flush=True)
            write_trace(path, case)
            listed = rng.choice(METHODS, arguments.methods, replace=False) if arguments.methods else METHODS
            drawn = [draw_spec(rng, known) for _ in range(arguments.specs)]
            compare_case(report, arguments.kvbench, path, case.flaw, [str(spec) for spec in listed] + drawn)
            sys.stdout.flush()
    print(f"{report.skipped} not compared")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
