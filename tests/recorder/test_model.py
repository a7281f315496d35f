"""The real model: a short recording against the model's own attention, keys and losses."""

import importlib.metadata
import os
import unittest

import numpy as np
import torch

import support as s      # first: it puts traces/record on the path
import models
from test_probes import directional, step, stored, window_loss

T, PREFILL, WINDOW = 256, 192, (200, 232)
LAYERS = (2, 9, 17, 27)


def installed():
    try:
        importlib.metadata.distribution(s.PACKAGE)
        return True
    except importlib.metadata.PackageNotFoundError:
        return False


@unittest.skipUnless(installed(), f"package {s.PACKAGE} is not installed")
class RealModel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """One recording in half precision, and what the model's own attention says of the same tokens."""
        cls.weights = models.find_weights(s.PACKAGE)
        tokenizer = models.load_tokenizer(s.PACKAGE, cls.weights)
        cls.model = models.load_model(s.PACKAGE, cls.weights)
        with open(os.path.join(s.DATA, "prose.txt")) as f:
            cls.ids = torch.tensor(tokenizer(f.read())["input_ids"][:T])
        cls.outputs, cls.keys, hooks = {}, {}, []
        for i in LAYERS:
            attention = s.attention_of(cls.model, i)
            hooks.append((attention.o_proj, lambda m, a, i=i: cls.outputs.update({i: a[0][0].numpy().copy()}), True))
            hooks.append((attention.k_proj, lambda m, a, o, i=i: cls.keys.update({i: o[0].numpy().copy()}), False))
        cls.logits = s.run_own(cls.model, cls.ids, hooks)
        about = dict(s.ABOUT, model_config=models.config_json(cls.model))
        cls.context = s.recorded(cls.model, cls.ids, "--prefill", PREFILL, "--layers", ",".join(map(str, LAYERS)),
                                 "--windows", "%d:%d" % WINDOW, "--fisher-probes", 1, about=about)
        cls.file = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def test_attention_from_the_file(self):
        """Half precision rounds each entry by at most 2^-11 of itself; keys reach 19, so logits move by
        a few thousandths. Measured 4e-4 to 8e-4 (f32 tensors: 5e-7)."""
        for i in LAYERS:
            out = s.attention(self.file, i).transpose(1, 0, 2).reshape(T, -1)
            self.assertLess(s.distance(out, self.outputs[i]), 2e-3, f"layer {i}")

    def test_inverse_rotation(self):
        """Bounded by the rounding of half precision, 2^-11; measured 2e-4."""
        for i in LAYERS:
            own = self.keys[i].reshape(T, 3, 64).transpose(1, 0, 2)
            self.assertLess(s.distance(s.pre_rotary_keys(self.file, i), own), 2.0 ** -11, f"layer {i}")

    def test_nll(self):
        own = torch.nn.functional.cross_entropy(self.logits[:-1], self.ids[1:], reduction="none").numpy()
        self.assertLess(np.abs(self.file["nll"][1:] - own).max(), 1e-3)

    def test_label_gradient(self):
        """Step: 1e-2 of the output's own spread (RMSNorm computes in f32, smaller steps drown in rounding)."""
        lo, hi = WINDOW
        loss = window_loss(self.model, self.ids, lo, hi)
        for i in (LAYERS[0], LAYERS[-1]):
            g = stored(self.file, f"grad/label/{i:03d}")
            error = step(g, 1e-2 * float(self.outputs[i][lo:hi].std()))
            slope = directional(loss, i, error)
            self.assertLess(abs(float((g * error).sum()) / slope - 1), 2e-3, f"layer {i}")

    def test_gradient_unit_keeps_precision(self):
        for i in LAYERS:
            dataset = self.file[f"grad/fisher/0/{i:03d}"]
            self.assertTrue(512 <= np.abs(dataset[()]).max() <= 1024)

    def test_nothing_private_in_the_configuration(self):
        config = self.file.attrs["model_config"]
        self.assertIn('"num_hidden_layers": 30', config)
        for word in ("/", "name_or_path", "transformers_version", "site-packages"):
            self.assertNotIn(word, config)

    def test_digest_of_the_weights(self):
        with s.h5py.File(os.path.join(s.DATA, "prose.h5")) as f:
            self.assertEqual(models.digest(self.weights), f.attrs["model_digest"])


if __name__ == "__main__":
    unittest.main()
