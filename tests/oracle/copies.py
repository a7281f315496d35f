"""layout=query-heads: KV heads stored once for each query head that reads them."""
from dataclasses import replace

import numpy as np

from codec import Unknown
from spans import HEADS, span_of
from specs import STATES, all_stages, leaves_exact


def in_query_heads(trace, spec):
    """layout=query-heads: every query head has a KV head of its own, a copy of its group's."""
    stages = all_stages(spec)
    if all(stage.params.get("layout") != "query-heads" for stage in stages):
        return trace
    spans = [span_of(cache, side) for cache in spec.split("+rest+") for side in "kv"]
    if any(stage.name in STATES | {"mla"} for stage in stages) or any(span & HEADS for span in spans):
        raise Unknown("copies that are stored as one")
    return replace(trace, layers={index: layer if leaves_exact(spec, layer.owner, trace.model_layers) else copied(trace, layer)
                                  for index, layer in trace.layers.items()})


def copied(trace, layer):
    if layer.value_is_key_prefix:
        raise ValueError("a latent, which is no head's own")
    if len(layer.q) != len(trace.layers[layer.owner].q):
        raise ValueError("readers of more or fewer query heads than there are copies")
    if layer.group == 1:
        return layer
    rows = {side: np.repeat(getattr(layer, side), layer.group, axis=0) for side in "kv"}
    return replace(layer, copies=layer.group, **rows)
