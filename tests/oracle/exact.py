"""Exact attention of the stored tensors, in float64: the definition that every error refers to."""
import numpy as np


def logits_of(layer, queries, keys):
    """Scaled, soft-capped logits of queries [n, d_k] on keys [m, d_k]; no mask yet."""
    logits = layer.scale * (queries @ keys.T)
    if layer.softcap:
        logits = layer.softcap * np.tanh(logits / layer.softcap)
    return logits


def query_heads(layer, head):
    """The query heads that read KV head `head`."""
    return slice(head * layer.group, (head + 1) * layer.group)


def sink_logits(layer, heads):
    """[n, 1] extra logits of a slice of query heads, or None."""
    return None if layer.sink_logits is None else layer.sink_logits[heads, None]


def softmax(logits, sink=None):
    """Rows of weights; -inf has none. A sink takes its share of the denominator and has no value."""
    top = logits.max(axis=-1, keepdims=True)
    if sink is not None:
        top = np.maximum(top, sink)
    weights = np.exp(logits - top)
    total = weights.sum(axis=-1, keepdims=True)
    if sink is not None:
        total = total + np.exp(sink - top)
    return weights / total


LOWEST = 2.0 ** -60      # of a row's largest: the program takes what is lower for 0, and ranks it so (kernels/exp.h)


def noticed(weights):
    """Rows of weights as a policy sees them. What a row lacks of 1 is its sink's."""
    top = np.maximum(weights.max(axis=-1, keepdims=True, initial=0), 1 - weights.sum(axis=-1, keepdims=True))
    return np.where(weights < LOWEST * top, 0.0, weights)


def first_visible(layer, t):
    """A query at t sees keys t - window + 1 .. t, or 0 .. t."""
    return max(0, t - layer.window + 1) if layer.window else 0


def visible_mask(layer, times, tokens):
    keys = np.arange(tokens)
    first = np.array([first_visible(layer, t) for t in times])
    return (keys[None, :] <= np.asarray(times)[:, None]) & (keys[None, :] >= first[:, None])


def weights_of(layer, query_head, times):
    """Exact attention weights [len(times), T] of one query head."""
    keys = layer.k[query_head // layer.group]
    logits = logits_of(layer, layer.q[query_head, times], keys)
    logits = np.where(visible_mask(layer, times, len(keys)), logits, -np.inf)
    return softmax(logits, sink_logits(layer, slice(query_head, query_head + 1)))


def attention(layer, times):
    """Weights [q_heads, S, T] and outputs [q_heads, S, d_v] of the queries at `times`."""
    heads = range(layer.q.shape[0])
    weights = np.stack([weights_of(layer, h, times) for h in heads])
    outputs = np.stack([weights[h] @ layer.v[h // layer.group] for h in heads])
    return weights, outputs
