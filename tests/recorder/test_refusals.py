"""Bad input: a message that names what was looked at, a non-zero exit, and no file left behind."""

import contextlib
import io
import os
import unittest

import support as s      # first: it puts traces/record on the path
import writer
from refusal import Refusal

TEXT = ["--text", os.path.join(s.DATA, "prose.txt")]
SIZE = ["--tokens", "64", "--prefill", "32"]


class CommandLine(unittest.TestCase):
    def refused(self, code, *words, flags=(), model=s.PACKAGE, text=TEXT, size=SIZE):
        with s.folder() as path:
            out = os.path.join(path, "t.h5")
            stderr = io.StringIO()
            with contextlib.redirect_stderr(stderr):
                try:
                    got = s.record.main(["--model", model, *text, *size, "--out", out, *flags])
                except SystemExit as e:      # argparse's own
                    got = e.code
            self.assertEqual(got, code, stderr.getvalue())
            self.assertEqual(os.listdir(path), [])
        for word in words:
            self.assertIn(word, stderr.getvalue())

    def test_missing_text(self):
        self.refused(3, "nowhere.txt", "readable file", "No such file", text=["--text", "nowhere.txt"])

    def test_binary_text(self):
        self.refused(3, "prose.h5", "UTF-8", "0x89", text=["--text", os.path.join(s.DATA, "prose.h5")])

    def test_missing_model(self):
        self.refused(3, "no-such-model", "model", "none of them", model="no-such-model")

    def test_package_without_weights(self):
        self.refused(3, "numpy", "one .gguf", "found 0", model="numpy")

    def test_folder_without_weights(self):
        self.refused(3, ".safetensors", "neither", model=s.HERE)

    def test_damaged_weights(self):
        with s.folder() as path:
            with open(os.path.join(path, "damaged.gguf"), "wb") as f:
                f.write(b"GGUF" + bytes(100))
            self.refused(3, "damaged.gguf", "causal language model", model=f.name)

    def test_prefill_of_the_whole_text(self):
        self.refused(2, "--prefill", "1..63", "found 64", size=["--tokens", "64", "--prefill", "64"])

    def test_window_past_the_end(self):
        self.refused(2, "--windows", "32:63", "60:64", flags=["--windows", "60:64"])

    def test_window_in_the_prompt(self):
        self.refused(2, "--windows", "30:34", flags=["--windows", "30:34"])

    def test_overlapping_windows(self):
        self.refused(2, "--windows", "39:44", flags=["--windows", "34:40,39:44"])

    def test_probes_without_windows(self):
        self.refused(2, "--fisher-probes", "--windows", flags=["--fisher-probes", "2"])

    def test_span_past_the_end(self):
        self.refused(2, "--spans needle", "0:64", "60:65", flags=["--spans", "needle=60:65"])

    def test_span_without_a_name(self):
        self.refused(2, "NAME=A:B", flags=["--spans", "3:5"])

    def test_words_for_layers(self):
        self.refused(2, "--layers", flags=["--layers", "few"])

    def test_no_folder_for_the_output(self):
        self.refused(5, "existing folder", flags=["--out", os.path.join(s.HERE, "none", "t.h5")])

    def test_as_a_program(self):
        code, stderr = s.command("--model", s.PACKAGE, "--text", "nowhere.txt", *SIZE, "--out", "t.h5")
        self.assertEqual(code, 3)
        self.assertEqual(stderr, "record: nowhere.txt: text: expected a readable file, "
                                 "found No such file or directory\n")


class Models(unittest.TestCase):
    """What only a loaded model can tell."""

    def refused(self, model, *words, flags=()):
        with s.folder() as path:
            args = s.arguments(os.path.join(path, "t.h5"), "--tokens", 20, "--prefill", 10, *flags)
            with self.assertRaises(Refusal) as caught:
                s.record.record_model(args, model, s.random_ids(20), s.ABOUT)
            self.assertEqual(os.listdir(path), [])
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_text_too_short(self):
        tokenizer = lambda text: {"input_ids": text.split()}
        with self.assertRaisesRegex(Refusal, "short.txt: text: expected at least 9 tokens, found 3"):
            s.record.first_tokens(tokenizer, "one two three", 9, "short.txt")

    def test_layer_out_of_range(self):
        self.refused(s.tiny("Llama"), "--layers", "0..3", "found 7", flags=["--layers", "1,7"])

    def test_model_without_attention(self):
        model = s.tiny("Mamba", num_hidden_layers=2)
        self.refused(model, "MambaForCausalLM", "pluggable attention")

    def test_rotation_that_the_format_cannot_say(self):
        """A rotated key beside a latent, with an attention factor that the latent has no part in."""
        from test_latent import MLA
        yarn = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=64)
        self.refused(s.tiny("DeepseekV3", **MLA, rope_parameters=yarn), "rotated key", "attention factor 1", "1.13")

    def test_rotation_by_no_table_of_the_model(self):
        model = s.tiny("Llama")
        model.model.rotary_emb.register_forward_hook(lambda m, a, out: tuple(x.roll(1, -1) for x in out))
        self.refused(model, "keys", "rotation of leading dimensions", "no match")

    def test_shared_keys_without_their_source(self):
        from test_tiny import shared_kv
        self.refused(s.tiny("Gemma4Text", **shared_kv()), "--layers", "layer 1 too", flags=["--layers", "3"])

    def test_attention_that_differs_from_the_models_own(self):
        """Llama 4 attends within chunks, which no argument of the attention function says: the NLL tells."""
        changes = dict(head_dim=16, attention_chunk_size=8, use_qk_norm=False, attn_temperature_tuning=False,
                       no_rope_layers=[1, 1, 1, 1], moe_layers=[], intermediate_size_mlp=64, num_local_experts=2)
        self.refused(s.tiny("Llama4Text", **changes), "NLL within", "own attention")

    def test_values_beyond_half_precision(self):
        model = s.tiny("Llama")
        model.model.layers[3].self_attn.v_proj.weight.data *= 1e6
        self.refused(model, "layers/003/v", "bf16 or f32")

    def test_infinite_values(self):
        model = s.tiny("Llama")
        model.model.layers[3].self_attn.v_proj.weight.data[0, 0] = float("inf")
        self.refused(model, "layers/003/v", "finite", flags=["--no-check"])

    def test_disk_that_refuses(self):
        with self.assertRaisesRegex(Refusal, "output: expected a file that can be written"):
            with writer.new_trace(os.path.join(os.devnull, "t.h5")):
                self.fail("opened")

    def test_interrupted(self):
        with s.folder() as path:
            with self.assertRaises(KeyboardInterrupt):
                with writer.new_trace(os.path.join(path, "t.h5")) as f:
                    f["token_ids"] = [1, 2]
                    raise KeyboardInterrupt
            self.assertEqual(os.listdir(path), [])


if __name__ == "__main__":
    unittest.main()
