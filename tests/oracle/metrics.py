"""The errors of replay.md and the diagnostics beside them, from exact and compressed answers."""
from dataclasses import dataclass, field
from functools import cached_property, wraps

import numpy as np


@dataclass
class Answers:
    """What one layer's replay left behind, over its scored queries."""
    layer: object
    times: np.ndarray         # [S]
    exact: np.ndarray         # [q_heads, S, d_v]
    output: np.ndarray        # [q_heads, S, d_v]
    exact_weights: np.ndarray # [q_heads, S, T]
    weights: np.ndarray       # [q_heads, S, T], 0 where a row was not read
    coded: np.ndarray         # [kv_heads, S, T] rows that compression changed
    held: np.ndarray = None   # [kv_heads, S, T] rows held when the query was answered
    known: dict = field(default_factory=dict)     # what follows from the exact answers alone: the same for every spec

    @property
    def delta(self):
        return self.output - self.exact

    @cached_property
    def projected_delta(self):
        return projected(self.layer, self.delta)         # asked for when all is answered


def once(function):
    """Of the exact answers alone."""
    @wraps(function)
    def of(answers):
        if function not in answers.known:
            answers.known[function] = function(answers)
        return answers.known[function]
    return of


def ratio(difference, reference):
    """sqrt of a ratio of sums: large entries count as they should, none explodes. Nothing of nothing is
    right; something of nothing has no ratio."""
    bottom = np.sum(reference ** 2)
    top = np.sum(difference ** 2)
    return float(np.sqrt(top / bottom)) if bottom > 0 else (0.0 if top == 0 else None)


def output_error(answers):
    return ratio(answers.delta, answers.exact)


def per_query_ratios(answers):
    """The same of every query, those without a ratio left out."""
    top = np.linalg.norm(answers.delta, axis=2).ravel()
    bottom = np.linalg.norm(answers.exact, axis=2).ravel()
    known = (bottom > 0) | (top == 0)
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)[known]


