"""Rows that NVIDIA's kvpress 0.5.5 keeps when fed the same tensors; skipped where it is missing.

kvpress needs torch and transformers, so this is not part of requirements.txt: the recorder's packages
and `pip install --no-deps kvpress==0.5.5` do. Its modules of single presses are imported without the
package's own __init__, whose pipelines want data sets, web clients and an older transformers. Only
`score` and `compress` are called, with keys, values and exact attention weights from a trace.
"""
import importlib
import importlib.util
import sys
import tempfile
import types
import unittest
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import exact
from makers import make_policy
import specs
from budgets import best, pyramid_of_kvpress
from policies import keep_prompt
from prompt import Prompt
from rotary import turned
from structural import think_channels
from synthetic import Case, write_trace
from trace_file import read_trace

def found():
    """kvpress as a package of modules; None where it, torch or transformers is missing."""
    try:
        spec = importlib.util.find_spec("kvpress")
        bare = types.ModuleType("kvpress")
        bare.__path__ = list(spec.submodule_search_locations)
        sys.modules["kvpress"] = bare
        importlib.import_module("kvpress.presses.scorer_press")
        return bare
    except (ImportError, AttributeError):
        sys.modules.pop("kvpress", None)
        return None


kvpress = found()
if kvpress:
    import torch


def press_of(name, *arguments, **settings):
    """AdaKVPress is in kvpress.presses.adakv_press, and so on."""
    module = MODULES.get(name, name.removesuffix("Press").lower())
    return getattr(importlib.import_module(f"kvpress.presses.{module}_press"), name)(*arguments, **settings)


MODULES = {"StreamingLLMPress": "streaming_llm", "ObservedAttentionPress": "observed_attention",
           "BlockPress": "block", "ExpectedAttentionPress": "expected_attention", "CriticalAdaKVPress": "criticalkv"}
BUDGET = 150
SETTINGS = {
    "knorm": ("", "KnormPress", {}),
    "keydiff": ("", "KeyDiffPress", {}),
    "lagkv": (":sinks=4:lag=64", "LagKVPress", dict(n_sink=4, lag_size=64)),
    "snapkv": (":observation_window=32:kernel=5", "SnapKVPress", dict(window_size=32, kernel_size=5)),
    "tova": (":when=prefill", "TOVAPress", {}),
    "streaming": (":sinks=4", "StreamingLLMPress", dict(n_sink=4)),
    "h2o": (":when=prefill:recent_percent=0:prefill_score=mean:reduce=mean", "ObservedAttentionPress", {}),
}
PROMPT = 390
RATIO = 1 - (BUDGET + 0.5) / PROMPT  # int(PROMPT * (1 - RATIO)) rows stay


