"""Writes small traces for the oracle's own tests and for shapes that no bundled trace has.

    python3 synthetic.py FOLDER        writes one file per case of CASES
"""
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from content_hash import content_hash
from rounding import f32_to_bf16_words


@dataclass
class Case:
    tokens: int = 160
    prefill: int = 96
    layers: int = 2
    q_heads: int = 4
    kv_heads: int = 2
    d_k: int = 64
    d_v: int = 64
    dtype: str = "f16"
    window: int = 0                  # of every second layer
    softcap: float = 0.0
    sink_logits: bool = False
    rope_layout: str = "half"
    rope_dims: int = 0               # 0: all of d_k
    probes: bool = True
    w_o: bool = True
    value_prefix: bool = False       # values are the keys' first d_v columns (MLA)
    shared: bool = False             # the last layer reads the K and V of the first
    hostile: bool = False            # zero rows, repeated rows (ties), constant channels, tiny values
    question: int = 0                # tokens of a question at the end of the prompt; 0: none is marked
    scale: float = 0.0               # of the softmax; 0: 1 / sqrt(d_k)
    indices: tuple = ()              # recorded layers of the model; (): all
    model_layers: int = 0            # 0: as many as are recorded
    flaw: str = ""                   # of keys and values, see FLAWS
    nll: bool = True
    post_norm: bool = False
    rope_scale: float = 1.0
    first_position: int = 0
    step_position: int = 1
    seed: int = 1

    @property
    def recorded(self):
        return self.indices or tuple(range(self.layers))


CASES = {
    "plain": Case(),
    "tiny": Case(tokens=12, prefill=9, d_k=32, d_v=32, probes=False),
    "hostile": Case(hostile=True, rope_layout="none", question=20),
    "long": Case(tokens=512, prefill=400, layers=2),
    "odd_d80": Case(d_k=80, d_v=80),
    "d_v_differs": Case(d_k=96, d_v=64),
    "mqa": Case(q_heads=4, kv_heads=1, d_k=128, d_v=128),
    "mha": Case(q_heads=3, kv_heads=3),
    "sliding": Case(window=48, d_k=256, d_v=256, kv_heads=1),
    "softcap": Case(softcap=20.0),
    "sink_logits": Case(sink_logits=True),
    "interleaved": Case(rope_layout="interleaved", rope_dims=32),
    "f32": Case(dtype="f32"),
    "bf16": Case(dtype="bf16"),
    "no_probes": Case(probes=False, w_o=False, rope_layout="none"),
    "mla": Case(kv_heads=1, d_k=96, d_v=64, value_prefix=True, rope_layout="none"),
    "shared": Case(layers=3, shared=True, question=20),
    "gaps": Case(tokens=100, prefill=80, indices=(2, 5), model_layers=8, d_k=16, d_v=24, window=12, rope_dims=10,
                 rope_layout="interleaved", rope_scale=1.37, first_position=1000, step_position=3, scale=0.4),
    "odd": Case(tokens=61, prefill=52, layers=3, q_heads=3, kv_heads=3, d_k=13, d_v=11, rope_dims=10),
}


def rotated(rows, positions, case):
    """[heads, T, d] turned by position; the same arithmetic as a model's, pair by pair."""
    inv_freq = inverse_frequencies(case)
    if inv_freq is None:
        return rows
    half = len(inv_freq)
    angles = np.outer(positions, inv_freq)
    interleaved = case.rope_layout == "interleaved"
    first = np.arange(0, 2 * half, 2) if interleaved else np.arange(half)
    second = first + 1 if interleaved else first + half
    result, cos, sin = rows.copy(), np.cos(angles) * case.rope_scale, np.sin(angles) * case.rope_scale
    result[..., first] = rows[..., first] * cos - rows[..., second] * sin
    result[..., second] = rows[..., second] * cos + rows[..., first] * sin
    return result


def inverse_frequencies(case):
    if case.rope_layout == "none":
        return None
    dims = case.rope_dims or case.d_k
    return 10000.0 ** (-np.arange(0, dims, 2) / dims)


def make_keys(case, rng):
    """Channel outliers and a sink: what makes keys harder than noise."""
    keys = rng.standard_normal((case.kv_heads, case.tokens, case.d_k)) * 0.7
    keys[..., :: 17] += 4.0
    keys[:, 0] *= 0.3
    keys = spoiled(keys) if case.hostile else keys
    return FLAWS[case.flaw](keys)


def spoiled(rows):
    """What a quantizer divides by, and what a ranking must break by position."""
    eighth = rows.shape[1] // 8
    rows[:, eighth:2 * eighth] = rows[:, eighth:eighth + 1]
    rows[..., 3] = 2.385
    rows[:, 3 * eighth] = 0
    rows[:, 3 * eighth + 1] *= 1e-6
    rows[:, 4 * eighth:4 * eighth + 3] *= 8
    return rows


def with_zero_rows(rows):
    rows[:, ::3] = 0
    return rows


def with_spikes(rows):
    rows[:, 1::7, -1] = 3e4
    return rows


FLAWS = {
    "": lambda rows: rows,
    "constant": lambda rows: rows[:, :1] + np.zeros_like(rows),      # all rows alike
    "zeros": np.zeros_like,
    "zero rows": with_zero_rows,
    "ties": lambda rows: np.rint(rows),                              # a handful of values
    "flat": lambda rows: rows[..., :1] + np.zeros_like(rows),        # columns of a row alike
    "tiny": lambda rows: rows * 1e-7,                                # subnormal halves
    "large": lambda rows: np.clip(rows * 8e3, -6e4, 6e4),
    "spikes": with_spikes,
}


