"""The oracle's policies and codecs of a spec's stages."""
from dataclasses import replace

import policies
import structural
import voters
from chain import Chain
from codec import Codec, Unknown
from copies import in_query_heads
from floors import Nothing, Sign, Ternary
from gear import Gear, GearAround
from kvquant import KVQuant
from llama import Llama
from minifloat import Fp8, MxFp4, NvFp4
from modifiers import Center, Hadamard, Outliers
from objects import Place
from polar import PolarHan, PolarWuKeys
from prompt import Prompt
from qjl import QjlKeys
from quantizers import IntChannel, IntToken, Plain, kivi_keys, kivi_values
from specs import CODECS, POLICIES, WHOLE_SPEC, Stage, budget_rows, leaves_exact, parse, side_params, without_question
from stored import head_limit
from turboquant import Fractional, TurboQuant


def make_policy(stages, prompt, count_bytes=None):
    """count_bytes(stages, policy, limit): rows that a budget in bytes comes to, where it is asked for."""
    chosen = [stage for stage in stages if stage.name in POLICIES]
    if len(chosen) > 1:
        if any(stage.name in ("cam", "interleave") or stage.params.get("positions") for stage in chosen):
            raise Unknown("a policy beside others")
        return Chain(prompt, [make_policy([stage], prompt, count_bytes) for stage in chosen])
    if not chosen or chosen[0].name == "full":
        return policies.Policy(prompt)
    params = dict(chosen[0].params)
    if "budget" not in params:
        raise Unknown("a policy without a budget: the default is not normative")
    if chosen[0].name == "cam" and params.get("draw") != "expected":
        raise Unknown("merging by chance: another generator")
    kind, limit = POLICY_CLASSES[chosen[0].name], head_limit(params["budget"], prompt.layer, prompt.tokens)
    params["budget"] = budget_rows(params["budget"], prompt.length) if limit is None else 1
    policy = build(kind, prompt, dict(params), chosen[0].name)
    if limit is None or count_bytes is None:
        return policy
    params["budget"] = count_bytes(stages, policy, limit)
    if params["budget"] == 0:
        raise ValueError("no room for a row")
    return build(kind, prompt, params, chosen[0].name)


POLICY_CLASSES = {
    "window": policies.Window, "streaming": policies.Window, "random": policies.Random,
    "topk": policies.TopK, "h2o": policies.H2O, "tova": policies.Tova, "knorm": policies.KNorm,
    "keydiff": policies.KeyDiff, "lagkv": policies.LagKV, "snapkv": voters.SnapKV,
    "quest": policies.Quest, "pyramidkv": voters.PyramidKV, "adakv": voters.AdaKV,
    "chunkkv": voters.ChunkKV, "criticalkv": voters.CriticalKV, "cake": voters.Cake,
    "expected-attention": voters.ExpectedAttention, "scissorhands": policies.Scissorhands,
    "cam": policies.Cam, "interleave": policies.Interleave}


def build(kind, first, params, name):
    if name == "streaming":
        params.setdefault("sinks", 4)
    for name in WHOLE_SPEC | {"seed"}:
        params.pop(name, None)
    try:
        return kind(first, **params)
    except TypeError as error:
        raise Unknown(f"{name}: {error}") from None


def make_codec(stages, dim, side, element_bytes=2, recorded="f16", place=None):
    """Codecs in a row are outer to inner; none stores rows as the trace does (`recorded`, of 16 bits). `place`:
    which lanes a row is of, where they are several."""
    chain = [stage for stage in stages if stage.name in CODECS and side in stage.side]
    chain = chain or [Stage("f32" if element_bytes == 4 else recorded)]
    outer = side_params(chain[0], side)
    turned = side == "k" and (outer["keys"] == "unrotated" if "keys" in outer
                              else any(stage.name in UNROTATED for stage in chain))
    params = {key: value for key, value in chain[0].params.items() if key.split(".")[-1] not in ("keys", "span", "where")}
    place = replace(place or Place(), turned=turned)
    codec = make_chain([Stage(chain[0].name, params)] + chain[1:], dim, side, place=place)
    codec.host = outer.get("where") == "host"
    for part in filter(None, (codec, codec.later)):
        part.unrotated = turned
    return codec


OWN_OUTLIERS = {("qjl", "outliers"), ("kvquant", "outliers")}   # a parameter, not the modifier
UNROTATED = {"palu", "xkv", "kvquant"}       # by themselves
ONE_SIDE = {"kivi", "gear", "qjl", "polar-wu", "gqa"}
AROUND = {"center": Center, "outliers": Outliers, "hadamard": Hadamard}


def make_chain(chain, dim, side, keep_seed=False, place=None):
    params, place = side_params(chain[0], side), place or Place()
    if place.side == "kv" and chain[0].name in ONE_SIDE:
        raise ValueError("keys and values are stored by different rules")
    tiers = {name: params.pop(name) for name in ("sinks", "recent") if name in params}
    for name in WHOLE_SPEC:
        params.pop(name, None)
    if not keep_seed:
        params.pop("seed", None)
    around = [(kind, params.pop(key)) for key, kind in (("center", "center"), ("outliers", "outliers"),
                                                        ("rotate", "hadamard"))
              if key in params and (chain[0].name, key) not in OWN_OUTLIERS]
    around = [(kind, value) for kind, value in around if value not in ("none", 0)]
    rest = chain[1:] or [Stage("f16")]
    if around:
        codec = make_chain([Stage(chain[0].name, params)] + chain[1:], dim, side, keep_seed, place)
        for name, value in reversed(around):
            codec = put_around(name, codec, dim, place, dict(share=value) if name == "outliers" else {})
    elif chain[0].name in AROUND:
        inner = make_chain(rest, dim, side, place=place)
        codec = put_around(chain[0].name, inner, dim, place, params)
    elif chain[0].name == "gear" and len(chain) > 1:
        codec = make_gear_around(dim, side, params, make_chain(rest, dim, side, place=place))
    elif chain[0].name in structural.METHODS:
        codec = structural.Structural(chain[0].name, dim, side, params, chain[1:], place, make_chain)
    elif len(chain) > 1:
        raise Unknown(f"{chain[0].name} has no inner codec")
    else:
        codec = make_plain(chain[0].name, dim, side, params, place)
    for part in filter(None, (codec, codec.later)):
        for name, value in tiers.items():
            setattr(part.tiers, name, value)
    return codec


