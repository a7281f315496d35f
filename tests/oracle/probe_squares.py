"""Squares of the probes' gradients by K and V, by the chain rule through the attention.

    o = sum_j a_j v_j, a = softmax(l), l_j = cap(scale q.k_j), g = dL/do:
    dL/dv_j = a_j g,   dL/dk_j = a_j (g.v_j - g.o) cap'(l_j) scale q

summed over a window's queries and a group's query heads, then squared and added over windows.
"""
import numpy as np

import exact


def slopes_of(layer, logits):
    return 1 - (logits / layer.softcap) ** 2 if layer.softcap else np.ones_like(logits)


def window_gradients(layer, head, gradient, window, prompt_length):
    """gradient [q_heads, window tokens, d_v] -> dL/dK, dL/dV of the prompt's rows."""
    d_keys = np.zeros((prompt_length, layer.k.shape[2]))
    d_values = np.zeros((prompt_length, layer.v.shape[2]))
    for q_head in range(head * layer.group, (head + 1) * layer.group):
        sinks = exact.sink_logits(layer, slice(q_head, q_head + 1))
        for i, t in enumerate(range(*window)):
            first = exact.first_visible(layer, t)
            keys, values = layer.k[head, first:t + 1], layer.v[head, first:t + 1]
            query, g = layer.q[q_head, t], gradient[q_head, i]
            logits = exact.logits_of(layer, query[None], keys)
            weights = exact.softmax(logits.copy(), sinks)[0]
            along = values @ g
            factor = weights * (along - weights @ along) * slopes_of(layer, logits[0]) * layer.scale
            seen = max(0, min(t + 1, prompt_length) - first)
            d_values[first:first + seen] += np.outer(weights[:seen], g)
            d_keys[first:first + seen] += np.outer(factor[:seen], query)
    return d_keys, d_values


def turned_back(trace, layer, gradients):
    """dL/d(unrotated) = R^T dL/d(rotated), scale included."""
    if layer.rope_layout == "none":
        return gradients
    from rotary import pair_columns
    angles = np.outer(trace.positions[:len(gradients)], layer.rope_inv_freq)
    cos, sin = np.cos(angles) * layer.rope_scale, np.sin(angles) * layer.rope_scale
    first, second = pair_columns(layer)
    result = gradients.copy()
    result[:, first] = gradients[:, first] * cos + gradients[:, second] * sin
    result[:, second] = gradients[:, second] * cos - gradients[:, first] * sin
    return result


def squares(trace, layer, head, kind):
    """(keys, unrotated keys, values), each [prompt, d]; None where the trace has no such probe."""
    probes = trace.probes
    stack = None if probes is None else probes.fisher.get(layer.index) if kind == "fisher" else (
        probes.label[layer.index][None] if layer.index in probes.label else None)
    if stack is None:
        return None
    length = trace.prefill_length
    sums = [np.zeros((length, d)) for d in (layer.k.shape[2], layer.k.shape[2], layer.v.shape[2])]
    for gradient in stack:
        at = 0
        for low, high in probes.windows:
            part = gradient[:, at:at + high - low]
            at += high - low
            d_keys, d_values = window_gradients(layer, head, part, (low, high), length)
            for total, one in zip(sums, (d_keys, turned_back(trace, layer, d_keys), d_values)):
                total += one ** 2 / len(stack)
    return sums
