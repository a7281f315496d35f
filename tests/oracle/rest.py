"""Two caches: what the first one drops enters the second, as a reader saw it (interface.md, `rest`).

A row that is handed down has no more precision than a recorded one, for it is charged as such. Answers read
both caches; the policy of the first judges its own rows by the weights of the whole answer. The second cache
is settled, and encodes, right after the first.
"""
import numpy as np

from makers import make_policy
import policies
import specs
from replay import LayerReplay, replay_layers


def knows(spec):
    return "+rest+" in spec


class TwoCaches:
    """One head's; looks like one cache."""

    def __init__(self, first, second):
        self.first, self.second = first, second
        self.keys, self.values = first.keys, first.values

    @property
    def held(self):
        return self.first.held | self.second.held

    @property
    def own(self):
        return self.first.held

    @property
    def banks(self):
        return self.first.banks + self.second.banks

    def append(self, position):
        self.first.append(position)

    def drop(self, positions):
        rows = [bank.read[positions].copy() for bank in self.first.banks]
        self.first.drop(positions)
        for i, position in enumerate(positions):
            self.second.held[position] = True
            for bank, given in zip(self.second.banks, rows):
                bank.take(int(position), given[i])

    def flush(self, at_once):
        self.first.flush(at_once)
        self.second.flush(at_once)

    def coded_mask(self):
        return self.first.coded_mask() | self.second.coded_mask()

    def among(self, first, second):
        return np.where(self.first.held[:, None], first, second)

    def read_keys(self):
        return self.among(self.first.read_keys(), self.second.read_keys())

    def read_values(self):
        return self.among(self.first.read_values(), self.second.read_values())


class RestReplay(LayerReplay):
    def __init__(self, trace, owner, readers, spec):
        self.later_stages = specs.parse(spec.split("+rest+")[1])
        super().__init__(trace, owner, readers, spec)
        self.later_policy = make_policy(self.later_stages, self.prompt, self.count_second)
        self.check_second()
        if self.policy.cache_positions or isinstance(self.policy, policies.Cam):
            raise specs.Unknown("rows that are renumbered or merged, and others handed down")

    def count_second(self, stages, policy, limit):
        raise specs.Unknown("a budget in bytes of the second cache")

    def check_second(self):
        if self.later_policy.cache_positions:
            raise specs.Unknown("rows that are handed down and renumbered")
        self.later_policy.drops = True               # rows come from anywhere

    def enter_prompt(self):
        """The second policy chooses among what the first one dropped."""
        super().enter_prompt()
        handed = [cache.second.held[:self.trace.prefill_length].copy() for cache in self.heads]
        kept = policies.keep_in_turn(self.later_policy.members, handed)
        for cache, before, stays in zip(self.heads, handed, kept):
            cache.second.drop(np.flatnonzero(before & ~stays))

    def enter(self, t):
        super().enter(t)
        held = [np.flatnonzero(cache.second.held) for cache in self.heads]
        for cache, dropped in zip(self.heads, self.later_policy.evict(t, held)):
            cache.second.drop(dropped)

    def parts_of(self, cache):
        return [(cache.first, self.policy), (cache.second, self.later_policy)]

    def select(self, layer, query_head, cache, t, positions, row, held):
        """Each cache's policy among the rows of its own."""
        del held
        reads = np.ones(len(positions), dtype=bool)
        for part, policy in self.parts_of(cache):
            mine = part.held[positions]
            if mine.any():
                chosen = policy.select(layer, query_head, t, positions[mine], row[mine], np.flatnonzero(part.held[:t + 1]))
                reads[mine] = True if chosen is None else chosen
        return reads

    def make_head(self, stages, head):
        return TwoCaches(*(super(RestReplay, self).make_head(part, head) for part in (stages, self.later_stages)))

    def byte_counts(self):
        """Of both; state of the policy follows the first one's rows."""
        heads, policy = self.heads, self.policy
        self.heads = [cache.first for cache in heads]
        total = super().byte_counts()
        self.heads, self.policy = [cache.second for cache in heads], self.later_policy
        for name, count in super().byte_counts().items():
            total[name] += count
        self.heads, self.policy = heads, policy
        return total


def replay_groups(trace, spec):
    return replay_layers(trace, spec, RestReplay)
