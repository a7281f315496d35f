"""Reads method specs (cli.md section 3): stages and what they say, before anything is made of them (makers.py).

Only what the oracle knows is accepted; anything else raises Unknown, so that a comparison says
"not covered" instead of comparing with the wrong thing.
"""
from dataclasses import dataclass, field, replace

from codec import Unknown
from llama import Llama


POLICIES = {"full", "window", "streaming", "random", "topk", "h2o", "tova", "knorm", "keydiff",
            "lagkv", "snapkv", "quest", "pyramidkv", "adakv", "chunkkv", "criticalkv", "cake",
            "expected-attention", "scissorhands", "cam", "interleave"}
CODECS = {"center", "outliers", "hadamard", "f32", "f16", "bf16", "int", "kivi", "svd", "turboquant",
          "qjl", "polar-wu", "polar-han", "kvquant", "gear", "palu", "xkv", "kq-svd", "mla", "autoencoder", "think", "minicache", "layer-share", "gqa", "fp8", "mxfp4", "nvfp4",
          "sign", "ternary", "none"} | set(Llama.BLOCKS)
STATES = {"linear-state"}                     # keep no rows (linear_state.py)
RANDOM_STAGES = {"random", "turboquant", "qjl", "polar-han"}        # rows cannot agree with another generator


@dataclass
class Stage:
    name: str
    params: dict = field(default_factory=dict)
    side: str = "kv"                            # "k" or "v": a codec of that side alone


def number(text):
    """`512`, `2k`, `1Ki`, `0.2`, `20%`; words stay words."""
    for suffix, factor in (("Ki", 1024), ("k", 1000)):      # bytes and bits stay words: stored.py
        if text.endswith(suffix) and text[:-len(suffix)].isdigit():
            return int(text[:-len(suffix)]) * factor
    if text.endswith("%"):
        return float(text[:-1]) / 100
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def parse_stage(text):
    name, *pairs = text.split(":")
    side, name = (name[0], name[2:]) if name[:2] in ("k.", "v.") else ("kv", name)
    if name not in POLICIES | CODECS | STATES:
        raise Unknown(f"no stage {name}")
    params = {key: number(value) for key, value in (pair.split("=", 1) for pair in pairs)}
    return Stage(name, params, side)


def parse(spec):
    """The stages of the first cache (rest.py has the second); side=keys of a codec leaves values exact, as `k.` before every codec does."""
    stages = [parse_stage(part) for part in spec.split("+rest+")[0].split("+")]
    codecs = [stage for stage in stages if stage.name in CODECS]
    only = [stage.params.pop("side") for stage in codecs if "side" in stage.params]
    for stage in codecs if only and only[0] != "both" else ():
        stage.side = only[0][0]
    return stages


def all_stages(spec):
    """Of every cache."""
    return [stage for cache in spec.split("+rest+") for stage in parse(cache)]


def is_random(spec):
    return any(stage.name in RANDOM_STAGES for stage in all_stages(spec))


ONE_ROW = {"f32", "f16", "bf16", "fp8", "mxfp4", "nvfp4", "sign", "ternary", "center", "outliers", "hadamard"} | set(
    Llama.BLOCKS)
TIERED = {"sinks", "recent"}
WHOLE_SPEC = {"exact_layers", "query", "layout"}       # may stand in any stage


def by_chance(spec):
    """Columns that hang on which rows `random` keeps: heads of unequal length, rows that share an atom."""
    stages = parse(spec)
    if all(stage.name != "random" for stage in stages):
        return set()
    sizes = {"bits_per_element", "bits_key", "bits_value", "resident_bytes", "payload_bytes", "metadata_bytes",
             "residual_bytes", "offloaded_bytes", "offloaded_read_bytes_per_step"}
    if any(stage.params.get("pooled_heads") for stage in stages):
        return sizes | {"kept_tokens"}
    codecs = [stage for stage in stages if stage.name in CODECS]
    return set() if all(stage.name in ONE_ROW and not TIERED & set(stage.params) for stage in codecs) else sizes


def without_question(trace, spec):
    """query=agnostic: the prompt ends where the question begins; its tokens enter one by one."""
    if all(stage.params.get("query") != "agnostic" for stage in all_stages(spec)):
        return trace
    if not 0 < trace.question_start < trace.prefill_length:
        raise ValueError("no question is marked")
    return replace(trace, prefill_length=trace.question_start)


def budget_rows(value, prompt_length):
    """A share is of the prompt, rounded down; 1 is one row, 1.0 is everything."""
    rows = int(value * prompt_length + 1e-9) if isinstance(value, float) else value
    if rows == 0:
        raise ValueError("a share that is no row")
    return rows


def side_params(stage, side):
    """`k.bits=4` speaks to one side and wins over a plain `bits=`."""
    plain = {k: v for k, v in stage.params.items() if "." not in k}
    own = {k[2:]: v for k, v in stage.params.items() if k.startswith(side + ".")}
    return {**plain, **own}


def check_sides(trace, spec):
    """Raises ValueError where values that are columns of the keys are told apart from them."""
    if any(layer.value_is_key_prefix for layer in trace.layers.values()):
        if ":side=keys" in spec:
            raise ValueError("values that are columns of the keys")
        for stage in all_stages(spec):
            if stage.name in CODECS and (stage.side == "v" or side_params(stage, "k") != side_params(stage, "v")):
                raise ValueError("values that are columns of the keys")


def leaves_exact(spec, layer, model_layers):
    """exact_layers=first2_last1: those layers of the model are not compressed."""
    for stage in all_stages(spec):
        for part in str(stage.params.get("exact_layers", "")).split("_"):
            if part.startswith("first") and layer < int(part[5:]):
                return True
            if part.startswith("last") and layer >= model_layers - int(part[4:]):
                return True
    return False
