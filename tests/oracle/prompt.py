"""Statistics of the prompt that policies ask for, computed once per layer from exact attention."""
import numpy as np

import exact
from budgets import shares_by_preference


def average_pool(values, kernel):
    """Zero padded, the divisor is always the kernel: edges are damped, as torch does it."""
    padded = np.pad(values, kernel // 2)
    return np.convolve(padded, np.ones(kernel) / kernel, mode="valid")


def max_pool(values, kernel):
    padded = np.pad(values, kernel // 2, constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(padded, kernel).max(axis=1)


def pool(values, kernel, kind):
    if len(values) == 0:
        return values
    return (max_pool if kind == "max" else average_pool)(values, kernel)


class Prompt:
    """The first `prompt_length` tokens of a layer; the whole trace, for what looks across layers."""

    def __init__(self, layer, tokens, prompt_length, trace=None):
        self.layer, self.tokens, self.length, self.trace = layer, tokens, prompt_length, trace
        self.positions = trace.positions if trace else np.arange(tokens)
        self.model_layers = trace.model_layers if trace else 1
        self.cached = {}

    def shares(self, policy, budget):
        """layer -> rows, by the preference that the policy's kind has for each layer."""
        preferences, owners = [], [l for l in self.trace.layers.values() if l.owner == l.index]
        for layer in owners:
            peer = type(policy).__new__(type(policy))
            peer.__dict__.update(policy.__dict__)
            peer.prompt, peer.layer = Prompt(layer, self.tokens, self.length, self.trace), layer
            preferences.append(peer.preference(*policy.powers))
        length = self.tokens if policy.by_step else self.length
        rows = shares_by_preference(preferences, budget, policy.judging(), length)
        return {layer.index: count for layer, count in zip(owners, rows)}

    def output_norms(self, head):
        """[prompt] |W_o v|_1, mean over the query heads of the group."""
        dim, values = self.layer.v.shape[2], self.values(head)
        parts = [self.layer.w_o[:, h * dim:(h + 1) * dim] for h in self.query_heads(head)]
        return np.mean([np.abs(values @ part.T).sum(axis=1) for part in parts], axis=0)

    def query_heads(self, head):
        group = self.layer.group
        return range(head * group, (head + 1) * group)

    def weights(self, query_head, count):
        """Exact weights [count, tokens] of the first `count` queries."""
        have = self.cached.get(query_head)
        if have is None or len(have) < count:
            have = exact.noticed(exact.weights_of(self.layer, query_head, np.arange(count)))
            self.cached[query_head] = have
        return have[:count]

    def last_weights(self, query_head, count):
        """Exact weights [count, tokens] of the last `count` queries."""
        key = ("last", query_head, count)
        if key not in self.cached:
            last = np.arange(self.length - count, self.length)
            self.cached[key] = exact.noticed(exact.weights_of(self.layer, query_head, last))
        return self.cached[key]

    def column_sums(self, query_head, count):
        """Of the weights of the first `count` queries; kept with the trace, for many policies ask."""
        known = self.trace.exact if self.trace else {}
        key = ("column sums", self.layer.index, query_head, count)
        if key not in known:
            known[key] = self.weights(query_head, count).sum(axis=0)
        return known[key]

    def keys(self, head):
        return self.layer.k[head, :self.length]

    def values(self, head):
        return self.layer.v[head, :self.length]
