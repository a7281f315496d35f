"""Recomputes the metrics of one layer from the program's `dump` file and the trace alone.

    from_dump.py --trace FILE --dump FILE --layer N

Nothing of the method is known here: exact attention is recomputed in float64, the answer of the
last step is recomputed from the held keys and values, and bytes from the dump's own classes.
"""
import argparse
import sys

import h5py
import numpy as np

from copies import in_query_heads
import exact
import metrics
import specs
from tolerances import rounding_floor
from trace_file import read_trace, text

WORST = 2                 # of all answers, in units of the expected rounding
BYTE_CLASSES = ("payload_bytes", "metadata_bytes", "residual_bytes", "basis_bytes")   # resident


def read_dump(path):
    with h5py.File(path, "r") as file:
        heads = {int(name): {key: group[key][()].astype(np.float64) for key in group}
                 for name, group in file["head"].items()}
        return dict(output=file["output"][()].astype(np.float64),
                    reference=file["reference"][()].astype(np.float64),
                    queries=file["queries"][()].astype(np.int64), heads=heads,
                    method=text(file.attrs["method"]), turned=bool(file.attrs["turned"]),
                    bytes={name: int(file.attrs[name]) for name in BYTE_CLASSES})


def last_answer(layer, dump, query_head):
    """The answer of the last step, from the rows held after it."""
    t = int(dump["queries"][-1])
    held = dump["heads"][query_head // layer.group]
    seen = held["positions"] >= exact.first_visible(layer, t)
    this = slice(query_head, query_head + 1)
    logits = exact.logits_of(layer, layer.q[this, t], held["keys"][seen])
    return (exact.softmax(logits, exact.sink_logits(layer, this)) @ held["values"][seen])[0]


def check_dump(layer, dump):
    """name -> deviation, in units of the rounding of the largest value."""
    _, outputs = exact.attention(layer, dump["queries"])
    size = float(np.abs(layer.v).max()) * rounding_floor(layer)
    if not holds_rows(dump):
        return dict(reference=float(np.abs(dump["reference"] - outputs).max()) / size)
    last = np.stack([last_answer(layer, dump, h) for h in range(len(layer.q))])
    return dict(reference=float(np.abs(dump["reference"] - outputs).max()) / size,
                last_answer=float(np.abs(dump["output"][:, -1] - last).max()) / size)


def holds_rows(dump):
    """Not where a state of constant size stands for the rows."""
    return any(len(head["positions"]) for head in dump["heads"].values())


def held_rows(layer, dump, side):
    """(decoded, recorded) rows of all heads, `keys` or `values`, one below the other."""
    recorded = layer.k if side == "keys" else layer.v
    decoded = np.concatenate([head[side] for head in dump["heads"].values()])
    exact_rows = np.concatenate([recorded[h][head["positions"].astype(int)]
                                 for h, head in dump["heads"].items()])
    return decoded, exact_rows


def recomputed(layer, dump):
    """The columns that the file and the trace determine."""
    _, outputs = exact.attention(layer, dump["queries"])
    if not holds_rows(dump):
        return dict(output_error=metrics.ratio(dump["output"] - outputs, outputs), key_error=None,
                    value_error=None, kept_tokens=None)
    keys, exact_keys = held_rows(layer, dump, "keys")
    values, exact_values = held_rows(layer, dump, "values")
    return dict(output_error=metrics.ratio(dump["output"] - outputs, outputs),
                key_error=metrics.ratio(keys - exact_keys, exact_keys),
                value_error=metrics.ratio(values - exact_values, exact_values),
                kept_tokens=len(keys) / len(dump["heads"]))


def causal(dump):
    """Held positions are ascending, distinct and not from the future."""
    end = int(dump["queries"][-1])
    return all(np.all(np.diff(head["positions"]) > 0) and np.all(head["positions"] <= end)
               for head in dump["heads"].values())


def last_answer_follows(dump):
    """Not where rows are passed over or merged, read in another space or at another position than the
    file has them in, or encoded after the answer that read them exact."""
    stages = specs.parse(dump["method"])
    chooses = {stage.name for stage in stages} & {"topk", "quest", "cam"}
    chooses = chooses or dump["turned"] or not holds_rows(dump)
    chooses = chooses or any(stage.params.get("positions") == "cache" for stage in stages)
    return not chooses and all(np.all(head["read_from"] <= dump["queries"][-1])
                              for head in dump["heads"].values())


def answers_of(trace, layer, dump):
    """What the probes need; weights are not in the file."""
    if layer.index not in trace.exact:
        trace.exact[layer.index] = exact.attention(layer, dump["queries"])
    return metrics.Answers(layer=layer, times=dump["queries"], exact=trace.exact[layer.index][1],
                           output=dump["output"], exact_weights=None, weights=None, coded=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", required=True)
    parser.add_argument("--dump", required=True)
    parser.add_argument("--layer", required=True, type=int)
    arguments = parser.parse_args()
    dump = read_dump(arguments.dump)
    layer = in_query_heads(read_trace(arguments.trace), dump["method"]).layers[arguments.layer]
    for name, value in {**recomputed(layer, dump), **dump["bytes"]}.items():
        print(f"{name} {value:.9g}")
    found = check_dump(layer, dump)
    verdicts = {"reference": found["reference"] <= WORST, "positions": causal(dump)}
    if last_answer_follows(dump):
        verdicts["last_answer"] = found["last_answer"] <= WORST
    for name, good in verdicts.items():
        print(f"{name} {'ok' if good else 'WRONG'} {found.get(name, '')}")
    print(f"{sum(verdicts.values())} passed, {len(verdicts) - sum(verdicts.values())} failed")
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