@once
def worst_cancelling(answers):
    """By how much the values of one query's answer are longer, at most, than their sum: what rounding of that
    answer, and of a ratio over it, grows by."""
    lengths = np.linalg.norm(answers.layer.v, axis=2)
    bottom = np.linalg.norm(answers.exact, axis=2)
    whole = np.stack([w @ lengths[h // answers.layer.group] for h, w in enumerate(answers.exact_weights)])
    return float(np.divide(whole, bottom, out=np.ones_like(whole), where=bottom > 0).max(initial=1.0))


def projected(layer, outputs):
    """W_o applied to [q_heads, S, d_v], heads major: [S, hidden]."""
    joined = np.moveaxis(outputs, 0, 1).reshape(outputs.shape[1], -1)
    return joined @ layer.w_o.T


@once
def projected_exact(answers):
    return projected(answers.layer, answers.exact)


def wo_error(answers):
    layer = answers.layer
    if layer.w_o is None:
        return None
    return ratio(answers.projected_delta, projected_exact(answers))


@once
def stretch(answers):
    """By how much more than the exact answer W_o may lengthen rounding, which points anywhere."""
    layer = answers.layer
    if layer.w_o is None:
        return 1.0
    length = np.linalg.norm(projected_exact(answers))
    return float(np.linalg.norm(layer.w_o, 2) * np.linalg.norm(answers.exact) / length) if length else 1.0


def residual_error(answers):
    """Per token over the squared norm of the stream; empty where a norm follows w_o."""
    layer = answers.layer
    if layer.w_o is None or layer.x2 is None or layer.attn_post_norm:
        return None
    change = np.sum(answers.projected_delta ** 2, axis=1)
    return float(np.mean(change / layer.x2[answers.times]))


def residual_signal(answers):
    """What residual_error would be were the whole output wrong: the scale of its rounding."""
    layer = answers.layer
    if layer.w_o is None or layer.x2 is None or layer.attn_post_norm:
        return None
    whole = np.sum(projected_exact(answers) ** 2, axis=1)
    return float(np.mean(whole / layer.x2[answers.times]))


def with_sink(weights, layer):
    """Appends the sink's share, so that a row is a distribution again."""
    if layer.sink_logits is None:
        return weights
    rest = 1.0 - weights.sum(axis=2, keepdims=True)
    return np.concatenate([weights, np.maximum(rest, 0.0)], axis=2)


def attention_kl(answers):
    """KL(compressed || exact): this way round it stays finite when rows are dropped; an answer that reads nothing
    is no distribution, and infinitely far."""
    got = with_sink(answers.weights, answers.layer)
    read = got > 0
    terms = np.zeros_like(got)
    terms[read] = got[read] * (np.log(got[read]) - exact_logs(answers)[read])
    return float(np.where(read.any(axis=2), terms.sum(axis=2), np.inf).mean())


@once
def exact_logs(answers):
    with np.errstate(divide="ignore"):
        return np.log(with_sink(answers.exact_weights, answers.layer))


def lost_mass(answers):
    """Mean exact mass on rows that the answer did not read: dropped, or held and passed over."""
    return float(np.where(answers.weights > 0, 0.0, answers.exact_weights).sum(axis=2).mean())


def mass_drift(answers):
    """Signed: mass that compressed rows gained over their exact share."""
    coded = np.repeat(answers.coded, answers.layer.group, axis=0)
    gain = np.where(coded, answers.weights - answers.exact_weights, 0.0)
    return float(gain.sum(axis=2).mean())


def probe_products(gradients, answers, tokens):
    """<g, delta> per window token; gradients [..., q_heads, W, d_v] -> [..., W]."""
    columns = np.searchsorted(answers.times, tokens)
    return np.einsum("...hwd,hwd->...w", gradients, answers.delta[:, columns])


def probe_metrics(trace, per_layer):
    """dkl and its kin over the given layers together: products add up before the square."""
    probes = trace.probes
    if probes is None:
        return {}
    tokens = probes.tokens
    result = {}
    if all(index in probes.fisher for index in per_layer):
        products = sum(probe_products(probes.fisher[i], a, tokens) for i, a in per_layer.items())
        by_token = 0.5 * np.mean(products ** 2, axis=0)
        result.update(dkl=float(by_token.mean()), dkl_max=float(by_token.max()),
                      dkl_p99=float(np.quantile(by_token, 0.99)),
                      dkl_seq=sequence_form(probes.windows, products))
        result["dkl_seq_spread"] = 2 * np.sqrt(result["dkl_seq"] * result["dkl"])
    if all(index in probes.label for index in per_layer):
        products = sum(probe_products(probes.label[i], a, tokens) for i, a in per_layer.items())
        result["dnll1"] = float(products.mean())
        result["dnll1_spread"] = float(np.sqrt(np.mean(products ** 2) / products.size))
    if "dkl" in result and "dnll1" in result and trace.nll is not None:
        targets = float(trace.nll[tokens + 1].mean())
        result["ppl_est"] = float(np.exp(targets + result["dnll1"] + result["dkl"]))
    return result


def sequence_form(windows, products):
    """dkl_seq: summed over a window before the square; unbiased and far noisier."""
    ends = np.cumsum([hi - lo for lo, hi in windows])
    sums = [part.sum(axis=1) for part in np.split(products, ends[:-1], axis=1)]
    return float(0.5 * sum(np.mean(s ** 2) for s in sums) / products.shape[1])


def layer_metrics(answers):
    """Everything that is defined for one layer by itself."""
    ratios = per_query_ratios(answers)
    p50, p95, p99, largest = np.quantile(ratios, [0.5, 0.95, 0.99, 1]) if len(ratios) else [np.nan] * 4
    return dict(output_error=output_error(answers), wo_error=wo_error(answers),
                residual_error=residual_error(answers),
                residual_signal=residual_signal(answers), attention_kl=attention_kl(answers),
                lost_mass=lost_mass(answers), mass_drift=mass_drift(answers),
                error_p50=float(p50), error_p95=float(p95), error_p99=float(p99),
                stretch=stretch(answers), worst_cancelling=worst_cancelling(answers), error_max=float(largest) if len(ratios) else None)


def mean_over_layers(rows, name):
    """The pooled value; empty as soon as one layer lacks it, never a substitute."""
    values = [row.get(name) for row in rows]
    return None if any(v is None for v in values) else float(np.mean(values))
