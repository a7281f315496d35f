"""linear-state: attention without softmax over a state of constant size, by its equations.

S_t = g S_{t-1} + phi(k_t) v_t^T, z_t = g z_{t-1} + phi(k_t), o_t = phi(q_t) S_t / (phi(q_t) . z_t).
A head's sharpness (of what enters phi) and decay g are those of a grid that answer the prompt's last
queries best.
"""
import numpy as np

import exact
from exact import query_heads
from replay import empty_answers, replay_layers
import specs

SHARPNESS = (0.25, 0.5, 1.0, 2.0)
DECAYS = (1.0,) + tuple(1 - 2.0 ** -k for k in range(8, 1, -1))
FITTED_QUERIES = 32


def exponential(x):
    """What exact.LOWEST is of, too: where no feature is left, nothing answers."""
    return np.where(x < np.log(exact.LOWEST), 0.0, np.exp(x))


def features(x, kind, sharpness):
    y = sharpness * x
    if kind == "elu":
        return np.where(y > 0, y + 1, exponential(np.minimum(y, 0)))
    up, down = (exponential(s * y - (s * y).max(axis=-1, keepdims=True)) for s in (1, -1))
    return np.concatenate([part / part.sum(axis=-1, keepdims=True) for part in (up, down)], axis=-1)


def answers(queries, keys, values, times, kind, sharpness, decay):
    """[group, n, d_v]: of the queries at `times`, by the sums written out."""
    similar = features(queries, kind, sharpness) @ features(keys, kind, sharpness).T
    age = np.asarray(times)[:, None] - np.arange(len(keys))
    weights = similar * np.where(age >= 0, decay ** np.maximum(age, 0), 0)
    total = weights.sum(axis=-1, keepdims=True)
    return weights @ values / np.where(total > 0, total, 1)


class StateReplay:
    """A layer that keeps a state for each head, and the layers that read it."""

    def __init__(self, trace, owner, readers, spec):
        self.trace, self.owner, self.layers = trace, owner, [owner] + readers
        self.prompt_length, params = specs.without_question(trace, spec).prefill_length, specs.parse(spec)[0].params
        self.kind = params.get("features", "hedgehog")
        self.sharpness, self.decay = params.get("sharpness", 0), params.get("decay", 0)
        self.heads = []

    def run(self):
        found = {layer.index: empty_answers(self.trace, layer) for layer in self.layers}
        for head in range(len(self.owner.k)):
            setting = self.fitted(head)
            for layer in self.layers:
                group = query_heads(layer, head)
                found[layer.index].output[group] = answers(
                    layer.q[group][:, self.trace.steps], self.owner.k[head], self.owner.v[head],
                    self.trace.steps, self.kind, *setting)
        return found

    def fitted(self, head):
        """The first of the best but for rounding; what is given is not searched for."""
        n = self.prompt_length
        times = np.arange(max(0, n - FITTED_QUERIES), n)
        group, keys, values = query_heads(self.owner, head), self.owner.k[head][:n], self.owner.v[head][:n]
        queries = self.owner.q[group][:, times]
        target = exact.attention(self.owner, times)[1][group]
        best = None
        for sharpness in (self.sharpness,) if self.sharpness else SHARPNESS:
            for decay in (self.decay,) if self.decay else DECAYS:
                got = answers(queries, keys, values, times, self.kind, sharpness, decay)
                error = np.sum((got - target) ** 2)
                if best is None or error < best[0] * (1 - 1e-12) - 1e-24 * np.sum(target ** 2):
                    best = (error, sharpness, decay)
        return best[1:]

    def byte_counts(self):
        count = (1 if self.kind == "elu" else 2) * self.owner.k.shape[2]
        heads = len(self.owner.k)
        total = dict(payload=4 * heads * count * self.owner.v.shape[2], metadata=4 * heads * count,
                     residual=0, basis=4 * heads * ((not self.sharpness) + (not self.decay)))
        total["resident"] = sum(total.values())
        return {**total, "key": total["resident"], "value": 0, "joint": True}

    def host_read_bytes(self):
        return 0

    def side_error(self, side):
        """No row is left to compare."""


def knows(spec):
    return specs.parse(spec)[0].name == "linear-state"


def replay_groups(trace, spec):
    return replay_layers(trace, spec, StateReplay)
