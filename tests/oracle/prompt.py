"""Statistics of the prompt that policies ask for, computed once per layer from exact attention."""
import numpy as np

import exact


def average_pool(values, kernel):
    """Zero padded, the divisor is always the kernel: edges are damped, as torch does it."""
    padded = np.pad(values, kernel // 2)
    return np.convolve(padded, np.ones(kernel) / kernel, mode="valid")


class Prompt:
    def __init__(self, layer, tokens, prompt_length):
        self.layer, self.tokens, self.length = layer, tokens, prompt_length
        self.cached = {}

    def query_heads(self, head):
        group = self.layer.group
        return range(head * group, (head + 1) * group)

    def weights(self, query_head, count):
        """Exact weights [count, tokens] of the first `count` queries."""
        have = self.cached.get(query_head)
        if have is None or len(have) < count:
            have = exact.weights_of(self.layer, query_head, np.arange(count))
            self.cached[query_head] = have
        return have[:count]

    def keys(self, head):
        return self.layer.k[head, :self.length]

    def values(self, head):
        return self.layer.v[head, :self.length]
