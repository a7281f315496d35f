"""Scorers by the votes of the last prompt queries (SnapKV and its kin), and by expected ones."""
import numpy as np

from policies import Scored
from prompt import pool
from rotary import pair_columns, turned


class SnapKV(Scored):
    """Votes of the observation window, pooled; the window itself is always kept."""
    WHEN = "prefill"
    WINDOW, KERNEL, POOLING, ORDER, GROUP = 64, 5, "mean", "after", "mean"
    TEMPORAL = 0.0                    # CAKE's gamma: variance over the window's queries

    def __init__(self, prompt, budget, observation_window=None, kernel=None, pooling=None, votes="mean",
                 group=None, join=None, gamma=None, **trim):
        self.window = min(observation_window or self.WINDOW, prompt.length)
        self.kernel, self.pooling = kernel or self.KERNEL, pooling or self.POOLING
        self.votes, self.group, self.order = votes, group or self.GROUP, join or self.ORDER
        self.gamma, self.powers = (self.TEMPORAL if gamma is None else gamma), (1.0, 1.0)
        super().__init__(prompt, budget, **trim)

    def judging(self):
        return self.window

    def scores(self, head):
        """[prompt] votes on the prefix; the window's own entries are never looked at."""
        window = self.window
        join = {"mean": np.mean, "max": np.max}[self.group]
        votes = np.stack([self.head_votes(h) for h in self.prompt.query_heads(head)])
        if self.order == "before":
            scores = pool(join(votes, axis=0), self.kernel, self.pooling)
        else:
            scores = join([pool(row, self.kernel, self.pooling) for row in votes], axis=0)
        return np.concatenate([scores, np.zeros(window)])

    def window_rows(self, query_head):
        length, window = self.prompt.length, self.window
        return self.prompt.last_weights(query_head, window)[:, :length - window]

    def head_votes(self, query_head):
        rows = self.window_rows(query_head)
        summary = {"mean": np.mean, "max": np.max}[self.votes](rows, axis=0)
        if self.gamma:
            summary = summary + self.gamma * (rows.var(axis=0, ddof=1) if len(rows) > 1 else 0.0)
        return summary

    def preference(self, spread_power=1.0, shift_power=1.0):
        """CAKE: dispersion of the window's weights over rows, times their shift over time."""
        entropy = shift = 0.0
        for query_head in range(len(self.layer.q)):
            rows = self.window_rows(query_head)
            entropy -= np.sum(rows * np.log(rows + 1e-10))
            shift += np.sum(rows.var(axis=0, ddof=1)) if len(rows) > 1 else 0.0
        return max(entropy, 0.0) ** spread_power * shift ** shift_power


class PyramidKV(SnapKV):
    PARTS = dict(layer_budget="pyramid")


class AdaKV(SnapKV):
    WINDOW, KERNEL, POOLING, ORDER = 32, 7, "max", "before"
    PARTS = dict(pooled_heads=1, floor_percent=20)


class ChunkKV(SnapKV):
    PARTS = dict(chunk=20, shared_heads=1)


class CriticalKV(SnapKV):
    PARTS = dict(output_percent=50)


class Cake(SnapKV):
    WINDOW, TEMPORAL = 32, 200.0
    PARTS = dict(layer_budget="cake")


class ExpectedAttention(Scored):
    """What queries like the prompt's will give each key: their mean and covariance before rotation,
    turned by the mean rotation of the next `future` positions (arXiv 2510.00636)."""
    WHEN, SINKS = "prefill", 4

    def __init__(self, prompt, budget, future=512, covariance=1, value_norm=1, epsilon=0.0, **trim):
        super().__init__(prompt, budget, **trim)
        self.future, self.covariance = future, covariance
        self.value_norm, self.epsilon = value_norm, epsilon

    def scores(self, head):
        first, length = self.sinks, self.prompt.length
        if first >= length:
            return np.zeros(length)
        keys, values = self.prompt.keys(head)[first:], self.prompt.values(head)[first:]
        expected = np.mean([self.expected(h, keys) for h in self.prompt.query_heads(head)], axis=0)
        if self.value_norm:
            expected = (expected + self.epsilon) * np.linalg.norm(values, axis=1)
        return np.concatenate([np.zeros(first), expected])

    def expected(self, query_head, keys):
        scale, first, length = self.layer.scale, self.sinks, self.prompt.length
        positions = self.prompt.positions[:length]
        queries = turned(self.layer, self.layer.q[query_head, first:length], -positions[first:])
        mean = queries.mean(axis=0)
        rotation = self.mean_rotation(len(mean))
        logits = scale * keys @ (rotation @ mean)
        if self.covariance:
            centered = (queries - mean) @ rotation.T
            logits = logits + scale ** 2 / 2 * np.mean((keys @ centered.T) ** 2, axis=1)
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()

    def mean_rotation(self, dim):
        rotation = np.eye(dim)
        if self.layer.rope_layout == "none":
            return rotation
        next_position = self.prompt.positions[self.prompt.length - 1] + 1
        angles = np.outer(next_position + np.arange(self.future), self.layer.rope_inv_freq)
        first, second = pair_columns(self.layer)
        rotation[first, first] = rotation[second, second] = np.cos(angles).mean(axis=0)
        rotation[first, second] = -np.sin(angles).mean(axis=0)
        rotation[second, first] = np.sin(angles).mean(axis=0)
        return rotation
