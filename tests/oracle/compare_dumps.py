"""Recomputes every row of rows.csv from `dump` files and the trace, for any method.

    compare_dumps.py --kvbench build/harness/kvbench --trace FILE [--trace FILE ...] [--methods LIST]

Nothing of a method is known here, so methods with random numbers are judged as well. Per layer: the
program's reference is the oracle's exact attention, the last answer follows from the held rows;
output_error, dkl, dnll1, key_error, value_error, kept rows and bytes equal those of rows.csv.
Prints what disagrees; the last line is `N passed, N failed`.
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from compare_rows import (LATER, METHODS, Report, compare_value, floor_of, run_program, value_of)
from copies import in_query_heads
import from_dump
import metrics
from trace_file import read_trace


def dump_layer(program, path, spec, index, seed, folder):
    out = Path(folder) / f"{index}.h5"
    command = [program, "dump", "--trace", path, "--method", spec, "--layer", str(index),
               "--seed", seed, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not out.exists():
        raise RuntimeError(f"dump of layer {index}: exit {done.returncode}: {done.stderr.strip()[:200]}")
    return from_dump.read_dump(out)


def layer_row(trace, layer, dump, answers):
    """The columns that one dump settles."""
    row = {**from_dump.recomputed(layer, dump), **dump["bytes"],
           **metrics.probe_metrics(trace, {layer.index: answers})}
    return with_bits(row, layer.owner == layer.index and element_count(trace, layer))


def element_count(trace, layer):
    values = 0 if layer.value_is_key_prefix else layer.v.shape[2]
    return len(layer.k) // layer.copies * trace.tokens * (layer.k.shape[2] + values)


def with_bits(row, elements):
    row["resident_bytes"] = sum(row[name] for name in from_dump.BYTE_CLASSES)
    row["bits_per_element"] = 8 * row["resident_bytes"] / elements if elements else None
    return row


def pooled_row(trace, rows, answers):
    owners = [trace.layers[index] for index in rows if trace.layers[index].owner == index]
    pooled = {name: sum(rows[layer.index][name] for layer in owners)
              for name in from_dump.BYTE_CLASSES}
    with_bits(pooled, sum(element_count(trace, layer) for layer in owners))
    for name in ("output_error", "key_error", "value_error"):
        pooled[name] = metrics.mean_over_layers(rows.values(), name)
    pooled["kept_tokens"] = metrics.mean_over_layers([rows[l.index] for l in owners], "kept_tokens")
    return {**pooled, **metrics.probe_metrics(trace, answers)}


def judge_layer(report, where, layer, dump):
    found = from_dump.check_dump(layer, dump)
    names = ["reference"] + ["last_answer"] * from_dump.last_answer_follows(dump)
    for name in names:
        wrong = found[name] > from_dump.WORST
        report.note(where, name, f"{found[name]:.1f} times the expected rounding" if wrong else None)
    report.note(where, "positions", None if from_dump.causal(dump) else "not causal and ascending")


def compare_spec(report, program, path, trace, spec):
    name = f"{Path(path).stem} {spec}"
    with tempfile.TemporaryDirectory() as folder:
        printed = run_program(program, path, spec, folder)
        if printed[0]["status"] != "ok":
            report.skip(name, f"{printed[0]['status']}: {printed[0]['reason']}")
            return
        rows, answers = {}, {}
        trace = in_query_heads(trace, spec)
        for index, layer in trace.layers.items():
            dump = dump_layer(program, path, spec, index, printed[0]["seed"], folder)
            judge_layer(report, f"{name} layer {index}", layer, dump)
            answers[index] = from_dump.answers_of(trace, layer, dump)
            rows[index] = layer_row(trace, layer, dump, answers[index])
    rows["all"] = pooled_row(trace, rows, answers)
    for row in printed:
        key = row["layer"] if row["layer"] == "all" else int(row["layer"])
        if key != "all" and trace.layers[key].owner != key:
            continue                               # it reads another layer's rows, which are judged there
        judge_row(report, f"{name} layer {key}", rows[key], row, floor_of(trace))


def judge_row(report, where, expected, row, floor):
    for column, want in expected.items():
        if column in row and column not in ("dkl_p99",):
            report.note(where, column, compare_value(column, want, value_of(row, column), floor, expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kvbench", required=True)
    parser.add_argument("--trace", required=True, action="append")
    parser.add_argument("--methods")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",") if arguments.methods else METHODS + LATER
    report = Report()
    for path in arguments.trace:
        trace = read_trace(path)
        for spec in methods:
            try:
                compare_spec(report, arguments.kvbench, path, trace, spec)
            except RuntimeError as error:
                why = str(error)
                if spec in LATER and "unknown method" in why:
                    report.skip(f"{Path(path).stem} {spec}", why)
                else:
                    report.note(f"{Path(path).stem} {spec}", "run", str(error))
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
