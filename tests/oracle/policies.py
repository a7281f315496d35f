"""Which rows stay, and which are read: one class per policy, one object per layer.

Hooks, in the order of replay.md: keep (after the prefill), then per step evict -> select ->
observe. `select` is asked for every layer that reads the cache, the others for its owner. Positions are token indices; scores are arrays over all tokens, 0 for new ones.
"""
import numpy as np

from prompt import average_pool
from rounding import through_f16


def best(scores, count):
    """Indices of the `count` largest, ties to the earlier one, ascending."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return np.sort(order[:max(0, count)])


def mask_of(indices, length):
    mask = np.zeros(length, dtype=bool)
    mask[indices] = True
    return mask


class Policy:
    """Keeps everything; the base of the others."""
    state_floats = 0
    cache_positions = False           # rows turn to their slots: explicit positions are stored

    def __init__(self, prompt):
        self.prompt, self.layer = prompt, prompt.layer

    def keep(self, head):
        return np.ones(self.prompt.length, dtype=bool)

    def evict(self, head, t, held):
        return []

    def select(self, layer, query_head, t, positions, logits):
        return None                   # read all

    def observe(self, head, t, positions, weights):
        pass

    def own_bytes(self, tokens):
        """Arrays of one KV head beside the per-row state."""
        return 0


class Scored(Policy):
    """Lowest score goes; `sinks` first positions and the newest rows are protected.

    Protected newest rows: the larger of `recent` and `recent_percent` of the budget, rounded down.
    when=prefill acts once; decoded tokens then come on top and stay.
    """
    RECENT = RECENT_PERCENT = 0
    WHEN = "step"

    def __init__(self, prompt, budget, sinks=0, recent=None, recent_percent=None, when=None):
        super().__init__(prompt)
        percent = self.RECENT_PERCENT if recent_percent is None else recent_percent
        newest = self.RECENT if recent is None else recent
        self.budget, self.sinks = budget, sinks
        self.recent = min(budget, max(newest, budget * percent // 100))
        self.by_step = (when or self.WHEN) == "step"

    def scores(self, head):
        raise NotImplementedError

    def keep(self, head):
        length = self.prompt.length
        if length <= self.budget:
            return np.ones(length, dtype=bool)
        scores = np.array(self.scores(head)[:length], dtype=np.float64)
        scores[length - self.recent:] = np.inf
        scores[:self.sinks] = np.inf
        return mask_of(best(scores, self.budget), length)

    def evict(self, head, t, held):
        surplus = len(held) - self.budget
        if surplus <= 0 or not self.by_step:
            return []
        candidates = held[(held <= t - self.recent) & (held >= self.sinks)]
        order = np.lexsort((-candidates, self.scores(head)[candidates]))
        return candidates[order[:surplus]]


class Window(Scored):
    """window, and streaming with sinks: the oldest unprotected row goes."""

    def __init__(self, prompt, budget, positions="recorded", **trim):
        super().__init__(prompt, budget, **trim)
        self.cache_positions = positions == "cache"
        self.age = np.arange(prompt.tokens, dtype=np.float64)

    def scores(self, head):
        return self.age


class Random(Scored):
    """Uniform among the unprotected; the oracle's own stream, so only counts can agree."""
    RECENT_PERCENT = 50

    def __init__(self, prompt, budget, seed=1, **trim):
        super().__init__(prompt, budget, **trim)
        rng = np.random.default_rng([seed, prompt.layer.index])
        self.drawn = rng.random((len(prompt.layer.k), prompt.tokens))

    def scores(self, head):
        return self.drawn[head]


class H2O(Scored):
    """Accumulated softmax weights per KV head (replay.md, `h2o`).

    reduce=max takes the largest of the group's column sums for the prompt and of the group's
    weights at a step, so that one float a row is enough.
    """
    RECENT_PERCENT = 50
    state_floats = 1

    def __init__(self, prompt, budget, prefill_score="sum", decay=1.0, reduce="sum", oracle="none",
                 **trim):
        super().__init__(prompt, budget, **trim)
        self.decay, self.future = decay, oracle == "future"
        self.join = {"sum": np.sum, "mean": np.mean, "max": np.max}[reduce]
        heads = range(len(self.layer.k))
        self.score = np.stack([self.first_scores(head, prefill_score) for head in heads])

    def first_scores(self, head, prefill_score):
        """Column sums over the prompt's queries, or over all (oracle=future)."""
        count = self.prompt.tokens if self.future else self.prompt.length
        rows = [self.prompt.weights(h, count).sum(axis=0) for h in self.prompt.query_heads(head)]
        total = self.join(np.stack(rows), axis=0)
        if prefill_score == "mean":
            total = total / np.maximum(1, count - np.arange(self.prompt.tokens))
        return total

    def scores(self, head):
        return self.score[head]

    def observe(self, head, t, positions, weights):
        """`decay` multiplies before each step's weights are added."""
        if not self.future:
            self.score[head] *= self.decay
            self.score[head, positions] += self.join(weights, axis=0)


