"""The order of events of replay.md, one layer at a time, one token at a time, in float64."""
import numpy as np

import exact
from cache import Bank, HeadCache, UnrotatedBank, by_place
from exact import query_heads
from makers import make_codec, make_policy
from metrics import Answers
from prompt import Prompt
from rotary import turned
from rounding import through_bf16
import policies
import specs
import stored


class LayerReplay:
    """A layer that owns K and V, with the layers that read them from it."""
    host_reads = 0                                # bytes, of all steps

    def __init__(self, trace, owner, readers, spec):
        self.owner, self.readers = owner, readers
        self.layers = [owner] + readers
        self.answers = {layer.index: empty_answers(trace, layer) for layer in self.layers}
        self.trace = trace = specs.without_question(trace, spec)
        self.prompt = Prompt(owner, trace.tokens, trace.prefill_length, trace)
        stages = [] if specs.leaves_exact(spec, owner.index, trace.model_layers) else specs.parse(spec)
        self.policy = make_policy(stages, self.prompt, self.count_bytes)
        self.heads = [self.make_head(stages, h) for h in range(len(owner.k))]

    def count_bytes(self, stages, policy, limit):
        """Rows that a head's share of a budget in bytes comes to."""
        banks = []
        for rows, side in ((self.owner.k[0], "k"), (self.owner.v[0], "v")):
            codec = make_codec(stages, rows.shape[1], side, self.owner.element_bytes)
            codec.bind(self.trace, self.owner, 0, side)
            codec.fit(rows[:self.trace.prefill_length])
            if codec.later or codec.bytes_of:
                raise specs.Unknown("a budget in bytes of a codec in two parts")
            banks.append(stored.Counted(codec, rows, self.owner.element_bytes * rows.shape[1]))
        banks = banks[:1] if self.owner.value_is_key_prefix else banks
        return stored.rows_within(limit, banks, policy, self.trace.tokens, self.trace.prefill_length)

    def make_head(self, stages, head):
        prefix = self.owner.v.shape[2] if self.owner.value_is_key_prefix else 0
        return HeadCache(*(self.make_bank_of(stages, head, side) for side in "kv"), self.trace.tokens, prefix)

    def make_bank_of(self, stages, head, side):
        owner = self.owner
        rows = (owner.k if side == "k" else owner.v)[head]
        within = side == "v" and owner.value_is_key_prefix            # no rows of their own
        recorded = "bf16" if owner.stored is through_bf16 else "f16"
        codec = make_codec([] if within else stages, rows.shape[1], side, owner.element_bytes, recorded)
        codec.bind(self.trace, owner, head, side)
        return self.make_bank(codec, rows)

    def make_bank(self, codec, rows):
        exact, prompt = self.owner.element_bytes * rows.shape[1], self.trace.prefill_length
        if codec.unrotated:
            return UnrotatedBank(codec, rows, exact, prompt, self.owner.stored, self.owner, self.trace.positions)
        return Bank(codec, rows, exact, prompt, self.owner.stored)

    def run(self):
        return run_together([self])[0]

    def fit_bank(self, head, bank):
        bank.codec.fit(bank.recorded[:self.trace.prefill_length])

    def enter_prompt(self):
        """Bases see all prompt rows; then the policy keeps; then (run_together) the codec encodes."""
        for head, cache in enumerate(self.heads):
            for bank in cache.banks:
                self.fit_bank(head, bank)
            for position in range(self.trace.prefill_length):
                cache.append(position)
        for cache, stays in zip(self.heads, policies.keep_prompt(self.policy.members)):
            cache.drop(np.flatnonzero(~stays))

    def enter(self, t):
        for cache in self.heads:
            cache.append(t)
        held = [np.flatnonzero(cache.own) for cache in self.heads]
        for head, (cache, dropped) in enumerate(zip(self.heads, self.policy.evict(t, held))):
            merged = self.policy.merge(head, cache.read_values(), held[head], dropped)
            cache.drop(dropped)
            for position, value in merged.items():
                cache.values.edit(int(position), value)

    def answer_all(self, t):
        step = t - int(self.answers[self.owner.index].times[0])
        for head, cache in enumerate(self.heads):
            self.answer(head, cache, step, t)

    def answer(self, head, cache, step, t):
        """Every layer that reads this cache is answered; only the owner's weights are observed. Steps
        below 0 belong to a question that was not known: nobody judges their answers."""
        for layer in self.layers:
            answers = self.answers[layer.index]
            first = exact.first_visible(layer, t)
            positions = first + np.flatnonzero(cache.held[first:t + 1])
            self.looked_at = np.zeros(len(positions), dtype=bool)
            weights = self.weights(layer, head, cache, positions, t)
            group = query_heads(layer, head)
            if step >= 0:
                here = span_of(positions)
                answers.output[group, step] = weights @ cache.read_values()[here]
                answers.weights[group, step, here] = weights
                answers.held[head, step] = cache.held
                answers.coded[head, step] = cache.coded_mask()
            if layer is self.owner:
                self.count_host_reads(cache, positions[self.looked_at], t)
            if layer is self.owner and self.policy.observes:
                own = cache.own[positions]
                self.policy.observe(head, t, positions[own], exact.noticed(weights)[:, own])

    def weights(self, layer, head, cache, positions, t):
        """[group, n] softmax over the held, visible and read rows."""
        group = query_heads(layer, head)
        if not len(positions):                            # nothing held is visible
            return np.zeros((layer.group, 0))
        logits = self.logits(layer, group, cache, positions, t)
        selects = any(policy.selects for _, policy in self.parts_of(cache))
        held = np.flatnonzero(cache.held[:t + 1]) if selects else None
        for row, query_head in zip(logits, range(group.start, group.stop) if selects else ()):
            reads = self.select(layer, query_head, cache, t, positions, row, held)
            if reads is not None:
                row[~reads] = -np.inf
            self.looked_at |= True if reads is None else reads
        return exact.softmax(logits, exact.sink_logits(layer, group))

    def logits(self, layer, group, cache, positions, t):
        queries, keys = layer.q[group, t], cache.read_keys()[span_of(positions)]
        if self.policy.cache_positions:
            queries, keys = self.in_slots(layer, cache, queries, keys, positions, t)
        return exact.logits_of(layer, queries, keys)

    def select(self, layer, query_head, cache, t, positions, row, held):
        """Which rows a query reads, or None: all."""
        return self.policy.select(layer, query_head, t, positions, row, held)

    def count_host_reads(self, cache, read, t):
        """Of a cache that does not select all it holds, whether a window shows it or not."""
        for part, policy in self.parts_of(cache):
            if not any(bank.codec.host for bank in part.banks):
                continue
            mine = read[part.held[read]] if policy.selects else np.flatnonzero(part.held[:t + 1])
            self.host_reads += sum(bank.touched(mine) for bank in part.banks if bank.codec.host)

    def parts_of(self, cache):
        return [(cache, self.policy)]

    def host_read_bytes(self):
        """A step, or None: which rows behind a window are read is not told."""
        known = not (self.owner.window and any(policy.selects for _, policy in self.parts_of(self.heads[0])))
        return self.host_reads / len(self.trace.steps) if known else None

    def in_slots(self, layer, cache, queries, keys, positions, t):
        """positions=cache: rows turn from their recorded position to their slot, the query to the last."""
        held = np.flatnonzero(cache.held)
        slots = np.searchsorted(held, positions)
        recorded = self.trace.positions
        last = np.full(len(queries), np.searchsorted(held, t) - recorded[t])   # also where t is not held
        return turned(layer, queries, last), turned(layer, keys, slots - recorded[positions])

    def byte_counts(self):
        """Bytes by class at the end; `key` and `value` are what belongs to one side's bank."""
        total = dict(payload=0, metadata=0, residual=0, basis=0, offloaded=0, key=0, value=0)
        for cache in self.heads:
            for side, bank in zip(("key", "value"), cache.banks):
                counts = by_place(bank)
                total[side] += sum(counts.values()) - counts["offloaded"]
                for name, count in counts.items():
                    total[name] += count
            total["metadata"] += self.policy_bytes(cache)
        total["resident"] = sum(total[n] for n in ("payload", "metadata", "residual", "basis"))
        return total

    def policy_bytes(self, cache):
        """State and explicit positions follow the held rows; own arrays are charged at capacity."""
        turned_back = cache.keys.codec.unrotated and self.owner.rope_layout != "none"
        positions = self.policy.cache_positions or (turned_back and self.policy.drops)
        per_row = 4 * self.policy.state_floats + 4 * positions
        return per_row * int(cache.held.sum()) + self.policy.own_bytes(self.trace.tokens, cache.held)

    def side_error(self, side):
        """Decoded against recorded rows, over what is still held; `key` or `value`."""
        top = bottom = 0.0
        for cache in self.heads:
            recorded = cache.keys.source if side == "key" else cache.values.source
            read = cache.read_keys() if side == "key" else cache.read_values()
            difference = read[cache.held] - recorded[cache.held]
            top += np.sum(difference ** 2)
            bottom += np.sum(recorded[cache.held] ** 2)
        return float(np.sqrt(top / bottom)) if bottom else None


