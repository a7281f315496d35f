"""Objects that several lanes (spans.py) share, and the replay of layers that do."""
import numpy as np

from cache import by_place
from joint import Lane, LaneBank, ObjectBank, part_of
from makers import make_codec
from objects import Object, Place
from replay import LayerReplay, run_together
from rounding import through_bf16
from spans import GROUPS, HEADS, layer_groups, layers_joined, left_out, sides_of, span_of, stages_of
import specs
from structural import mapped_sources, stored_by


def knows(spec):
    """Specs with rows that several lanes share."""
    try:
        return "+rest+" not in spec and any(
            span_of(spec, side) or any(s.name in GROUPS for s in stages_of(spec, side)[:1]) for side in "kv")
    except specs.Unknown:
        return False


def finds_basis(spec):
    """Directions of more rows than there are columns; of fewer, some are nobody's."""
    return any(s.name in {"svd", "palu", "xkv", "kq-svd", "autoencoder", "mla", "gear"}
               or s.params.get("align") == "procrustes" for s in specs.all_stages(spec))


def lanes_of(layers, heads, side):
    """Columns of each lane, a key before its value."""
    first, lanes = 0, []
    for layer in layers:
        for head in heads:
            columns = []
            for kind, dim in (("k", layer.k.shape[2]), ("v", layer.v.shape[2])):
                columns.append(slice(first, first + dim) if kind in side else None)
                first += dim if kind in side else 0
            lanes.append(Lane(layer, head, *columns))
    return lanes, first


def make_object(trace, spec, layers, heads, side):
    lanes, columns = lanes_of(layers, heads, side)
    rows = np.zeros((trace.tokens, columns))
    for lane in lanes:
        for part, tensor in ((lane.keys, lane.layer.k), (lane.values, lane.layer.v)):
            if part:
                rows[:, part] = tensor[lane.head]
    place = Place(lanes=len(lanes), columns=columns, layers=layers, heads=heads, side=side, trace=trace)
    owner = layers[0]
    recorded = "bf16" if owner.stored is through_bf16 else "f16"
    codec = make_codec(specs.parse(spec), columns, side[0], owner.element_bytes, recorded, place)
    codec.bind(trace, owner, heads[0], side)
    bank = ObjectBank(codec, rows, owner.element_bytes * columns, lanes, trace)
    codec.fit(bank.recorded[:trace.prefill_length])
    return bank


def objects_of(trace, spec, members):
    """Banks that serve more lanes than one, of a group of layers."""
    for side in sides_of(members[0], spec):
        joined = [members] if len(members) > 1 and layers_joined(spec, side[0], members[0], trace) > 1 \
            else [[member] for member in members]
        heads = list(range(len(members[0].k)))
        parts = [heads] if span_of(spec, side[0]) & HEADS else [[head] for head in heads]
        for layers in joined if stages_of(spec, side[0]) else []:
            for part in parts:
                if len(layers) * len(part) * len(side) > 1:
                    yield make_object(trace, spec, layers, part, side)


# -- the replay ----------------------------------------------------------------------------------


class StructureReplay(LayerReplay):
    """One layer of a group; objects of the whole group are shared among its members' replays."""

    def __init__(self, trace, owner, readers, spec, objects):
        self.objects = [bank for bank in objects if any(lane.layer is owner for lane in bank.lanes)]
        super().__init__(trace, owner, readers, spec)

    def count_bytes(self, stages, policy, limit):
        raise specs.Unknown("a budget in bytes of rows that span")

    def make_bank_of(self, stages, head, side):
        for bank in self.objects:
            for lane in bank.lanes:
                columns = lane.keys if side == "k" else lane.values
                if lane.layer is self.owner and lane.head == head and columns:
                    return LaneBank(bank, columns)
        return super().make_bank_of(stages, head, side)

    def fit_bank(self, head, bank):
        if not isinstance(bank, LaneBank):
            super().fit_bank(head, bank)

    def byte_counts(self):
        total = dict(payload=0, metadata=0, residual=0, basis=0, offloaded=0, key=0, value=0, joint=False)
        for bank in self.objects:
            self.count_object(total, bank)
        for cache in self.heads:
            for side, bank in zip(("key", "value"), cache.banks):
                for name, count in by_place(bank).items() if not isinstance(bank, LaneBank) else []:
                    total[name] += count
                    total[side] += count if name != "offloaded" else 0
            total["metadata"] += self.policy_bytes(cache)
        total["resident"] = sum(total[n] for n in ("payload", "metadata", "residual", "basis"))
        return total

    def count_host_reads(self, cache, read, t):
        """Of rows that are read whole this layer's part, with the first of its heads."""
        if self.policy.selects:
            super().count_host_reads(cache, read, t)
        elif cache is self.heads[0]:
            self.host_reads += self.byte_counts()["offloaded"]

    def count_object(self, total, bank):
        layers = list(dict.fromkeys(lane.layer.index for lane in bank.lanes))
        index, owners = layers.index(self.owner.index), stored_by(bank.codec)
        owners = list(range(len(layers))) if owners is None else owners
        for counts in bank.parts():
            for name, count in counts.items():
                among = list(range(len(layers))) if name == "residual" else owners
                part = part_of(count, among.index(index), len(among)) if index in among else 0
                away = bank.codec.host and name != "basis"
                total["offloaded" if away else name] += part
                total["key" if bank.lanes[0].keys else "value"] += 0 if away else part
        total["joint"] |= bool(bank.lanes[0].keys and bank.lanes[0].values)


def replay_groups(trace, spec):
    """Yields (replay, answers by layer) like replay.replay_layers."""
    known = specs.without_question(trace, spec)
    for members in layer_groups(trace, spec):
        objects = [] if left_out(members[0], spec, trace) else list(objects_of(known, spec, members))
        replays = [StructureReplay(trace, owner,
                                   [l for l in trace.layers.values() if l.owner == owner.index and l is not owner],
                                   spec, objects) for owner in members]
        yield from zip(replays, run_together(replays))


def check(trace, spec):
    """Raises ValueError where the layers of the trace do not allow a map or so many readers, or where sides join
    other numbers of layers."""
    for layer in trace.layers.values():
        if len({layers_joined(spec, side, layer, trace) for side in "kv"} - {0, 1}) > 1:
            raise ValueError("sides that join other numbers of layers")
    for side in sides_of(next(iter(trace.layers.values())), spec):
        stage = stages_of(spec, side[0])[:1]
        if not stage or stage[0].name != "layer-share":
            continue
        params = specs.side_params(stage[0], side[0])
        given = [int(entry) for entry in str(params["map"]).split("-")] if "map" in params else None
        if given and (len(given) != trace.model_layers or any(source > i for i, source in enumerate(given))):
            raise ValueError("a map that does not fit the model")
        for members in layer_groups(trace, spec):
            if left_out(members[0], spec, trace):
                continue
            of = Object(np.zeros((0, 1)), 1, members, [], side, [], params)
            if given:
                mapped_sources(of, given)
            elif len(members) > 1 and max(of.count("shared", 0.25, len(members)), 1) >= len(members):
                raise ValueError("no layer is left to store rows")