class Tova(Scored):
    """The last query's weights, mean over all query heads of the layer: one set for all heads."""
    RECENT = 1

    def __init__(self, prompt, budget, **trim):
        super().__init__(prompt, budget, **trim)
        self.state_floats = 1 if self.by_step else 0
        self.latest, self.gathering, self.time = self.last_query(), None, -1

    def last_query(self):
        last = self.prompt.length - 1
        heads = range(len(self.layer.q))
        return np.mean([self.prompt.weights(h, last + 1)[last] for h in heads], axis=0)

    def scores(self, head):
        return self.latest

    def evict(self, head, t, held):
        """All heads of step t judge by the weights that step t - 1 gave."""
        if t != self.time and self.gathering is not None:
            self.latest, self.gathering = self.gathering, None
        self.time = t
        return super().evict(head, t, held)

    def observe(self, head, t, positions, weights):
        if self.gathering is None:
            self.gathering = np.zeros(self.prompt.tokens)
        self.gathering[positions] += weights.sum(axis=0) / len(self.layer.q)


class KNorm(Scored):
    WHEN = "prefill"

    def scores(self, head):
        return -np.linalg.norm(self.prompt.keys(head), axis=1)


class KeyDiff(Scored):
    """Least like the mean direction stays."""
    WHEN = "prefill"

    def scores(self, head):
        keys = self.prompt.keys(head)
        unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
        anchor = unit.mean(axis=0)
        return -(unit @ anchor) / np.linalg.norm(anchor)


class LagKV(Scored):
    """Spread of each token in the scale of the next partition; ranks inside a partition."""
    WHEN = "prefill"

    def __init__(self, prompt, budget, sinks=4, lag=128, **trim):
        super().__init__(prompt, budget, **trim)
        self.first, self.lag = sinks, lag

    def scores(self, head):
        length, first, lag = self.prompt.length, self.first, self.lag
        if length < first + 2 * lag:
            ramp = np.arange(length - first) / max(1, length - first)
            return np.concatenate([np.ones(min(first, length)), ramp])
        end = first + (length - first) // lag * lag
        spread = sum(self.spread(rows[first:end]) for rows in
                     (self.prompt.keys(head), self.prompt.values(head)))
        ranks = spread.argsort(axis=1, kind="stable").argsort(axis=1) / lag
        return np.concatenate([np.ones(first), ranks.ravel(), np.ones(lag + length - end)])

    def spread(self, rows):
        parts = rows.reshape(-1, self.lag, rows.shape[1])
        here, after = parts[:-1], parts[1:]
        low, high = after.min(axis=1, keepdims=True), after.max(axis=1, keepdims=True)
        deviation = ((here - low) / (high - low)).std(axis=2, ddof=1)
        powers = np.exp(deviation - deviation.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


class SnapKV(Scored):
    """Votes of the observation window, pooled; the window itself is always kept."""
    WHEN = "prefill"

    def __init__(self, prompt, budget, observation_window=64, kernel=5, **trim):
        super().__init__(prompt, budget, **trim)
        self.window, self.kernel = min(observation_window, prompt.length), kernel
        self.recent = min(budget, max(self.recent, self.window))

    def scores(self, head):
        length, window = self.prompt.length, self.window
        votes = []
        for query_head in self.prompt.query_heads(head):
            rows = self.prompt.weights(query_head, length)[length - window:, :length - window]
            votes.append(average_pool(rows.mean(axis=0), self.kernel))
        return np.concatenate([np.mean(votes, axis=0), np.zeros(window)])


class TopK(Policy):
    """Oracle: per query head the n largest logits are read; nothing is evicted."""

    def __init__(self, prompt, budget):
        super().__init__(prompt)
        self.budget = budget

    def select(self, layer, query_head, t, positions, logits):
        return mask_of(best(logits, self.budget), len(positions))


class Quest(Policy):
    """Pages of consecutive positions, judged by the box around their keys; nothing is evicted.

    The newest row's page is always read and counts; the papers' code has no such rule, but no
    answer could do without it. Boxes are kept as halves.
    """

    def __init__(self, prompt, budget, page_size=16, dense_layers=2):
        super().__init__(prompt)
        self.page_size = page_size
        self.pages = max(3, budget // page_size)
        self.dense_layers = dense_layers

    def select(self, layer, query_head, t, positions, logits):
        if layer.index < self.dense_layers:
            return None
        page_of = positions // self.page_size
        scores = np.full(page_of.max() + 1, -np.inf)
        for page in np.unique(page_of):
            scores[page] = self.bound(layer, query_head, t, positions[page_of == page])
        scores[t // self.page_size] = np.inf
        return np.isin(page_of, best(scores, self.pages))

    def bound(self, layer, query_head, t, members):
        """Upper bound of q.k over the page."""
        query = layer.q[query_head, t]
        keys = layer.k[query_head // layer.group][members]
        low, high = through_f16(keys.min(axis=0)), through_f16(keys.max(axis=0))
        return np.maximum(query * low, query * high).sum()

    def own_bytes(self, tokens):
        """Two halves per channel and page."""
        return -(-tokens // self.page_size) * 2 * 2 * self.layer.k.shape[2]