def put_around(name, inner, dim, place, params):
    if inner.later:
        raise ValueError("rows after the prompt that are stored in another way")
    lanes = dict(lanes=place.lanes_in(dim)) if name == "hadamard" else {}
    if name == "hadamard":
        if structural.tells_layers_apart(inner):
            raise ValueError("a turn of rows that layers are told apart in")
        inner.turn_evidence(Hadamard(dim, Codec(dim)).inside)
    return call(AROUND[name], dim, inner=inner, **params, **lanes)


OTHERS = {"fp8": Fp8, "mxfp4": MxFp4, "nvfp4": NvFp4, "sign": Sign, "ternary": Ternary, "none": Nothing}


def make_plain(name, dim, side, params, place):
    makers = {"int": make_int, "kivi": make_kivi, "turboquant": make_turboquant, "qjl": make_qjl,
              "polar-wu": make_polar_wu, "polar-han": make_polar_han,
              "gear": make_gear}
    if name == "kvquant":
        return call(KVQuant, dim, turned=place.turned, **params)
    if name in makers:
        return makers[name](dim, side, dict(params))
    if name == "none" and side == "k":
        raise ValueError("a key that is not stored")
    if name in OTHERS:
        return call(OTHERS[name], dim, **params, **(dict(lanes=place.lanes_in(dim)) if name in ("fp8", "nvfp4") else {}))
    if params:
        raise Unknown(f"{name} takes no {sorted(params)}")
    if name not in Plain.FORMATS and name not in Llama.BLOCKS:
        raise Unknown(f"{name} within a codec")
    return Plain(dim, name) if name in Plain.FORMATS else Llama(dim, name)


def make_int(dim, side, params):
    axis, group_size = params.pop("axis", "token"), params.pop("group_size", 64)
    kind = {"token": IntToken, "channel": IntChannel}[axis]
    if axis == "channel" and params.get("residual_length", 0) % group_size:
        raise ValueError("a residual that is not whole groups")
    return call(kind, dim, bits=params.pop("bits", 4), group_size=group_size, **params)


def make_kivi(dim, side, params):
    settings = dict(bits=2, group_size=32, residual_length=128) | params
    if settings["residual_length"] % settings["group_size"]:
        raise ValueError("a residual that is not whole groups")
    return call(kivi_keys if side == "k" else kivi_values, dim, **settings)


def make_turboquant(dim, side, params):
    params.setdefault("bits", 4)
    whole = params["bits"] == int(params["bits"])
    if not whole and params["bits"] not in Fractional.SPLITS:
        raise ValueError("bits that no split comes to")
    return call(TurboQuant if whole else Fractional, dim, **params)


def make_qjl(dim, side, params):
    if params.get("residual_length", 128) % params.get("group_size", 32):
        raise ValueError("a residual that is not whole groups")
    if side == "k":
        return call(QjlKeys, dim, **params)
    settings = dict(value_bits=2, group_size=32, residual_length=128) | params
    return kivi_values(dim, settings["value_bits"], settings["group_size"], settings["residual_length"])


def make_polar_wu(dim, side, params):
    if side == "k":
        return call(PolarWuKeys, dim, **params)
    bits = params.get("value_bits", 16)
    return Plain(dim, "f16") if bits == 16 else IntToken(dim, bits, params.get("group_size", 128))


def make_polar_han(dim, side, params):
    del side
    return call(PolarHan, dim, **params)


def make_gear(dim, side, params):
    return call(Gear, dim, keys=side == "k", **params)


def make_gear_around(dim, side, params, inner):
    if inner.later:
        raise ValueError("rows after the prompt that are stored in another way")
    if inner.bytes_of:
        raise Unknown("gear around atoms whose size varies")
    return call(GearAround, dim, keys=side == "k", inner=inner, **params)


def call(kind, dim, **params):
    try:
        return kind(dim, **params)
    except TypeError as error:
        raise Unknown(str(error)) from None


def check(trace, spec):
    """Raises Unknown when the oracle does not know the spec, another ValueError when the shape of
    the trace does not allow it."""
    if parse(spec)[0].name == "cam" and any(layer.value_is_key_prefix for layer in trace.layers.values()):
        raise ValueError("values to merge that are columns of the keys")
    trace = in_query_heads(without_question(trace, spec), spec)
    for layer in trace.layers.values():
        if leaves_exact(spec, layer.owner, trace.model_layers):
            continue
        sides = ((layer.k, "k"), (layer.v, "v"))[:1 if layer.value_is_key_prefix else 2]
        for rows, side in sides:
            codec = make_codec(parse(spec), rows.shape[2], side)
            codec.bind(trace, layer, 0, side)
            codec.fit(rows[0, :trace.prefill_length])
    first = next(iter(trace.layers.values()))
    make_policy(parse(spec), Prompt(first, trace.tokens, trace.prefill_length, trace))
