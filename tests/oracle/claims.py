"""Figures of papers that a trace alone can show, recomputed in float64.

    claims.py --trace FILE

H2O: attention sparsity and the power law of accumulated scores (methods-eviction.md T-1, T-2).
KIVI: which axis suits keys and which suits values (methods-quant.md section 6.0, row 4).
"""
import argparse

import numpy as np

import exact
from metrics import ratio
from quantizers import IntChannel, IntToken
from trace_file import read_trace

SMALL_SHARE = 0.01         # H2O section 3.1: an entry below 1 % of its row's largest counts as zero
HEAVY_SHARE = 0.1          # H2O keeps a tenth of the prompt as heavy hitters
KIVI_BITS, KIVI_GROUP = 2, 32


def sparsity(weights):
    """Share of causal entries below 1 % of the largest of their row."""
    causal = np.tri(weights.shape[1], dtype=bool)
    small = weights < SMALL_SHARE * weights.max(axis=2, keepdims=True)
    return float(small[:, causal].mean())


def power_law(scores):
    """(slope, R^2) of log score on log rank over the ranks that hold the scores' bulk."""
    ordered = np.sort(scores)[::-1]
    kept = ordered[ordered > 0]
    x, y = np.log(np.arange(1, len(kept) + 1)), np.log(kept)
    slope, offset = np.polyfit(x, y, 1)
    left = np.sum((y - slope * x - offset) ** 2)
    return slope, 1 - left / np.sum((y - y.mean()) ** 2)


def heavy_overlap(weights, prompt_length):
    """Share of the prompt's heavy hitters, by prompt queries alone, that are heavy by all queries."""
    count = int(HEAVY_SHARE * prompt_length)
    heavy = lambda rows: set(np.argsort(-rows[:, :prompt_length].sum(axis=0))[:count].tolist())
    return np.mean([len(heavy(w[:prompt_length]) & heavy(w)) / count for w in weights])


def decoded(rows, axis):
    """Whole blocks of tokens only, so that both axes see the same rows."""
    rows = rows[:len(rows) // KIVI_GROUP * KIVI_GROUP]
    kind = IntChannel if axis == "channel" else IntToken
    return rows, kind(rows.shape[1], KIVI_BITS, KIVI_GROUP).round_trip(rows)


def axis_errors(heads):
    """Reconstruction error by axis, over all heads of a layer."""
    errors = {}
    for axis in ("token", "channel"):
        pairs = [decoded(rows, axis) for rows in heads]
        errors[axis] = ratio(np.concatenate([b - a for a, b in pairs]),
                             np.concatenate([a for a, _ in pairs]))
    return errors


def value_output_errors(layer, weights):
    """Error of the attention output when only the values are quantized, by axis."""
    errors = {}
    for axis in ("token", "channel"):
        wrong, right = [], []
        for h, rows in enumerate(weights):
            recorded, coded = decoded(layer.v[h // layer.group], axis)
            rows = rows[:len(recorded), :len(recorded)]
            wrong.append(rows @ (coded - recorded))
            right.append(rows @ recorded)
        errors[axis] = ratio(np.stack(wrong), np.stack(right))
    return errors


def layer_claims(trace, layer):
    weights, _ = exact.attention(layer, np.arange(trace.tokens))
    laws = [power_law(w.sum(axis=0)) for w in weights]
    keys, values = axis_errors(layer.k), axis_errors(layer.v)
    outputs = value_output_errors(layer, weights)
    return dict(sparsity=sparsity(weights), slope=np.mean([l[0] for l in laws]),
                fit=np.mean([l[1] for l in laws]),
                overlap=heavy_overlap(weights, trace.prefill_length),
                key_token_over_channel=keys["token"] / keys["channel"],
                value_channel_over_token=values["channel"] / values["token"],
                output_channel_over_token=outputs["channel"] / outputs["token"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trace", required=True)
    trace = read_trace(parser.parse_args().trace)
    rows = {index: layer_claims(trace, layer) for index, layer in trace.layers.items()}
    print("layer", *next(iter(rows.values())))
    for index, row in rows.items():
        print(index, *(f"{value:.4f}" for value in row.values()))


if __name__ == "__main__":
    main()
