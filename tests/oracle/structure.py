"""Which lanes (KV heads, sides, layers) share an object, and the replay of layers that do."""
import numpy as np

from cache import by_place
from joint import Lane, LaneBank, ObjectBank, part_of
from objects import Object, Place
from replay import LayerReplay, run_together
from rounding import through_bf16
import specs
from structural import Structural, mapped_sources


GROUPS = {"layer-share": lambda params, layer, trace: 1024 if shares(params, layer) else 1,
          "xkv": lambda params, layer, trace: params.get("group_layers", 4),
          "minicache": lambda params, layer, trace: 2 if layer.index >= first_merged(params, trace) else 1}


def shares(params, layer):
    """Not a layer of a map that nobody else reads and that reads nobody."""
    if "map" not in params:
        return True
    given = [int(entry) for entry in str(params["map"]).split("-")]
    return any((i == layer.index) != (source == layer.index) for i, source in enumerate(given))


def first_merged(params, trace):
    start = params.get("start", 0.5)
    return int(start * trace.model_layers + 1e-9) if isinstance(start, float) else start


# -- which lanes share an object -----------------------------------------------------------------

HEADS, SIDES = 2, 1
SPANS = {"none": 0, "joint": SIDES, "heads": HEADS, "all": HEADS | SIDES}
MEANT = {"layer-share": lambda params: HEADS | SIDES, "xkv": lambda params: HEADS, "gqa": lambda params: HEADS,
         "palu": lambda params: HEADS * (params.get("group_heads", 4) > 1),
         "kvquant": lambda params: HEADS,
         "nvfp4": lambda params: HEADS * (params.get("scale", "tensor") == "tensor"),
         "fp8": lambda params: HEADS * (params.get("scale") == "tensor")}


def stages_of(spec, side):
    return [s for s in specs.parse(spec) if s.name in specs.CODECS and side in s.side]


def span_of(spec, side):
    """What the outermost codec says, or else what one of the chain means; of one side it cannot span both."""
    chain = stages_of(spec, side)
    if not chain:
        return 0
    said = SPANS[specs.side_params(chain[0], side).get("span", "none")]
    if said:
        return said
    sided = any(stage.side != "kv" for stage in specs.parse(spec))
    meant = [MEANT[s.name](specs.side_params(s, side)) for s in chain if s.name in MEANT]
    return next((m & (HEADS if sided else 3) for m in meant if m), 0)


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


def same_kind(a, b):
    return (a.k.shape, a.v.shape, a.q.shape, a.window, a.rope_layout, a.rope_dims) == \
        (b.k.shape, b.v.shape, b.q.shape, b.window, b.rope_layout, b.rope_dims)


def layers_joined(spec, side, layer, trace):
    stage = stages_of(spec, side)[:1]
    return GROUPS[stage[0].name](specs.side_params(stage[0], side), layer, trace) \
        if stage and stage[0].name in GROUPS else 1


def left_out(layer, spec, trace):
    return specs.leaves_exact(spec, layer.index, trace.model_layers)


def layer_groups(trace, spec):
    """Recorded neighbours of one kind, as many as the outer codec joins; a layer that stays exact is alone."""
    groups = []
    for layer in trace.layers.values():
        if layer.owner != layer.index:
            continue
        most = 1 if left_out(layer, spec, trace) else max(layers_joined(spec, side, layer, trace) for side in "kv")
        kin = [g for g in groups if g[0] > 1 and same_kind(g[1][0], layer)]
        if most > 1 and kin and len(kin[-1][1]) < kin[-1][0]:
            kin[-1][1].append(layer)
        else:
            groups.append((most, [layer]))
    return [members for _, members in groups]


def sides_of(member, spec):
    """Objects hold one side each, or both; where values are columns of the keys there are keys alone."""
    if member.value_is_key_prefix:
        return ["k"]
    return ["kv"] if span_of(spec, "k") & SIDES else ["k", "v"]


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
    codec = specs.make_codec(specs.parse(spec), columns, side[0], owner.element_bytes, recorded, place)
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


def within(codec):
    """The method of this file in a chain, or None."""
    while codec is not None and not isinstance(codec, Structural):
        codec = getattr(codec, "inner", None)
    return codec


def tells_layers_apart(codec):
    method = within(codec)
    return method is not None and method.name == "layer-share"


def stored_by(codec):
    """Layers of the object that atoms and bases belong to; None: all, as where something around the method stores
    of every layer (its mean, its outliers)."""
    return codec.stored.owners if isinstance(codec, Structural) else None


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
