"""What scorers share: how layers and heads divide a budget, and in which units rows stay."""
from dataclasses import dataclass

import numpy as np


def best(scores, count):
    """Indices of the `count` largest, ties to the earlier one, ascending."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return np.sort(order[:max(0, count)])


def mask_of(indices, length):
    mask = np.zeros(length, dtype=bool)
    mask[indices] = True
    return mask


@dataclass
class Parts:
    layer_budget: str = "uniform"
    beta: int = 20
    pooled_heads: int = 0
    floor_percent: int = 0
    floor: str = "blend"
    shared_heads: int = 0
    chunk: int = 0
    output_percent: int = 0
    prompt_block: int = 0


def layer_budget(policy, budget, prompt):
    """Rows of this layer, one at least. The pyramids are PyramidKV's, over the layers of the model."""
    return max(min(budget, 1), rows_of_layer(policy, budget, prompt))


def rows_of_layer(policy, budget, prompt):
    kind, layers, layer = policy.parts.layer_budget, prompt.model_layers, policy.layer.index
    if kind == "uniform" or layers < 2:
        return budget
    if kind == "cake" and not hasattr(policy, "preference"):
        raise ValueError("no layer says how much it needs")
    if kind == "cake":
        return prompt.shares(policy, budget)[layer]
    if kind == "inverted":
        layer = layers - 1 - layer
    length = prompt.tokens if policy.by_step else prompt.length      # decoded rows count against it, too
    window, beta = policy.judging(), policy.parts.beta
    if kind == "pyramid_kvpress":
        return pyramid_of_kvpress(budget, window, length, beta, layer, layers)
    base = budget - window
    if base <= 0 or length < budget or length < 2 * base:
        return budget
    most = min(2 * base - base // beta, length - window)
    least = 2 * base - most
    if kind == "pyramid_integer":
        return most - layer * ((most - least) // (layers - 1)) + window
    return in_pairs(most - layer * (most - least) / (layers - 1), layer, layers) + window


def in_pairs(exact, layer, layers):
    """Rounded so that layers l and L - 1 - l hold exactly twice the mean together."""
    return int(np.floor(exact + 0.5)) if 2 * layer < layers else int(np.ceil(exact - 0.5))


def pyramid_of_kvpress(budget, window, length, beta, layer, layers):
    least = budget / beta
    most = 2 * budget - least
    if most >= length - window:
        most = length - window
        least = 2 * budget - most
    if not length >= most >= least >= window:
        return budget
    return round(most - layer * (most - least) / (layers - 1))


def shares_by_preference(preferences, budget, window, length):
    """CAKE: rows in proportion to preference, none above the prompt, the excess shared again.

    Whole rows by largest remainder; of equal ones the earlier layer's.
    """
    base, room = budget - window, length - window
    if base <= 0 or length <= budget:
        return [budget] * len(preferences)
    preferences = np.asarray(preferences, dtype=np.float64)
    total, rows = float(base * len(preferences)), np.zeros(len(preferences))
    open_layers = np.ones(len(preferences), dtype=bool)
    while True:
        left = total - room * np.count_nonzero(~open_layers)
        weight = preferences[open_layers].sum()
        equal = np.full(len(preferences), left / max(1, np.count_nonzero(open_layers)))
        wanted = left * preferences / weight if weight > 0 else equal
        over = open_layers & (wanted > room)
        if not over.any():
            break
        open_layers &= ~over
    rows = np.where(open_layers, wanted, room)
    return [int(n) + window for n in whole_rows(rows, base * len(preferences))]


def whole_rows(exact, total):
    rows = np.floor(np.asarray(exact) + 1e-9)
    missing = int(round(total - rows.sum()))
    rows[np.lexsort((np.arange(len(rows)), -np.round(exact - rows, 9)))[:missing]] += 1
    return rows.astype(int)


def keep_prompt(policy):
    """[heads][prompt] masks of what stays after the prefill."""
    heads, length = range(len(policy.layer.k)), policy.prompt.length
    if length <= policy.budget:
        return [np.ones(length, dtype=bool)] * len(heads)
    scores = [np.array(policy.known_scores(head)[:length], dtype=np.float64) for head in heads]
    if policy.parts.shared_heads:
        scores = [np.sum(scores, axis=0)] * len(heads)
    budgets = [policy.budget] * len(heads)
    if policy.parts.pooled_heads:
        budgets = head_budgets(policy, scores)
    policy.head_budgets = budgets
    return [keep_rows(policy, scores[head], budgets[head], head) for head in heads]


def keep_in_blocks(policy):
    """[heads][prompt] masks: rows enter a block at a time, and after each the held ones are judged anew."""
    length, block, heads = policy.prompt.length, policy.parts.prompt_block, range(len(policy.layer.k))
    held = [np.zeros(length, dtype=bool) for _ in heads]
    for start in range(0, length, block):
        for mask in held:
            mask[start:start + block] = True
        policy.note_held([mask.copy() for mask in held])
        scores = [np.array(policy.known_scores(head)[:length], dtype=np.float64) for head in heads]
        if policy.parts.shared_heads:
            scores = [np.sum(scores, axis=0)] * len(heads)
        for head in heads:
            rows = np.flatnonzero(held[head])
            if len(rows) > policy.budget:
                shut = (np.arange(len(rows)) >= len(rows) - policy.recent) | (rows < policy.sinks)
                held[head] = mask_of(rows[keep_rows(policy, scores[head][rows], policy.budget, head, shut)], length)
    return held


def protected_rows(policy, length):
    positions = np.arange(length)
    return (positions >= length - policy.recent) | (positions < policy.sinks)


def head_budgets(policy, scores):
    """AdaKV: the best of all heads together, with a floor for each."""
    length, alpha = policy.prompt.length, policy.parts.floor_percent / 100
    shut = protected_rows(policy, length)
    base = policy.budget - np.count_nonzero(shut)
    if base <= 0:
        return [policy.budget] * len(scores)
    free = np.stack([np.where(shut, -np.inf, row) for row in scores])
    if policy.parts.floor == "safeguard" and alpha > 0:
        safe = max(1, policy.budget * policy.parts.floor_percent // 100) - np.count_nonzero(shut)
        for row in free:
            row[best(row, safe)] = np.inf
    taken = mask_of(best(free.ravel(), base * len(scores)), free.size).reshape(free.shape)
    counts = taken.sum(axis=1)
    if policy.parts.floor == "blend":
        counts = whole_rows(counts * (1 - alpha) + alpha * base, base * len(scores))
    return [int(count) + policy.budget - base for count in counts]


def keep_rows(policy, scores, budget, head, shut=None):
    """shut: protected rows, where the scores are not those of the whole prompt."""
    length = len(scores)
    shut = protected_rows(policy, length) if shut is None else shut
    if policy.parts.chunk:
        kept = keep_chunks(scores, shut, budget, policy.parts.chunk)
        if kept is not None:
            return kept
    if policy.parts.output_percent:
        scores = two_stages(policy, scores, budget, shut, head)
    scores = np.where(shut, np.inf, scores)
    if np.count_nonzero(shut) > budget:          # oldest of the recent rows go, then the latest sinks
        scores = np.where(shut, np.arange(length), -np.inf)
        scores[:policy.sinks] = 2.0 * length - np.arange(min(policy.sinks, length))
        if policy.by_step:                       # the newest row as ever
            scores[-1] = np.inf
    return mask_of(best(scores, budget), length)


def keep_chunks(scores, shut, budget, chunk):
    """ChunkKV: whole chunks by mean score; those of protected rows first."""
    count = -(-len(scores) // chunk)
    members = [slice(c * chunk, (c + 1) * chunk) for c in range(count)]
    means = [np.inf if shut[m].any() else scores[m].mean() for m in members]
    if np.isinf(means).sum() > budget // chunk or budget < chunk:
        return None
    kept = np.zeros(len(scores), dtype=bool)
    for c in best(means, budget // chunk):
        kept[members[c]] = True
    return kept


def two_stages(policy, scores, budget, shut, head):
    """CriticalKV: part of the budget by score, the rest by (score + 1e-4) |W_o v|_1."""
    first = budget * (100 - policy.parts.output_percent) // 100 - np.count_nonzero(shut)
    chosen = best(np.where(shut, -np.inf, scores), first)
    scores = (scores + 1e-4) * policy.prompt.output_norms(head)
    scores[chosen] = np.inf
    return scores