def run_together(replays):
    """Layers step by step side by side: all choose before any encodes, since a row may be of several."""
    caches = [cache for replay in replays for cache in replay.heads]

    def flush(*kinds):
        for at_once in kinds:
            for cache in caches:
                cache.flush(at_once)

    for replay in replays:
        replay.enter_prompt()
    flush(True, False)
    for bank in [bank for cache in caches for bank in cache.banks]:
        bank.end_prompt()
    flush(False)
    for t in replays[0].trace.steps:
        for replay in replays:
            replay.enter(int(t))
        flush(True)
        for replay in replays:
            replay.answer_all(int(t))
        flush(False)
    return [replay.answers for replay in replays]


def span_of(positions):
    """Ascending positions as an index: where there are no gaps, what they index is not copied."""
    whole = len(positions) and positions[-1] - positions[0] == len(positions) - 1
    return slice(int(positions[0]), int(positions[-1]) + 1) if whole else positions


def exact_answers(trace, layer):
    """Kept with the trace: the same for every spec."""
    if layer.index not in trace.exact:
        trace.exact[layer.index] = exact.attention(layer, trace.steps)
    return trace.exact[layer.index]


def empty_answers(trace, layer):
    times, tokens = trace.steps, trace.tokens
    weights, outputs = exact_answers(trace, layer)
    shape = (len(layer.k), len(times), tokens)
    return Answers(layer=layer, times=times, exact=outputs, output=np.zeros_like(outputs),
                   exact_weights=weights, weights=np.zeros_like(weights),
                   held=np.zeros(shape, dtype=bool), coded=np.zeros(shape, dtype=bool),
                   known=trace.exact.setdefault(("of the exact", layer.index), {}))


def replay_layers(trace, spec, kind=LayerReplay):
    """Yields (replay, answers by layer) for every layer that owns its K and V; what stays exact is a LayerReplay."""
    for owner in trace.layers.values():
        if owner.owner != owner.index:
            continue
        readers = [l for l in trace.layers.values() if l.owner == owner.index and l is not owner]
        exact_layer = specs.leaves_exact(spec, owner.index, trace.model_layers)
        replay = (LayerReplay if exact_layer else kind)(trace, owner, readers, spec)
        yield replay, replay.run()
