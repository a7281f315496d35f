"""Models cut into packages, and rotary positions scaled otherwise than the model says."""

import argparse
import hashlib
import os
import unittest
from unittest import mock

import transformers

import support as s      # first: it puts traces/record on the path
import packages
import rope_scaling
from refusal import Refusal


class File:
    """What importlib.metadata says of one file of a package."""
    def __init__(self, folder, name, content):
        self.path, self.name = os.path.join(folder, name), name
        with open(self.path, "wb") as f:
            f.write(content)

    def locate(self):
        return self.path

    def read_text(self):
        with open(self.path) as f:
            return f.read()


class Packages(unittest.TestCase):
    CONTENT = bytes(range(256)) * 40

    def model(self, folder, parts, checksum=None):
        """A package `whole` that requires one package a part."""
        size = -(-len(self.CONTENT) // 3)
        files = {f"part{i}": [File(folder, f"m.gguf.part0{n}", self.CONTENT[i * size:(i + 1) * size])]
                 for i, n in enumerate(parts)}
        own = [File(folder, "SHA256SUMS", f"{checksum}  m.gguf\n".encode())] if checksum else []
        return mock.patch.multiple(packages, files_of=lambda name: files.get(name, own),
                                   importlib=mock.Mock(metadata=mock.Mock(requires=lambda _: list(files))))

    def joined(self, parts, checksum=None):
        with s.folder() as folder, mock.patch.dict(os.environ, KVBENCH_CACHE=os.path.join(folder, "cache")), \
                self.model(folder, parts, checksum):
            try:
                path = packages.gguf_of_package("whole")
                self.assertEqual(packages.gguf_of_package("whole"), path)       # the second time from the cache
                with open(path, "rb") as f:
                    return f.read()
            finally:
                models = os.path.join(folder, "cache", "models")
                left = os.listdir(models) if os.path.isdir(models) else []
                self.assertEqual([name for name in left if name != "m.gguf"], [])

    def test_parts_are_joined_in_order(self):
        self.assertEqual(self.joined((0, 1, 2)), self.CONTENT)
        self.assertEqual(self.joined((0, 1, 2), hashlib.sha256(self.CONTENT).hexdigest()), self.CONTENT)

    def test_a_wrong_digest_is_refused(self):
        with self.assertRaises(Refusal) as caught:
            self.joined((0, 1, 2), "0" * 64)
        self.assertIn("expected sha256 000", str(caught.exception))

    def test_a_missing_part_is_refused(self):
        with self.assertRaises(Refusal) as caught:
            self.joined((0, 2, 3))
        self.assertIn("parts numbered 0..2", str(caught.exception))


class RopeScaling(unittest.TestCase):
    def test_words(self):
        self.assertEqual(rope_scaling.parse("yarn:factor=4:beta_fast=16"),
                         {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16})
        for wrong in ("yran", "yarn:factor", "yarn:factor=much"):
            with self.assertRaises(argparse.ArgumentTypeError):
                rope_scaling.parse(wrong)

    def test_it_reaches_the_recording(self):
        """YaRN's factor is 0.1 ln s + 1; the lowest frequency is divided by s, the highest stays."""
        config = transformers.LlamaConfig(**s.COMMON)
        plain = s.tiny("Llama")
        rope_scaling.apply(config, rope_scaling.parse("yarn:factor=8:original_max_position_embeddings=64"))
        scaled = s.tiny("Llama", rope_parameters=config.rope_parameters)
        rows = []
        for model in (plain, scaled):
            with s.recorded(model, s.random_ids(40), "--prefill", 30, "--layers", 1) as f:
                rows.append((f["layers/001"].attrs["rope_scale"], f["layers/001/rope_inv_freq"][()]))
        (one, before), (factor, after) = rows
        self.assertEqual(one, 1)
        self.assertAlmostEqual(factor, 1 + 0.1 * 2.0794415, places=6)
        self.assertAlmostEqual(before[-1] / after[-1], 8, places=4)
        self.assertAlmostEqual(before[0] / after[0], 1, places=4)

    def test_layers_of_two_kinds_keep_their_own_theta(self):
        config = transformers.Gemma3TextConfig(num_hidden_layers=2)
        rope_scaling.apply(config, rope_scaling.parse("linear:factor=2"))
        thetas = {kind: own["rope_theta"] for kind, own in config.rope_parameters.items()}
        self.assertEqual(len(set(thetas.values())), 2)
        self.assertTrue(all(own["factor"] == 2 for own in config.rope_parameters.values()))

    def test_a_model_without_rotation_is_refused(self):
        with self.assertRaises(Refusal):
            rope_scaling.apply(transformers.GPT2Config(), rope_scaling.parse("yarn:factor=2"))


if __name__ == "__main__":
    unittest.main()
