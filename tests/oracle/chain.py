"""Policies in a row: hooks run in order, and each sees the rows that those before it left."""
import numpy as np

import policies
from budgets import keep_rows


class Chain(policies.Policy):
    def __init__(self, prompt, members):
        super().__init__(prompt)
        self.members = members
        self.kept = {}

    @property
    def state_floats(self):
        return sum(p.state_floats for p in self.members if getattr(p, "by_step", True))

    @property
    def drops(self):
        return any(member.drops for member in self.members)

    def keep(self, head):
        """Scores that look at all heads do so over the rows that each of them holds."""
        if not self.kept:
            heads = range(len(self.layer.k))
            held = [np.ones(self.prompt.length, dtype=bool) for _ in heads]
            for member in self.members:
                member.note_held(held)
                held = [held[h] & keep_among(member, h, held[h]) for h in heads]
            self.kept = dict(enumerate(held))
        return self.kept[head]

    def evict(self, head, t, held):
        dropped = np.array([], dtype=int)
        for member in self.members:
            left = np.setdiff1d(held, dropped)
            dropped = np.union1d(dropped, np.asarray(member.evict(head, t, left), dtype=int))
        return dropped

    def select(self, layer, query_head, t, positions, logits, held):
        for member in self.members:
            reads = member.select(layer, query_head, t, positions, logits, held)
            if reads is not None:
                return reads
        return None

    def observe(self, head, t, positions, weights):
        for member in self.members:
            member.observe(head, t, positions, weights)

    def own_bytes(self, tokens, held=None):
        return sum(member.own_bytes(tokens, held) for member in self.members)


def keep_among(member, head, held):
    """[prompt] mask of what stays of the held rows."""
    rows, kept = np.flatnonzero(held), held.copy()
    if len(rows) == len(held):
        return np.asarray(member.keep(head))
    if not isinstance(member, policies.Scored) or len(rows) <= member.budget:
        return kept
    if member.parts.pooled_heads or member.parts.chunk or member.parts.output_percent:
        raise NotImplementedError("heads or chunks behind another policy")
    scores = np.array(member.known_scores(head)[:len(held)], dtype=np.float64)
    shut = (np.arange(len(rows)) >= len(rows) - member.recent) | (rows < member.sinks)
    kept[:] = False
    kept[rows[keep_rows(member, scores[rows], member.budget, head, shut)]] = True
    return kept
