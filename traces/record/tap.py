"""An attention function for transformers that keeps what it is given.

transformers hands a registered attention function the queries and keys as the cache would hold them:
post-rotary, after any q/k norm, keys and values not repeated for grouped queries. The function builds
its own mask (a name unknown to the mask registry gets none) and computes the attention in plain f32.

Two modes. Recording: the whole text runs once and every layer's K and V are kept. Window: only the
tokens of a gradient window run, in front of them the recorded keys and values as constants, and a
zero tensor is added to each layer's output, whose gradient is the gradient of the output itself.
"""

import dataclasses

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from latent import Latent
from refusal import Refusal

NAME = "kvbench_tap"
ROWS = 256        # queries per step: bounds the logits matrix at ROWS x T per head


@dataclasses.dataclass
class Layer:
    """What one layer's attention was given, batch dimension dropped."""
    module: torch.nn.Module
    q: torch.Tensor              # [q_heads, T, d_k]
    k: torch.Tensor              # [kv_heads, T, d_k]
    v: torch.Tensor              # [kv_heads, T, d_v]
    out: torch.Tensor            # [q_heads, T, d_v]
    scale: float
    softcap: float               # 0 = none
    window: int                  # 0 = sees everything before it
    sinks: torch.Tensor | None   # [q_heads]
    latent: Latent | None = None # the cache's own view, when the module expands a latent


class Tap:
    def __init__(self, keep=None):
        self.keep = keep         # layers whose Q and output are wanted; None = all
        self.layers = {}
        self.prefix = None       # window mode: position of the first token that runs
        self.zeros = {}
        self.on_layer = None     # called with (index, Layer) while the layer's own tensors are alive

    def attach(self, model):
        """Switches the model over; a model that does not follow the interface stays as it is."""
        ALL_ATTENTION_FUNCTIONS.register(NAME, self.attend)
        try:
            model.set_attn_implementation(NAME)
        except (ValueError, KeyError, ImportError) as e:
            raise Refusal(type(model).__name__, "attention", "transformers' pluggable attention", str(e))
        if model.config.get_text_config()._attn_implementation != NAME:
            raise Refusal(type(model).__name__, "attention", "transformers' pluggable attention",
                          "a model that does not use it")

    def attend(self, module, query, key, value, attention_mask=None, *, scaling=None, sliding_window=None,
               softcap=None, s_aux=None, position_bias=None, is_causal=None, **unused):
        index = module.layer_idx
        refuse_unknown(index, module, query, position_bias, is_causal)
        scale = float(scaling) if scaling is not None else query.shape[-1] ** -0.5
        rule = dict(scale=scale, softcap=float(softcap or 0), window=int(sliding_window or 0), sinks=s_aux)
        q, k, v = query[0], key[0], value[0]
        if self.prefix is None:
            out = self.record(index, module, q, k, v, rule)
        else:
            out = self.replay(index, q, k, v, rule)
        return out.transpose(0, 1).unsqueeze(0), None      # [1, T, q_heads, d_v]

    def record(self, index, module, q, k, v, rule):
        out = attention(q, k, v, 0, **rule)
        layer = Layer(module, q, k, v, out, **rule)
        if self.on_layer:
            self.on_layer(index, layer)
        if self.keep is not None and index not in self.keep:
            layer.q = layer.out = None      # the window passes still need everybody's K and V
        self.layers[index] = layer
        return out

    def replay(self, index, q, k, v, rule):
        seen = self.layers[index]
        k = torch.cat([seen.k[:, :self.prefix], k], dim=1)
        v = torch.cat([seen.v[:, :self.prefix], v], dim=1)
        out = attention(q, k, v, self.prefix, **rule)
        return out + self.zeros[index] if index in self.zeros else out


def refuse_unknown(index, module, query, position_bias, is_causal):
    """Ingredients that the trace format cannot say. A wrong trace would be worse than none."""
    where = f"layer {index} ({type(module).__name__})"
    if query.shape[0] != 1:
        raise Refusal(where, "batch", 1, query.shape[0])
    if position_bias is not None:
        raise Refusal(where, "attention", "logits from q.k alone", "an additive position bias")
    if is_causal is False or getattr(module, "is_causal", True) is False:
        raise Refusal(where, "attention", "causal", "not causal")


def attention(q, k, v, first, scale, softcap=0.0, window=0, sinks=None):
    """q [q_heads, n, d] at positions first.., k and v [kv_heads, m, d] at positions 0..m-1."""
    steps = [attention_rows(q[:, a:a + ROWS], k, v, first + a, scale, softcap, window, sinks)
             for a in range(0, q.shape[1], ROWS)]
    return torch.cat(steps, dim=1)


def attention_rows(q, k, v, first, scale, softcap, window, sinks):
    heads, n, _ = q.shape
    groups, m, _ = k.shape
    # Query head h reads KV head h / (heads / groups): heads of one group are neighbours, so they fold into rows.
    logits = q.reshape(groups, -1, q.shape[-1]) @ k.transpose(1, 2) * scale
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits.view(heads, n, m).masked_fill(hidden_keys(first, n, m, window), float("-inf"))
    if sinks is None:
        weights = torch.softmax(logits, dim=-1)
    else:
        extra = sinks.to(logits.dtype).view(heads, 1, 1).expand(heads, n, 1)
        weights = torch.softmax(torch.cat([logits, extra], dim=-1), dim=-1)[..., :-1]
    return (weights.reshape(groups, -1, m) @ v).view(heads, n, v.shape[-1])


def hidden_keys(first, n, m, window):
    """True where a query may not look: the future, and what a sliding window has left behind."""
    t = torch.arange(first, first + n)[:, None]
    j = torch.arange(m)[None, :]
    hidden = j > t
    return hidden | (j <= t - window) if window else hidden