def make_queries(case, rng):
    """Each query looks for its own direction and, slowly drifting, for a shared one."""
    shape = (case.q_heads, case.tokens, case.d_k)
    drift = np.cumsum(rng.standard_normal(shape) * 0.1, axis=1)
    return rng.standard_normal(shape) + drift


def store(group, name, values, dtype):
    if dtype == "bf16":
        dataset = group.create_dataset(name, data=f32_to_bf16_words(values))
        dataset.attrs["type"] = "bfloat16"
    else:
        group.create_dataset(name, data=values.astype(dtype.replace("f", "float")))


def positions_of(case):
    return case.first_position + case.step_position * np.arange(case.tokens)


def write_layer(group, place, case, rng):
    window = case.window if place % 2 else 0
    owner = 0 if case.shared and place == case.layers - 1 else place
    positions = positions_of(case)
    shrink = 1e-4 if case.flaw in ("large", "spikes") else 1.0       # logits stay what softmax can tell apart
    store(group, "q", rotated(make_queries(case, rng), positions, case) * shrink, case.dtype)
    if owner == place:
        store(group, "k", rotated(make_keys(case, rng), positions, case), case.dtype)
        values = rng.standard_normal((case.kv_heads, case.tokens, case.d_v))
        values = FLAWS[case.flaw](spoiled(values) if case.hostile else values)
        if not case.value_prefix:
            store(group, "v", values if case.flaw else values + 0.3, case.dtype)
    write_attributes(group, case, window, case.recorded[owner])
    hidden = 32
    if case.w_o:
        w_o = rng.standard_normal((hidden, case.q_heads * case.d_v)) / 8
        store(group, "w_o", w_o, case.dtype)
        group["x2"] = (50 + rng.random(case.tokens)).astype(np.float32)
    if case.sink_logits:
        group["sink_logits"] = rng.standard_normal(case.q_heads).astype(np.float32)


def write_attributes(group, case, window, owner):
    inv_freq = inverse_frequencies(case)
    if inv_freq is not None:
        group["rope_inv_freq"] = inv_freq
    attrs = group.attrs
    if case.value_prefix:
        attrs["v_is_k_prefix"] = np.int64(case.d_v)
    attrs["scale"], attrs["softcap"] = case.scale or case.d_k ** -0.5, case.softcap
    attrs["kind"] = "sliding" if window else "full"
    attrs["window"], attrs["kv_source"] = np.int64(window), np.int64(owner)
    attrs["rope_layout"] = case.rope_layout
    attrs["rope_dims"] = np.int64(0 if inv_freq is None else 2 * len(inv_freq))
    attrs["rope_scale"], attrs["qk_norm"] = case.rope_scale, np.int32(0)
    if case.post_norm:
        attrs["attn_post_norm"] = np.int32(1)


def probe_windows(case):
    """Two windows in the decode part, clear of the last token."""
    start, steps = case.prefill, case.tokens - case.prefill
    length = min(steps // 3, (steps - 3) // 2)
    return np.array([[start + 1, start + 1 + length], [start + 2 + length, start + 2 + 2 * length]])


def write_probes(file, case, rng):
    windows = probe_windows(case)
    file["grad/windows"] = windows.astype(np.int32)
    width = int(np.sum(windows[:, 1] - windows[:, 0]))
    for probe in ("label", "fisher/0", "fisher/1"):
        for index in case.recorded:
            values = rng.standard_normal((case.q_heads, width, case.d_v)) * 100
            name = f"grad/{probe}/{index:03d}"
            file[name] = values.astype(np.float16)
            file[name].attrs["unit"] = 2.0 ** -14
        if probe != "label":
            file[f"grad/{probe}"].attrs["seeds"] = np.arange(len(windows), dtype=np.int64)


def write_root(file, case, rng):
    attrs = file.attrs
    attrs["format"], attrs["version"] = "kvbench-trace", np.int32(1)
    attrs["model"], attrs["model_digest"] = "synthetic", f"synthetic:oracle:{case.seed}"
    attrs["model_config"] = json.dumps({"num_hidden_layers": case.model_layers or case.layers})
    attrs["text"], attrs["recorder"] = "random numbers", "tests/oracle"
    attrs["tokens"], attrs["prefill_length"] = np.int64(case.tokens), np.int64(case.prefill)
    if case.question:
        attrs["question_start"] = np.int64(case.prefill - case.question)
    file["token_ids"] = rng.integers(0, 1000, case.tokens).astype(np.int32)
    file["positions"] = positions_of(case).astype(np.int32)
    nll = rng.random(case.tokens).astype(np.float32) * 5
    nll[0] = np.nan
    if case.nll:
        file["nll"] = nll
    needle = case.tokens // 16, max(case.tokens // 8, 1)
    file["spans/needle"] = np.array([needle], dtype=np.int32)


def write_trace(path, case):
    rng = np.random.default_rng(case.seed)
    with h5py.File(path, "w") as file:
        write_root(file, case, rng)
        for place, index in enumerate(case.recorded):
            write_layer(file.create_group(f"layers/{index:03d}"), place, case, rng)
        if case.probes:
            write_probes(file, case, rng)
        file.attrs["content_hash"] = content_hash(file)


def main(folder):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        write_trace(Path(folder) / f"{name}.h5", case)


if __name__ == "__main__":
    main(sys.argv[1])
