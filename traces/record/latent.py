"""The latent view of multi-head latent attention (MLA), as its cache holds it.

The model expands a latent c [rank] and one rotated key r [rope] per token into keys and values of every
head: k_h = [W_UK,h c ; r], v_h = W_UV,h c. The cache holds c and r alone. With W_UK in the queries and W_UV in
the output projection the same attention reads them directly (DeepSeek-V2, arXiv 2405.04434, section 2.1):

    k = [c ; r] (one head),  v = c = k[..., :rank],  q_h = [W_UK,h^T q_nope,h ; q_rope,h]
    output_h = W_UV,h (sum_j a_j c_j),  so the projection becomes W_O,h W_UV,h and a gradient W_UV,h^T g_h.

The rotated pairs stand last, and side by side: then `interleaved` over all columns, with frequency 0 for
the latent's pairs, says the rotation without a word that the format does not have.
"""

import dataclasses

import torch

from refusal import Refusal

IDENTITY_LIMIT = 1e-4     # relative distance of the expanded keys and values from W c; f32 rounding is 1e-7


@dataclasses.dataclass
class Latent:
    q: torch.Tensor       # [q_heads, T, rank + rope]
    k: torch.Tensor       # [1, T, rank + rope]
    w_uv: torch.Tensor    # [q_heads, d_v, rank]

    @property
    def rank(self):
        return self.w_uv.shape[2]

    def gradient(self, g):
        """[q_heads, n, d_v] -> [q_heads, n, rank]."""
        return g @ self.w_uv

    def projection(self, w_o):
        """[hidden, q_heads * d_v] -> [hidden, q_heads * rank]."""
        heads, d_v, rank = self.w_uv.shape
        return torch.einsum("dhv,hvr->dhr", w_o.view(-1, heads, d_v), self.w_uv).reshape(-1, heads * rank)

    def inv_freq(self, rotated):
        return torch.cat([torch.zeros(self.rank // 2, dtype=rotated.dtype), rotated])


def find_latent(index, layer, sources):
    """The Latent of a layer whose module expands one, else None. sources: (name, output) of its children."""
    expand, c = getattr(layer.module, "kv_b_proj", None), normed_latent(sources)
    if expand is None or c is None:
        return None
    heads, _, width = layer.k.shape
    d_v, rank = layer.v.shape[2], c.shape[-1]
    if expand.weight.shape[0] % heads:
        return None
    nope = expand.weight.shape[0] // heads - d_v
    if not 0 < nope < width:
        return None
    w = expand.weight.view(heads, nope + d_v, rank)
    w_uk, w_uv = w[:, :nope], w[:, nope:]
    check(index, layer, torch.cat([c @ w_uk.transpose(1, 2), c @ w_uv.transpose(1, 2)], -1), nope)
    if rank % 2:
        raise Refusal(f"layer {index} ({type(layer.module).__name__})", "latent", "an even rank", rank)
    q = torch.cat([layer.q[..., :nope] @ w_uk, layer.q[..., nope:]], -1)
    return Latent(q, torch.cat([c, layer.k[0, :, nope:]], -1)[None], w_uv)


def normed_latent(sources):
    found = [out for name, out in sources if name == "kv_a_layernorm"]
    return found[-1].reshape(-1, found[-1].shape[-1]) if found else None


def check(index, layer, expanded, nope):
    """What the model expanded must be what the weights say, and the rotated key one for all heads."""
    own = torch.cat([layer.k[..., :nope], layer.v], -1)
    error = float((own - expanded).norm() / own.norm())
    shared = bool((layer.k[1:, :, nope:] == layer.k[:1, :, nope:]).all())
    if error > IDENTITY_LIMIT or not shared:
        raise Refusal(f"layer {index} ({type(layer.module).__name__})", "latent attention",
                      "keys and values that are kv_b_proj of the latent, beside one rotated key",
                      f"relative distance {error:.2g}, {'one rotated key' if shared else 'several rotated keys'}")


def find_latent_rotation(latent, sources, rotations):
    """(error, Rope's layout, inv_freq, scale) of the rotated key; `rotations` as in anatomy.py."""
    best = (float("inf"), None, None, 1.0)
    for name, out in sources:
        if name == "kv_a_proj_with_mqa":
            before = out[None, :, latent.rank:]
            for order in (before, halves(before)):
                best = min([best, *rotations(order, latent.k[..., latent.rank:])], key=lambda found: found[0])
    return best


def halves(x):
    """Pairs (x[2i], x[2i + 1]) to halves: some weights keep pairs and rotate halves."""
    return torch.cat([x[..., 0::2], x[..., 1::2]], -1)


def side_by_side(x, first):
    """Columns first.. from halves (x[i], x[i + n/2]) to pairs (x[2i], x[2i + 1])."""
    rotated = x[..., first:]
    half = rotated.shape[-1] // 2
    paired = torch.stack([rotated[..., :half], rotated[..., half:]], -1).flatten(-2)
    return torch.cat([x[..., :first], paired], -1)
