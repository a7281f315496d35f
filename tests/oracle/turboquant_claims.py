"""What must hold of TurboQuant whatever rotation is drawn (methods-quant.md section 3.6).

The program's rotation comes from its own generator, so rows cannot agree. The squared error of
decoded rows must lie where the oracle's own rotations put it on the same rows: near D(d, bits) on
noise, but on a trace one draw for all heads meets few directions and may lie some percent off.
"""
import numpy as np

from makers import make_chain
import specs

DRAWS, APPEAL = 16, 100
DEVIATIONS, MARGIN = 6.0, 0.03       # of the draws; and of the value
TAIL = 1.5                           # beyond the most extreme draw of an appeal


TIERS = {"keys", "sinks", "recent", "exact_layers", "span"}       # rows of other errors


def squared_error(rows_of_heads, stage, side, columns, seed):
    """Over all heads of a layer, one rotation for all of them; of the first columns of each row."""
    top = bottom = 0.0
    for rows, prompt_length in rows_of_heads:
        codec = make_chain([with_seed(stage, seed)], rows.shape[1], side, keep_seed=True)
        codec.fit(rows[:prompt_length])
        top += np.sum((codec.round_trip(rows) - rows)[:, :columns] ** 2)
        bottom += np.sum(rows[:, :columns] ** 2)
    return top / bottom


def with_seed(stage, seed):
    return specs.Stage(stage.name, {**stage.params, "seed": seed})


def layer_problem(trace, layer, stage, side, printed):
    """Where outlier channels leave few columns beside them, one direction in some hundred meets an end
    of the codebook and has twice the error: only many draws show that tail."""
    columns = (layer.k if side == "k" else layer.v).shape[2]
    if layer.value_is_key_prefix:                     # values are read from the keys
        side = "k"
    tensor = layer.k if side == "k" else layer.v
    heads = [(rows, trace.prefill_length) for rows in tensor]
    draws = [squared_error(heads, stage, side, columns, seed) for seed in range(DRAWS)]
    mean, spread = np.mean(draws), np.std(draws, ddof=1)
    if abs(printed ** 2 - mean) <= DEVIATIONS * spread + MARGIN * mean:
        return None
    draws += [squared_error(heads, stage, side, columns, seed) for seed in range(DRAWS, APPEAL)]
    if min(draws) / TAIL <= printed ** 2 <= max(draws) * TAIL:
        return None
    return f"squared {printed ** 2:.4g}, own rotations {mean:.4g} +- {spread:.2g}, up to {max(draws):.4g}"


def distortion_claims(trace, spec, row):
    """[(column, problem or None)] for a lone turboquant stage, layer by layer."""
    stages = specs.parse(spec)
    if len(stages) != 1 or stages[0].name != "turboquant" or TIERS & set(stages[0].params) or row["layer"] == "all":
        return []
    layer = trace.layers[int(row["layer"])]
    if layer.owner != layer.index:
        return []
    return [(column, layer_problem(trace, layer, stages[0], side, float(row[column])))
            for column, side in (("key_error", "k"), ("value_error", "v")) if row[column] and side in stages[0].side]
