"""Finds out, by looking at tensors rather than at configuration files, what surrounds the attention.

The trace promises that pre-rotary keys follow from the recorded ones by an exact inverse rotation. A
configuration only hints at the rotation, so it is *found*: every inverse-frequency buffer of the model
is tried in both layouts against the keys as they left the projection (or its norm), and the one that
reproduces the recorded keys is taken. No fit, no trace. The same way the output projection is the
module that receives the attention's output, and a norm that receives the projection's output stands
between the layer and the residual stream.
"""

import dataclasses

import torch
import xxhash

from latent import find_latent, find_latent_rotation, side_by_side
from refusal import Refusal

# Relative distance (Frobenius) of rotated to recorded keys. The right table is bitwise equal or within
# f32 rounding (1e-7); a wrong one is off by about 1.
ROTATION_LIMIT = 1e-4


@dataclasses.dataclass
class Rope:
    layout: str                       # half, interleaved, none
    inv_freq: torch.Tensor | None
    scale: float                      # attention factor inside cos and sin
    normed: bool                      # the keys came from a norm


@dataclasses.dataclass
class Surroundings:
    rope: Rope | None = None
    x2: torch.Tensor | None = None    # [T] squared length of the residual stream entering the layer
    w_o: torch.Tensor | None = None   # [hidden, q_heads * d_v]
    post_norm: bool = False
    kv_source: int = -1


class Anatomy:
    """Hooks around the attention modules of one forward pass; results in `found[layer]`."""

    def __init__(self, model, modules, wanted):
        self.tables = rotary_tables(model)
        self.found = {i: Surroundings() for i in wanted}
        self.sources = {i: [] for i in wanted}     # (name, output) of the attention's children, in order
        self.outputs = {}                          # attention output awaiting its projection
        self.projected = {}                        # what the attention module returned
        self.digests = {}                          # K and V digest -> first layer that had them
        self.hooks = []
        names = {module: name for name, module in model.named_modules()}
        for i in wanted:
            block = model.get_submodule(names[modules[i]].rpartition(".")[0])
            self.watch(i, block, modules[i])

    def watch(self, i, block, attention):
        add = self.hooks.append
        add(block.register_forward_pre_hook(lambda m, a, kw: self.enter_block(i, a, kw), with_kwargs=True))
        add(attention.register_forward_hook(lambda m, a, out: self.leave_attention(i, out)))
        for name, child in attention.named_modules():
            if child is not attention:
                add(child.register_forward_pre_hook(lambda m, a: self.enter_child(i, m, a)))
                add(child.register_forward_hook(lambda m, a, out, name=name: self.leave_child(i, name, out)))
        for name, sibling in block.named_children():
            if sibling is not attention:
                add(sibling.register_forward_pre_hook(lambda m, a: self.enter_sibling(i, m, a)))

    def remove(self):
        for hook in self.hooks:
            hook.remove()

    def enter_block(self, i, args, kwargs):
        x = args[0] if args else kwargs["hidden_states"]
        if x.dim() == 3:      # a model that carries several streams (Gemma 3n) has no single x2
            self.found[i].x2 = x[0].double().square().sum(-1).float()

    def leave_child(self, i, name, out):
        if torch.is_tensor(out) and i not in self.outputs:
            self.sources[i].append((name, out[0]))

    def on_layer(self, i, layer):
        """Called by the tap between the projections and the output projection of layer i."""
        owner = self.digests.setdefault(digest_kv(layer), i)
        if i not in self.found:
            return
        self.found[i].kv_source = owner
        if owner == i:
            layer.latent = find_latent(i, layer, self.sources[i])
            find = find_pair_rotation if layer.latent else find_rotation
            self.found[i].rope = find(i, layer, self.sources[i], self.tables)
        elif owner in self.found:
            self.found[i].rope = self.found[owner].rope
        self.sources[i].clear()
        self.outputs[i] = layer.out.transpose(0, 1).reshape(layer.out.shape[1], -1)

    def enter_child(self, i, module, args):
        out, weight = self.outputs.get(i), getattr(module, "weight", None)
        if out is None or weight is None or weight.dim() != 2 or not args or args[0].shape[1:] != out.shape:
            return
        if torch.equal(args[0][0], out):
            # GPT-2's Conv1D keeps [in, out], every Linear [out, in]
            self.found[i].w_o = weight.T if type(module).__name__ == "Conv1D" else weight

    def leave_attention(self, i, out):
        self.outputs.pop(i, None)
        self.projected[i] = out[0] if isinstance(out, tuple) else out

    def enter_sibling(self, i, module, args):
        """Only the very tensor counts: after the residual addition it is another one."""
        if args and args[0] is self.projected.get(i) and "norm" in type(module).__name__.lower():
            self.found[i].post_norm = True


