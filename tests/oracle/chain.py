"""Policies in a row: hooks run in order, and each sees the rows that those before it left."""
import numpy as np

import policies


class Chain(policies.Policy):
    def __init__(self, prompt, members):
        super().__init__(prompt)
        self.members = members
        self.drops, self.selects, self.observes = (
            any(getattr(member, trait) for member in members) for trait in ("drops", "selects", "observes"))

    @property
    def state_floats(self):
        return sum(p.state_floats for p in self.members if getattr(p, "by_step", True))

    def evict(self, t, held):
        left = held
        for member in self.members:
            left = [np.setdiff1d(of, gone) for of, gone in zip(left, member.evict(t, left))]
        return [np.setdiff1d(of, stays) for of, stays in zip(held, left)]

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