@unittest.skipIf(kvpress is None, "kvpress is not installed")
class Fed(unittest.TestCase):
    """A layer whose tensors both sides are fed."""

    def setUp(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.h5"
            write_trace(path, Case(tokens=400, prefill=PROMPT, layers=1, probes=False))
            self.trace = read_trace(path)

    def their_scores(self, name, settings):
        layer, length = self.trace.layers[0], self.trace.prefill_length
        tensor = lambda rows: torch.tensor(rows[None, :, :length])
        weights, _ = exact.attention(layer, np.arange(length))
        module = SimpleNamespace(config=SimpleNamespace(num_attention_heads=len(layer.q)),
                                 head_dim=layer.k.shape[2])
        press = press_of(name, compression_ratio=RATIO, **settings)
        scores = press.score(module, torch.zeros(1, length, 1), tensor(layer.k), tensor(layer.v),
                             torch.tensor(weights[None, :, :, :length]), {})
        return scores[0].double().numpy()


@unittest.skipIf(kvpress is None, "kvpress is not installed")
class SameRows(Fed):
    def test_same_rows_kept(self):
        for name, (parameters, press, settings) in SETTINGS.items():
            prompt = Prompt(self.trace.layers[0], self.trace.tokens, self.trace.prefill_length)
            policy = make_policy(specs.parse(f"{name}:budget={BUDGET}{parameters}"), prompt)
            for head, scores in enumerate(self.their_scores(press, settings)):
                kept = np.flatnonzero(keep_prompt([policy])[head])
                np.testing.assert_array_equal(kept, best(scores, BUDGET), f"{name} head {head}")


@unittest.skipIf(kvpress is None, "kvpress is not installed")
class SameBudgets(Fed):
    """Presses that share budgets, on a trace whose votes come from the exact weights."""

    def policy(self, spec):
        prompt = Prompt(self.trace.layers[0], self.trace.tokens, self.trace.prefill_length, self.trace)
        return make_policy(specs.parse(spec), prompt)

    def snapkv_scores(self):
        return self.their_scores("SnapKVPress", dict(window_size=32, kernel_size=5))

    def test_adakv_with_its_safeguard(self):
        """The press marks what it would drop; its own rule is followed on its own scores."""
        scores = torch.tensor(self.snapkv_scores())[None]
        press = press_of("AdaKVPress", press_of("SnapKVPress", compression_ratio=RATIO))
        press.press.score = lambda *_: scores.clone()
        module = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
        press.compress(module, None, None, None, None, {})
        _, heads, rows = module.masked_key_indices
        kept = np.ones(scores.shape[1:], dtype=bool)
        kept[heads.numpy(), rows.numpy()] = False
        mine = self.policy(f"snapkv:budget={BUDGET}:observation_window=32:pooled_heads=1:floor_percent=20"
                           ":floor=safeguard")
        for head in range(scores.shape[1]):
            np.testing.assert_array_equal(keep_prompt([mine])[head], kept[head], f"head {head}")

    def with_w_o(self):
        """A module that knows the layer's output projection, as CriticalKV's presses read it."""
        layer = self.trace.layers[0]
        config = SimpleNamespace(num_attention_heads=len(layer.q), head_dim=layer.v.shape[2],
                                 hidden_size=len(layer.w_o), _attn_implementation="sdpa")
        return SimpleNamespace(config=config, head_dim=layer.k.shape[2], num_key_value_groups=layer.group,
                               o_proj=SimpleNamespace(weight=torch.tensor(layer.w_o)))

    def test_criticalkv(self):
        """Both stages, the second by |W_o v|_1, over snapkv's votes."""
        scores, values = torch.tensor(self.snapkv_scores())[None], self.trace.layers[0].v[None, :, :PROMPT]
        press = press_of("CriticalKVPress", press_of("SnapKVPress", compression_ratio=RATIO))
        press.press.score = lambda *_: scores.clone()
        values = torch.tensor(values, dtype=torch.float64)
        module = self.with_w_o()
        module.o_proj.weight = module.o_proj.weight.double()
        theirs = press.score(module, None, values, values, None, {})[0].numpy()
        mine = self.policy(f"criticalkv:budget={BUDGET}:observation_window=32:kernel=5")
        for head in range(len(theirs)):
            np.testing.assert_array_equal(np.flatnonzero(keep_prompt([mine])[head]), best(theirs[head], BUDGET))

    def test_think_channels(self):
        """The press weighs all keys; the paper's last 32, which stay whole, are not handed to it."""
        layer, dim = self.trace.layers[0], self.trace.layers[0].k.shape[2]
        press = press_of("ThinKPress", key_channel_compression_ratio=0.4)
        queries = layer.q[:, PROMPT - 32:PROMPT]
        press.compute_window_queries = lambda *_: torch.tensor(queries[None])
        module = SimpleNamespace(config=SimpleNamespace(num_attention_heads=len(layer.q)), head_dim=dim)
        pruned, _ = press.compress(module, None, torch.tensor(layer.k[None, :, :PROMPT - 32]), None, None,
                                   dict(hidden_states=None, position_embeddings=None))
        for head in range(len(layer.k)):
            mine = think_channels(layer.k[head, :PROMPT - 32], queries[head * layer.group:][:layer.group], 0.4)
            np.testing.assert_array_equal(mine, np.flatnonzero(pruned[0, head].abs().sum(0).numpy()))

    def test_pyramid_budgets(self):
        press = press_of("PyramidKVPress", compression_ratio=0.7, window_size=8, beta=20)
        for layer in range(30):
            module = SimpleNamespace(config=SimpleNamespace(num_hidden_layers=30), layer_idx=layer)
            theirs = press.get_layer_budget(module, 1000)
            self.assertEqual(theirs, pyramid_of_kvpress(1000 * (1 - 0.7), 8, 1000, 20, layer, 30), layer)

    def test_chunks(self):
        """300 of 390 rows in chunks of 20: 15 of 20, the last one short."""
        scores = torch.tensor(self.snapkv_scores())[None]
        press = press_of("ChunkKVPress", press_of("SnapKVPress", compression_ratio=1 - 15 / 20 - 1e-9),
                         chunk_length=20)
        press.press.score = lambda *_: scores
        marks = torch.arange(390.0).reshape(1, 1, 390, 1).expand(1, scores.shape[1], 390, 1)
        kept, _ = press.compress(SimpleNamespace(head_dim=1), None, marks, marks, None, {})
        mine = self.policy("chunkkv:budget=300:observation_window=32")
        np.testing.assert_array_equal(np.flatnonzero(keep_prompt([mine])[0]), kept[0, 0, :, 0].numpy().astype(int))

    def test_blocks(self):
        """Theirs begin behind the first rows that fit the budget, which is five blocks here."""
        keys = torch.tensor(self.trace.layers[0].k[None, :, :PROMPT])
        press = press_of("BlockPress", press_of("KeyDiffPress", compression_ratio=RATIO), block_size=30)
        marks = torch.arange(float(PROMPT)).reshape(1, 1, PROMPT, 1).expand(keys.shape)
        _, kept = press.compress(None, torch.zeros(1, PROMPT, keys.shape[1]), keys, marks, None, {})
        whole = self.policy(f"keydiff:budget={BUDGET}")
        mine = self.policy(f"keydiff:budget={BUDGET}:prompt_block=30")
        for head in range(keys.shape[1]):
            theirs = np.sort(kept[0, head, :, 0].numpy().astype(int))
            np.testing.assert_array_equal(np.flatnonzero(keep_prompt([mine])[head]), theirs, f"head {head}")
            self.assertTrue((keep_prompt([mine])[head] != keep_prompt([whole])[head]).any(), f"head {head}: blocks change nothing")

    def test_expected_attention(self):
        """Queries are handed to the press as they were before their rotation."""
        layer, length = self.trace.layers[0], self.trace.prefill_length
        module = importlib.import_module("kvpress.presses.expected_attention_press")
        positions = np.arange(length)
        before = np.stack([turned(layer, q[:length], -positions) for q in layer.q])
        press = press_of("ExpectedAttentionPress", compression_ratio=0.5, epsilon=0.02)

        def cos_sin(_, ids):
            angles = np.outer(ids[0].numpy(), layer.rope_inv_freq)
            both = np.concatenate([angles, angles], axis=1)[None]
            return torch.tensor(np.cos(both)), torch.tensor(np.sin(both))

        fake = SimpleNamespace(config=SimpleNamespace(num_attention_heads=len(layer.q)),
                               head_dim=layer.k.shape[2], rotary_emb=cos_sin)
        original = module.get_prerope_query_states
        module.get_prerope_query_states = lambda _, hidden: torch.tensor(before[None, :, 4:])
        try:
            scores = press.score(fake, torch.zeros(1, length, 1), torch.tensor(layer.k[None, :, :length]),
                                 torch.tensor(layer.v[None, :, :length]), None, {})[0].numpy()
        finally:
            module.get_prerope_query_states = original
        mine = self.policy(f"expected-attention:budget={BUDGET}:epsilon=0.02")
        for head in range(len(scores)):
            np.testing.assert_array_equal(np.flatnonzero(keep_prompt([mine])[head]), best(scores[head], BUDGET))


if __name__ == "__main__":
    unittest.main()