def digest_kv(layer):
    h = xxhash.xxh3_128()
    for x in (layer.k, layer.v):
        h.update(x.contiguous().numpy())
    return h.digest()


def rotary_tables(model):
    """(inv_freq, attention factor) of every rotary module, read after their own scaling rules ran."""
    tables = []
    for name, module in model.named_modules():
        for buffer, value in module.named_buffers(recurse=False):
            if buffer.endswith("inv_freq") and "original" not in buffer and value.dim() == 1:
                factor = getattr(module, buffer.replace("inv_freq", "attention_scaling"), 1.0)
                tables.append((value, float(factor)))
    return tables


def find_rotation(i, layer, sources, tables):
    best = (float("inf"), None)
    for name, out in reversed(sources):           # the last thing that touched the keys comes first
        normed = "norm" in name.lower()
        for pre in as_keys(out, layer):
            for error, layout, inv_freq, scale in rotations(pre, layer.k, tables):
                if error < best[0]:
                    best = (error, Rope(layout, inv_freq, scale, normed))
        if best[0] < ROTATION_LIMIT:
            return best[1]
    raise Refusal(f"layer {i} ({type(layer.module).__name__})", "keys",
                  "a rotation of leading dimensions by one of the model's inv_freq buffers, or none",
                  f"no match (best relative distance {best[0]:.2g})")


def find_pair_rotation(i, layer, sources, tables):
    """Of a latent's rotated key: as pairs over all columns, the latent's own with frequency 0."""
    latent = layer.latent
    error, layout, inv_freq, scale = find_latent_rotation(latent, sources, lambda pre, k: rotations(pre, k, tables))
    if error >= ROTATION_LIMIT or layout == "none" or scale != 1:
        raise Refusal(f"layer {i} ({type(layer.module).__name__})", "rotated key",
                      "a rotation by one of the model's inv_freq buffers, attention factor 1",
                      f"{layout or 'no match'}, factor {scale:g} (relative distance {error:.2g})")
    if layout == "half":
        latent.q, latent.k = side_by_side(latent.q, latent.rank), side_by_side(latent.k, latent.rank)
    return Rope("interleaved", latent.inv_freq(inv_freq), 1.0, True)


def as_keys(out, layer):
    """Every way a projection's output can hold the keys [kv_heads, T, d]: alone, or fused with q and v."""
    groups, T, d = layer.k.shape
    heads = layer.q.shape[0]
    if out.shape == (groups, T, d):
        yield out
    if out.shape[0] != T:
        return
    flat = out.reshape(T, -1)
    if flat.shape[1] == groups * d:
        yield flat.view(T, groups, d).transpose(0, 1)
    if flat.shape[1] == heads * d + groups * (d + layer.v.shape[2]):
        yield flat[:, heads * d:(heads + groups) * d].reshape(T, groups, d).transpose(0, 1)
        if heads == groups and layer.v.shape[2] == d:     # GPT-NeoX: q, k, v of a head side by side
            yield flat.view(T, heads, 3, d)[:, :, 1].transpose(0, 1)


def rotations(pre, k, tables):
    norm = k.norm()
    yield float((pre - k).norm() / norm), "none", None, 1.0
    for inv_freq, scale in tables:
        if 2 * len(inv_freq) > k.shape[2]:
            continue
        for layout in ("half", "interleaved"):
            turned = rotate(pre, inv_freq, scale, layout)
            yield float((turned - k).norm() / norm), layout, inv_freq, scale


def rotate(x, inv_freq, scale, layout):
    """x [heads, T, d] at positions 0..T-1, angles in f32 as the model computes them."""
    angle = torch.arange(x.shape[1], dtype=torch.float32)[:, None] * inv_freq.float()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    half = len(inv_freq)
    out = x.clone()
    a, b = (slice(0, half), slice(half, 2 * half)) if layout == "half" else \
           (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    out[..., a] = x[..., a] * cos - x[..., b] * sin
    out[..., b] = x[..., b] * cos + x[..., a] * sin
    return out
