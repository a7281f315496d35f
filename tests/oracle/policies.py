"""Which rows stay, and which are read: one class per policy, one object per layer.

Hooks, in the order of replay.md: keep (after the prefill, or after each block of it), then per step evict ->
select -> observe. `keep` and `evict` are asked for all heads at once. `select` is asked for every layer that
reads the cache, the others for its owner; it answers for the visible `positions` among the `held` ones. Positions are token indices; scores are arrays over all tokens,
0 for new ones.
"""
import numpy as np

from budgets import Parts, best, head_scores, keep_among, keep_rows, layer_budget, mask_of
import disturbed
from rounding import through_f16
from tolerances import weight_floor


class Policy:
    """Keeps everything; the base of the others."""
    state_floats = 0
    drops = False                     # rows go: what needs their positions must store them
    selects = observes = False        # answers read some of the rows that are held; weights are looked at
    cache_positions = False           # rows turn to their slots: explicit positions are stored
    prompt_block = 0                  # prompt rows after which it is asked already

    def __init__(self, prompt):
        self.prompt, self.layer, self.members = prompt, prompt.layer, [self]

    def keep(self, held):
        """[heads] masks of the prompt rows that stay of the held ones."""
        return held

    def evict(self, t, held):
        """[heads] positions of the held ones that go."""
        return [[]] * len(held)

    def select(self, layer, query_head, t, positions, logits, held):
        return None                   # read all

    def observe(self, head, t, positions, weights):
        pass

    def merge(self, head, values, held, dropped):
        return {}

    def own_bytes(self, tokens, held=None):
        """Arrays of one KV head beside the per-row state; held: mask of what is held at the end."""
        return 0

    def is_due(self, n):
        """Whether n rows of the prompt are a time to choose."""
        return n == self.prompt.length or bool(self.prompt_block) and n % self.prompt_block == 0


def keep_in_turn(members, held):
    """[heads] masks: every policy sees what those before it left."""
    for member in members:
        held = member.keep(held)
    return held


def keep_prompt(members):
    """[heads] masks of the prompt rows that stay; rows enter one by one, and each policy chooses when it is due."""
    prompt = members[0].prompt
    held = [np.zeros(prompt.length, dtype=bool) for _ in prompt.layer.k]
    for n in range(1, prompt.length + 1):
        for mask in held:
            mask[n - 1] = True
        held = keep_in_turn([member for member in members if member.is_due(n)], held)
    return held


