"""Rows that NVIDIA's kvpress 0.5.5 keeps when fed the same tensors; skipped where it is missing.

kvpress needs torch and transformers, so this is not part of requirements.txt. Only its `score`
functions are called, with keys, values and exact attention weights from a trace.
"""
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import exact
import specs
from policies import best
from prompt import Prompt
from synthetic import Case, write_trace
from trace_file import read_trace

try:
    import kvpress
    import torch
except ImportError:
    kvpress = None

BUDGET = 150
SETTINGS = {
    "knorm": ("", "KnormPress", {}),
    "keydiff": ("", "KeyDiffPress", {}),
    "lagkv": (":sinks=4:lag=64", "LagKVPress", dict(n_sink=4, lag_size=64)),
    "snapkv": (":observation_window=32:kernel=5", "SnapKVPress", dict(window_size=32, kernel_size=5)),
    "tova": (":when=prefill", "TOVAPress", {}),
}


@unittest.skipIf(kvpress is None, "kvpress is not installed")
class SameRows(unittest.TestCase):
    def setUp(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.h5"
            write_trace(path, Case(tokens=400, prefill=390, layers=1, probes=False, w_o=False))
            self.trace = read_trace(path)

    def their_scores(self, name, settings):
        layer, length = self.trace.layers[0], self.trace.prefill_length
        tensor = lambda rows: torch.tensor(rows[None, :, :length])
        weights, _ = exact.attention(layer, np.arange(length))
        module = SimpleNamespace(config=SimpleNamespace(num_attention_heads=len(layer.q)),
                                 head_dim=layer.k.shape[2])
        press = getattr(kvpress, name)(compression_ratio=0.5, **settings)
        scores = press.score(module, torch.zeros(1, length, 1), tensor(layer.k), tensor(layer.v),
                             torch.tensor(weights[None, :, :, :length]), {})
        return scores[0].double().numpy()

    def test_same_rows_kept(self):
        for name, (parameters, press, settings) in SETTINGS.items():
            prompt = Prompt(self.trace.layers[0], self.trace.tokens, self.trace.prefill_length)
            policy = specs.make_policy(specs.parse(f"{name}:budget={BUDGET}{parameters}"), prompt)
            for head, scores in enumerate(self.their_scores(press, settings)):
                kept = np.flatnonzero(policy.keep(head))
                np.testing.assert_array_equal(kept, best(scores, BUDGET), f"{name} head {head}")


if __name__ == "__main__":
    unittest.main()
