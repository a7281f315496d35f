"""Reads a format-1 trace into float64 arrays. Trusts the file: rejecting bad ones is not its job."""
import json
from dataclasses import dataclass, field

import h5py
import numpy as np

from rounding import bf16_words_to_f32, through_bf16, through_f16, to_f32

FORMATS = {np.dtype(np.float16): through_f16, np.dtype(np.uint16): through_bf16,
           np.dtype(np.float32): lambda rows: to_f32(rows).astype(np.float64)}


@dataclass
class Layer:
    """One layer group. `owner` is the layer whose K and V it reads; usually itself."""
    index: int
    q: np.ndarray                      # [q_heads, T, d_k]
    k: np.ndarray                      # [kv_heads, T, d_k]
    v: np.ndarray                      # [kv_heads, T, d_v]
    scale: float
    softcap: float
    window: int
    owner: int
    value_is_key_prefix: bool
    element_bytes: int                 # of a stored row that no codec has touched: 2, or 4 on an f32 trace
    stored: object                     # rounds a row to the trace's number format
    sink_logits: np.ndarray | None
    w_o: np.ndarray | None
    x2: np.ndarray | None
    attn_post_norm: bool
    rope_layout: str
    rope_dims: int
    rope_inv_freq: np.ndarray | None
    rope_scale: float
    floor: float = None                # tolerances.weight_floor, once it is known
    copies: int = 1                    # KV heads that stand for each recorded one: copies.in_query_heads

    @property
    def group(self):
        return self.q.shape[0] // self.k.shape[0]


@dataclass
class Probes:
    windows: np.ndarray                # [n, 2] half-open
    label: dict = field(default_factory=dict)     # layer -> [q_heads, W, d_v]
    fisher: dict = field(default_factory=dict)    # layer -> [S, q_heads, W, d_v]

    @property
    def tokens(self):
        return np.concatenate([np.arange(lo, hi) for lo, hi in self.windows])


@dataclass
class Trace:
    path: str
    tokens: int
    prefill_length: int
    positions: np.ndarray
    nll: np.ndarray | None
    spans: dict
    layers: dict                       # index -> Layer, ascending
    probes: Probes | None
    model_layers: int
    question_start: int                # prefill_length when no question is marked
    exact: dict = field(default_factory=dict)     # layer -> (weights, outputs) of the decode steps
    floor: float = None                           # tolerances.py: of the program's rounding

    @property
    def steps(self):
        return np.arange(self.prefill_length, self.tokens)


def read_tensor(dataset):
    """f16 and f32 as they are; 16-bit words marked `bfloat16` widened."""
    values = dataset[()]
    if values.dtype == np.uint16 and text(dataset.attrs.get("type", "")) == "bfloat16":
        values = bf16_words_to_f32(values)
    return values.astype(np.float64)


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def optional(group, name):
    return read_tensor(group[name]) if name in group else None


def read_keys_values(owner_group):
    keys = read_tensor(owner_group["k"])
    prefix = int(owner_group.attrs.get("v_is_k_prefix", 0))
    values = keys[..., :prefix] if prefix else read_tensor(owner_group["v"])
    return keys, values, bool(prefix)


def read_layer(groups, index):
    group = groups[f"{index:03d}"]
    attrs = group.attrs
    owner = int(attrs["kv_source"])
    owner_group = groups[f"{owner:03d}"]
    k, v, prefix = read_keys_values(owner_group)
    return Layer(
        index=index, q=read_tensor(group["q"]), k=k, v=v, owner=owner, value_is_key_prefix=prefix,
        scale=float(attrs["scale"]), softcap=float(attrs["softcap"]), window=int(attrs["window"]),
        element_bytes=4 if owner_group["k"].dtype == np.float32 else 2,
        stored=FORMATS[owner_group["k"].dtype],
        sink_logits=optional(group, "sink_logits"), w_o=optional(group, "w_o"),
        x2=optional(group, "x2"), attn_post_norm=bool(attrs.get("attn_post_norm", 0)),
        rope_layout=text(attrs["rope_layout"]), rope_dims=int(attrs["rope_dims"]),
        rope_inv_freq=optional(group, "rope_inv_freq"), rope_scale=float(attrs["rope_scale"]))


def read_gradient(dataset):
    """Stored values times `unit`: raw gradients are subnormal in half precision."""
    return read_tensor(dataset) * float(dataset.attrs["unit"])


def read_probes(file):
    if "grad/windows" not in file:
        return None
    probes = Probes(windows=file["grad/windows"][()].astype(np.int64))
    for name, dataset in file.get("grad/label", {}).items():
        probes.label[int(name)] = read_gradient(dataset)
    numbers = sorted(file.get("grad/fisher", {}), key=int)
    for name in (file[f"grad/fisher/{numbers[0]}"] if numbers else ()):
        stack = [read_gradient(file[f"grad/fisher/{s}/{name}"]) for s in numbers]
        probes.fisher[int(name)] = np.stack(stack)
    return probes


def depth(config):
    return int(config.get("num_hidden_layers") or config["text_config"]["num_hidden_layers"])


def read_trace(path):
    with h5py.File(path, "r") as file:
        groups = file["layers"]
        return Trace(
            path=str(path), tokens=int(file.attrs["tokens"]),
            prefill_length=int(file.attrs["prefill_length"]),
            positions=file["positions"][()].astype(np.int64), nll=optional(file, "nll"),
            spans={name: item[()].astype(np.int64) for name, item in file.get("spans", {}).items()},
            layers={int(name): read_layer(groups, int(name)) for name in sorted(groups)},
            probes=read_probes(file), model_layers=depth(json.loads(text(file.attrs["model_config"]))),
            question_start=int(file.attrs.get("question_start", file.attrs["prefill_length"])))
