"""Which lanes (KV heads, sides, layers) share an object."""
import specs


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
