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


def keep_among(policy, held):
    """[heads] masks of what stays of the held prompt rows. All heads at once: some join scores or budgets."""
    rows = [np.flatnonzero(mask) for mask in held]
    if all(len(of) <= budget for of, budget in zip(rows, policy.budgets)):
        return held
    scores = head_scores(policy, held)
    if policy.parts.pooled_heads:
        policy.budgets = head_budgets(policy, rows, scores)
    return [mask_of(of[keep_rows(policy, of, scores[head], head)], len(held[head])) for head, of in enumerate(rows)]


def head_scores(policy, held):
    """[heads] scores of the held rows; joined ones are sums over the heads that hold a row."""
    known = [np.array(policy.known_scores(head)[:len(mask)], dtype=np.float64) for head, mask in enumerate(held)]
    if policy.parts.shared_heads:
        known = [sum(np.where(mask, of, 0) for mask, of in zip(held, known))] * len(held)
    return [of[mask] for mask, of in zip(held, known)]


def protected_rows(policy, rows, budget):
    """Mask: the first sinks and the newest rows, no more than the budget. Of step-by-step evictors the newest row
    stays whatever the budget."""
    own = int(policy.by_step)
    sinks = min(np.count_nonzero(rows < policy.sinks), max(0, budget - own))
    recent = min(policy.newest(budget), budget - sinks)
    place = np.arange(len(rows))
    return (place < sinks) | (place >= len(rows) - recent)


def head_budgets(policy, rows, scores):
    """AdaKV: the best of all heads together, with a floor for each."""
    alpha, budgets = policy.parts.floor_percent / 100, np.array(policy.budgets)
    shut = [protected_rows(policy, of, budget) for of, budget in zip(rows, budgets)]
    room = budgets - [np.count_nonzero(mask) for mask in shut]
    if (room <= 0).any():
        return policy.budgets
    free = [of[~mask] for mask, of in zip(shut, scores)]
    if policy.parts.floor == "safeguard" and alpha > 0:
        for of, budget, own in zip(free, budgets, room):
            of[best(of, max(1, budget * policy.parts.floor_percent // 100) - (budget - own))] = np.inf
    head_of = np.repeat(np.arange(len(free)), [len(of) for of in free])
    counts = np.bincount(head_of[best(np.concatenate(free), room.sum())], minlength=len(free))
    if policy.parts.floor == "blend":
        exact = counts * (1 - alpha) + alpha * room
        counts = whole_rows(exact, np.floor(exact.sum() + 1e-6))
    return [int(count) for count in budgets - room + counts]


def keep_rows(policy, rows, scores, head, at_once=0):
    """Mask of the held rows that stay; at_once: so many go at least. Equal scores: the earlier row stays."""
    budget, size = policy.budgets[head], policy.parts.chunk
    if len(rows) <= budget:
        return np.ones(len(rows), dtype=bool)
    shut = protected_rows(policy, rows, budget)
    kept = keep_chunks(scores, rows // size, shut, budget // size) if size else None
    if kept is not None:
        return kept
    if policy.parts.output_percent:
        scores = two_stages(policy, rows, scores, shut, head)
    count = max(np.count_nonzero(shut), min(budget, len(rows) - at_once))
    return mask_of(best(np.where(shut, np.inf, scores), count), len(rows))


def keep_chunks(scores, chunk_of, shut, count):
    """ChunkKV: whole chunks of positions by the mean score of their held rows; those of protected rows first. None
    where fewer fit than are protected: rows go one by one."""
    chunks = np.unique(chunk_of)
    means = np.array([np.inf if shut[chunk_of == c].any() else scores[chunk_of == c].mean() for c in chunks])
    if not count or np.isinf(means).sum() > count:
        return None
    return np.isin(chunk_of, chunks[best(means, count)])


def two_stages(policy, rows, scores, shut, head):
    """CriticalKV: part of the budget by score, the rest by (score + 1e-4) |W_o v|_1."""
    first = policy.budgets[head] * (100 - policy.parts.output_percent) // 100 - np.count_nonzero(shut)
    chosen = best(np.where(shut, -np.inf, scores), first)
    scores = (scores + 1e-4) * policy.prompt.output_norms(head)[rows]
    scores[chosen] = np.inf
    return scores
