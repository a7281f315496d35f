"""Gradient probes: how the next-token distribution answers to an error of an attention output.

A window's positions lo..hi-1 predict the tokens lo+1..hi. Only these positions run, on top of the
recorded keys and values of everything before; a backward pass through the whole text would give the
same numbers at T / (hi - lo) times the cost.

label      gradient of the sum of the window's NLL.
fisher     gradient of u.logits with u = sqrt(p) o eps - p (sqrt(p).eps), eps = +-1. The covariance of
           u is diag(p) - p pT, the Fisher matrix of the softmax, so the mean square of <gradient, error>
           estimates twice the KL divergence that a small error causes.
"""

import numpy as np
import torch


def window_seed(seed, window, probe):
    """One seed per (window, probe); distinct for fewer than 1000 probes."""
    return seed + 1000 * window + probe


def signs(seed, rows, columns):
    """+-1 from the raw bits of PCG64, whose stream numpy promises to keep."""
    words = np.random.PCG64(seed).random_raw((rows * columns + 63) // 64)
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")[:rows * columns]
    return torch.from_numpy(bits.astype(np.float32) * 2 - 1).view(rows, columns)


def fisher_direction(logits, seed):
    p = torch.softmax(logits, dim=-1)
    root = p.sqrt() * signs(seed, *p.shape)
    return root - p * root.sum(-1, keepdim=True)


def window_losses(logits, targets, seeds):
    """The scalars to differentiate: the label's first, then one per Fisher probe."""
    nll = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    return [nll] + [(fisher_direction(logits.detach(), s) * logits).sum() for s in seeds]


def window_gradients(model, tap, ids, window, wanted, seeds):
    """One dictionary layer -> [q_heads, hi - lo, d_v] per loss, label first."""
    lo, hi = window
    tap.prefix = lo
    tap.zeros = {i: zero_output(tap.layers[i], hi - lo) for i in wanted}
    positions = torch.arange(lo, hi)[None]
    logits = model(input_ids=ids[None, lo:hi], position_ids=positions, use_cache=False).logits[0].float()
    leaves = list(tap.zeros.values())
    losses = window_losses(logits, ids[lo + 1:hi + 1], seeds)
    # Every loss shares the one forward pass; the last one may let go of it.
    gradients = [torch.autograd.grad(loss, leaves, retain_graph=loss is not losses[-1]) for loss in losses]
    tap.prefix, tap.zeros = None, {}
    return [dict(zip(wanted, g)) for g in gradients]


def zero_output(layer, n):
    heads, _, d_v = layer.out.shape
    return torch.zeros(heads, n, d_v, requires_grad=True)


def power_of_two_unit(x):
    """Raw gradients are subnormal in half precision; stored = value / unit peaks in (512, 1024]."""
    peak = float(np.abs(x).max())
    return 2.0 ** (np.ceil(np.log2(peak)) - 10) if peak > 0 else 1.0