class Scored(Policy):
    """Lowest score goes; `sinks` first positions and the newest rows are protected.

    Protected newest rows: the largest of `recent`, `recent_percent` of the budget, rounded down, and
    the window whose queries judge. when=prefill acts once; decoded tokens then come on top and stay.
    How the layers and heads share a budget, and in which units rows stay, is in budgets.py.
    """
    drops = True
    RECENT = RECENT_PERCENT = SINKS = 0
    WHEN = "step"
    PARTS = {}

    def __init__(self, prompt, budget, sinks=None, recent=None, recent_percent=None, when=None,
                 every=1, every_percent=None, positions="recorded", **parts):
        super().__init__(prompt)
        self.cache_positions = positions == "cache"
        percent = self.RECENT_PERCENT if recent_percent is None else recent_percent
        newest = self.RECENT if recent is None else recent
        self.by_step = (when or self.WHEN) == "step"
        self.parts = Parts(**{**self.PARTS, **parts})
        if self.parts.output_percent and self.layer.w_o is None:
            raise ValueError("the trace has no w_o")
        if self.parts.output_percent and self.by_step:
            raise ValueError("values are weighed in the prompt alone")
        self.budget = layer_budget(self, budget, prompt)
        self.sinks = self.SINKS if sinks is None else sinks
        if self.by_step:                          # an answer reads its own token: replay.md, rule 2
            newest = max(newest, 1)
        self.recent, self.recent_percent = newest, percent
        self.every, self.every_percent = max(1, every), every_percent or 0
        self.prompt_block = self.parts.prompt_block
        self.budgets = [self.budget] * len(self.layer.k)

    def newest(self, budget):
        """Rows that stay for being the newest of so many."""
        return max(self.recent, budget * self.recent_percent // 100, self.judging())

    def judging(self):
        """Newest prompt rows whose queries judge the others."""
        return 0

    def scores(self, head):
        raise NotImplementedError

    def known_scores(self, head):
        return disturbed.scores(self.scores(head), weight_floor(self.layer))

    def keep(self, held):
        return keep_among(self, held)

    def own_bytes(self, tokens, held=None):
        """Heads of unequal length: where each begins and how long it is, 4 bytes each."""
        return 8 * bool(self.parts.pooled_heads)

    def evict(self, t, held):
        if not self.by_step:
            return super().evict(t, held)
        scores = head_scores(self, [mask_of(of, self.prompt.tokens) for of in held])
        return [of[~keep_rows(self, of, scores[head], head, self.at_once(self.budgets[head]))]
                for head, of in enumerate(held)]

    def at_once(self, budget):
        """Rows that go at a step where one must."""
        return max(self.every, budget * self.every_percent // 100)


class Window(Scored):
    """window, and streaming with sinks: the oldest unprotected row goes."""

    def __init__(self, prompt, budget, **trim):
        super().__init__(prompt, budget, **trim)
        self.age = np.arange(prompt.tokens, dtype=np.float64)

    def scores(self, head):
        return self.age


class Interleave(Window):
    """One layer in locals + 1 keeps all, the others a window; depth is the model's."""

    def __init__(self, prompt, budget, locals=5, global_at=None, **trim):
        place = locals if global_at is None else min(global_at, locals)
        whole = prompt.layer.index % (locals + 1) == place
        super().__init__(prompt, prompt.tokens if whole else budget, **trim)


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
    observes = True
    RECENT_PERCENT = 50

    def __init__(self, prompt, budget, prefill_score="sum", decay=1.0, reduce="sum", oracle="none",
                 **trim):
        super().__init__(prompt, budget, **trim)
        self.state_floats = 1 if self.by_step else 0      # what acts once needs no score afterwards
        self.decay, self.future = decay, oracle == "future"
        self.join = {"sum": np.sum, "mean": np.mean, "max": np.max}[reduce]
        heads = range(len(self.layer.k))
        self.score = np.stack([self.first_scores(head, prefill_score) for head in heads])

    def first_scores(self, head, prefill_score):
        """Column sums over the prompt's queries, or over all (oracle=future)."""
        count = self.prompt.tokens if self.future else self.prompt.length
        rows = [self.prompt.column_sums(h, count) for h in self.prompt.query_heads(head)]
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


class Cam(H2O):
    """Rows go as by h2o (or as by streaming); a dropped value is spread over the rows after it."""

    def __init__(self, prompt, budget, base="h2o", merge=16, draw="bernoulli", **trim):
        super().__init__(prompt, budget, **trim)
        if draw != "expected":
            raise ValueError("merging by chance: another generator")
        self.window, self.age = merge, np.arange(prompt.tokens, dtype=np.float64)
        self.by_age = base == "streaming"

    def scores(self, head):
        return self.age if self.by_age else self.score[head]

    def merge(self, head, values, held, dropped):
        """position -> new value, of the rows that stay."""
        stays, changed = np.setdiff1d(held, dropped), {}
        for row in np.sort(np.asarray(dropped, dtype=int)):
            heirs = stays[stays > row][:self.window]
            own, mean = self.score[head, row], self.score[head, heirs].mean() if len(heirs) else 0.0
            known = disturbed.scores(np.array([own]), weight_floor(self.layer))[0]
            share = min(1.0, known / mean) if mean > 0 else float(own > 0)
            for heir in heirs if share > 0 else []:
                start = changed.get(heir, values[heir])
                changed[heir] = disturbed.sums(start + share / len(heirs) * values[row])
        return changed


class Tova(Scored):
    """The last query's weights, mean over all query heads of the layer: one set for all heads."""
    observes = True
    RECENT = 1

    def __init__(self, prompt, budget, **trim):
        super().__init__(prompt, budget, **trim)
        self.state_floats = 1 if self.by_step else 0
        self.latest, self.gathering = self.last_query(), None

    def last_query(self, held=None):
        """A head that does not hold a row (held: [KV heads][prompt]) gives it nothing."""
        last = self.prompt.length - 1
        rows = [self.prompt.last_weights(h, 1)[0] for h in range(len(self.layer.q))]
        for h, row in enumerate(rows if held else []):
            rows[h] = np.where(np.append(held[h // self.layer.group], np.zeros(len(row) - last - 1)), row, 0)
        return np.mean(rows, axis=0)

    def keep(self, held):
        self.latest = self.last_query(held)
        return super().keep(held)

    def scores(self, head):
        return self.latest

    def evict(self, t, held):
        """All heads of step t judge by the weights that step t - 1 gave."""
        if self.gathering is not None:
            self.latest, self.gathering = self.gathering, None
        return super().evict(t, held)

    def observe(self, head, t, positions, weights):
        if self.gathering is None:
            self.gathering = np.zeros(self.prompt.tokens)
        self.gathering[positions] += weights.sum(axis=0) / len(self.layer.q)


class KNorm(Scored):
    WHEN = "prefill"

    def scores(self, head):
        return -np.linalg.norm(self.prompt.keys(head), axis=1)


class KeyDiff(Scored):
    """Least like the mean direction, of the rows that it is shown, stays."""
    WHEN, shown = "prefill", None

    def keep(self, held):
        self.shown = held
        return super().keep(held)

    def scores(self, head):
        keys = self.prompt.keys(head)
        norms = np.linalg.norm(keys, axis=1, keepdims=True)
        unit = np.divide(keys, norms, out=np.zeros_like(keys), where=norms > 0)
        anchor = (unit if self.shown is None else unit[self.shown[head]]).mean(axis=0)
        return -(unit @ anchor) / np.linalg.norm(anchor)


class LagKV(Scored):
    """Spread of each token in the scale of the next partition; ranks inside a partition.

    A channel that is constant over the next partition has no scale: it counts as 0.
    """
    WHEN, SINKS = "prefill", 4

    def __init__(self, prompt, budget, lag=128, **trim):
        super().__init__(prompt, budget, **trim)
        self.first, self.lag = self.sinks, lag

    def scores(self, head):
        length, first, lag = self.prompt.length, self.first, self.lag
        if length < first + 2 * lag:
            ramp = np.arange(max(0, length - first)) / max(1, length - first)
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
        scale = np.where(high > low, high - low, 1.0)
        relative = np.where(high > low, (here - low) / scale, 0.0)
        deviation = relative.std(axis=2, ddof=1) if rows.shape[1] > 1 else relative[:, :, 0] * 0
        powers = np.exp(deviation - deviation.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


class Scissorhands(Scored):
    """In how many of the last `history_window` queries a row was pivotal: above 1 / (t + 1) of the
    weight that query t gave, mean over the group. Half of the budget goes at once.
    """
    observes = True
    RECENT = 10

    def __init__(self, prompt, budget, history_window=400, every_percent=50, **trim):
        super().__init__(prompt, budget, every_percent=every_percent, **trim)
        self.window = history_window
        self.state_floats = -(-history_window // 32) if self.by_step else 0
        heads = range(len(self.layer.k))
        self.pivotal = np.zeros((len(self.layer.k), self.window, prompt.tokens), dtype=bool)
        for head in heads:
            mean = np.mean([prompt.weights(h, prompt.length) for h in prompt.query_heads(head)], axis=0)
            for t in range(max(0, prompt.length - self.window), prompt.length):
                self.pivotal[head, t % self.window] = mean[t] > 1.0 / (t + 1)

    def scores(self, head):
        return self.pivotal[head].sum(axis=0).astype(np.float64)

    def observe(self, head, t, positions, weights):
        row = np.zeros(self.prompt.tokens, dtype=bool)
        row[positions] = weights.mean(axis=0) > 1.0 / (t + 1)
        self.pivotal[head, t % self.window] = row


class TopK(Policy):
    """Oracle: per query head the n largest logits are read; nothing is evicted."""
    selects = True

    def __init__(self, prompt, budget):
        super().__init__(prompt)
        self.budget = budget

    def select(self, layer, query_head, t, positions, logits, held):
        known = disturbed.scores(logits, weight_floor(layer))
        return mask_of(best(known, self.budget), len(positions))


class Quest(Policy):
    """Pages of consecutive positions, judged by the box around their keys; nothing is evicted.

    The newest row's page is always read and counts; the papers' code has no such rule, but no
    answer could do without it. Boxes are kept as halves.
    """
    selects = True

    def __init__(self, prompt, budget, page_size=16, dense_layers=2):
        super().__init__(prompt)
        self.page_size = page_size
        self.pages = max(3, budget // page_size)
        self.dense_layers, self.known = dense_layers, None

    def select(self, layer, query_head, t, positions, logits, held):
        if layer.index < self.dense_layers:
            return None
        page_of = held // self.page_size              # whether a window shows them or not
        scores = np.full(page_of.max() + 1, -np.inf)
        low, high = self.boxes(layer, query_head // layer.group, t, held)
        query = layer.q[query_head, t]
        scores[np.unique(page_of)] = np.maximum(query * low, query * high).sum(axis=1)    # bounds of q.k
        scores = disturbed.scores(scores, weight_floor(layer))
        scores[page_of[-1]] = np.inf
        return mask_of(best(scores, self.pages), len(scores))[positions // self.page_size]

    def boxes(self, layer, head, t, held):
        """[pages][d_k] least and largest of the held keys of each page; a group's heads ask for the same."""
        asked = (layer.index, head, t)
        if self.known is None or self.known[0] != asked:
            first = np.flatnonzero(np.diff(held // self.page_size, prepend=-1))
            keys = layer.k[head][held]
            self.known = asked, [through_f16(of.reduceat(keys, first, axis=0)) for of in (np.minimum, np.maximum)]
        return self.known[1]

    def own_bytes(self, tokens, held=None):
        """Two halves per channel and page in which a row is held."""
        pages = -(-tokens // self.page_size)
        if held is not None:
            pages = len(np.unique(np.flatnonzero(held) // self.page_size))
        return pages * 2 * 2 * self.layer.k.shape[2]
