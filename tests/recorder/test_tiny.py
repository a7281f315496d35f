"""Small random models of many families: everything that the trace says is checked against the model itself."""

import filecmp
import os
import unittest

import numpy as np

import support as s

T = 40
GEMMA = dict(head_dim=16, sliding_window=8, query_pre_attn_scalar=20,
             layer_types=["sliding_attention", "full_attention"] * 2)
FAMILIES = {      # what is special about it
    "llama": ("Llama", {}),
    "head_dim": ("Llama", dict(head_dim=32)),
    "yarn": ("Llama", dict(rope_parameters=dict(rope_type="yarn", rope_theta=1e4, factor=4.0,
                                                original_max_position_embeddings=64))),
    "qk_norm": ("Qwen3", dict(head_dim=16)),
    "gemma3": ("Gemma3Text", GEMMA),                                    # two rotary tables, norm after attention
    "gemma2": ("Gemma2", dict(GEMMA, attn_logit_softcapping=2.0)),      # softcap
    "gpt_oss": ("GptOss", dict(head_dim=16, sliding_window=8, num_local_experts=2, num_experts_per_tok=1,
                               layer_types=GEMMA["layer_types"])),      # attention sinks
    "phi3": ("Phi3", dict(sliding_window=None)),                        # q, k, v from one projection
    "neox": ("GPTNeoX", dict(num_key_value_heads=6)),                   # fused by head, a quarter rotates
    "cohere": ("Cohere", {}),                                           # interleaved layout
    "mqa": ("Llama", dict(num_key_value_heads=1)),
    "nope": ("SmolLM3", dict(no_rope_layers=[1, 0, 1, 0])),             # layers without rotation
}


def one_input(hooked):
    return lambda module, args: hooked.append(args[0][0].numpy().copy())


def one_output(hooked):
    return lambda module, args, out: hooked.append(out[0].numpy().copy())


class Families(unittest.TestCase):
    def check(self, family, dtype="f32", limit=2e-6):
        """f32: rounding of the model's own arithmetic, some 10 additions deep: 2e-6."""
        name, changes = FAMILIES[family]
        model, ids = s.tiny(name, **changes), s.random_ids(T)
        inputs, hooks = [], []
        for layer in range(4):
            hooks.append((s.projection_of(s.attention_of(model, layer)), one_input(inputs), True))
        s.run_own(model, ids, hooks)
        with s.recorded(model, ids, "--prefill", 30, "--dtype", dtype) as f:
            self.assertEqual(s.content_hash(f), f.attrs["content_hash"])
            for layer in range(4):
                out = s.attention(f, layer).transpose(1, 0, 2).reshape(T, -1)
                self.assertLess(s.distance(out, inputs[layer]), limit, f"{family}, layer {layer}")
            return {i: dict(f[f"layers/{i:03d}"].attrs) for i in range(4)}

    def test_llama(self):
        self.check("llama")

    def test_half_precision(self):
        """Each of q, k, v is off by at most 2^-12 of itself on average; logits here stay below 10."""
        self.check("llama", "f16", 2e-3)

    def test_bfloat16(self):
        self.check("llama", "bf16", 2e-2)

    def test_head_dim_of_its_own(self):
        self.check("head_dim")

    def test_yarn_factor_is_recorded(self):
        self.assertGreater(self.check("yarn")[0]["rope_scale"], 1.1)

    def test_qk_norm(self):
        self.assertEqual(self.check("qk_norm")[2]["qk_norm"], 1)

    def test_gemma3(self):
        layers = self.check("gemma3")
        self.assertEqual([layers[i]["window"] for i in range(4)], [8, 0, 8, 0])
        self.assertEqual([layers[i]["kind"] for i in range(2)], ["sliding", "full"])
        self.assertEqual(layers[0]["attn_post_norm"], 1)
        self.assertAlmostEqual(layers[0]["scale"], 20 ** -0.5)

    def test_softcap(self):
        self.assertEqual(self.check("gemma2")[1]["softcap"], 2.0)

    def test_sinks(self):
        self.check("gpt_oss")

    def test_fused_projection(self):
        self.assertEqual(self.check("phi3")[0]["rope_dims"], 8)

    def test_partial_rotation(self):
        self.assertEqual(self.check("neox")[0]["rope_dims"], 2)

    def test_interleaved(self):
        self.assertEqual(self.check("cohere")[0]["rope_layout"], "interleaved")

    def test_layers_without_rotation(self):
        layers = self.check("nope")
        self.assertEqual([layers[i]["rope_layout"] for i in range(4)], ["half", "none"] * 2)


class Details(unittest.TestCase):
    def test_inverse_rotation_restores_keys(self):
        for family in ("llama", "yarn", "gemma3", "cohere"):
            name, changes = FAMILIES[family]
            model, ids = s.tiny(name, **changes), s.random_ids(T)
            attention, keys = s.attention_of(model, 2), []
            source = getattr(attention, "k_norm", None) or attention.k_proj
            s.run_own(model, ids, [(source, one_output(keys), False)])
            with s.recorded(model, ids, "--prefill", 30, "--layers", 2, "--dtype", "f32") as f:
                restored = s.pre_rotary_keys(f, 2)
            own = keys[0] if keys[0].shape == restored.shape else \
                keys[0].reshape(T, restored.shape[0], -1).transpose(1, 0, 2)
            self.assertLess(s.distance(restored, own), 2e-6, family)

    def test_projection_and_residual_stream(self):
        """w_o maps the attention output to what the layer returns, x2 is the layer's input squared."""
        model, ids = s.tiny("Llama"), s.random_ids(T)
        block, enters, leaves = model.model.layers[1], [], []
        s.run_own(model, ids, [(block, one_input(enters), True), (block.self_attn.o_proj, one_output(leaves), False)])
        with s.recorded(model, ids, "--prefill", 30, "--layers", 1, "--dtype", "f32", "--w-o", "--x2") as f:
            heads = s.attention(f, 1).transpose(1, 0, 2).reshape(T, -1)
            self.assertLess(s.distance(heads @ s.tensor(f["layers/001/w_o"]).T, leaves[0]), 2e-6)
            self.assertLess(s.distance(f["layers/001/x2"][()], (enters[0] ** 2).sum(1)), 1e-6)

    def test_shared_keys_and_values(self):
        """Gemma 4's last layers read the keys and values of earlier ones."""
        model = s.tiny("Gemma4Text", **shared_kv())
        with s.recorded(model, s.random_ids(T), "--prefill", 30, "--dtype", "f32") as f:
            self.assertEqual([f[f"layers/{i:03d}"].attrs["kv_source"] for i in range(4)], [0, 1, 0, 1])
            self.assertNotIn("k", f["layers/003"])

    def test_nothing_of_the_schema_is_missing(self):
        model, ids = s.tiny("Llama"), s.random_ids(T)
        with s.recorded(model, ids, "--prefill", 30, "--windows", "31:35,36:39", "--fisher-probes", 2,
                        "--spans", "needle=2:5,7:9", "--question-start", 25) as f:
            self.check_root(f)
            self.check_layer(f["layers/003"])
            self.assertEqual(f["grad/fisher/1/003"].shape, (6, 7, 8))
            self.assertEqual(f["grad/fisher/1"].attrs["seeds"].dtype, np.int64)
            self.assertTrue(np.isnan(f["nll"][0]))
            np.testing.assert_array_equal(f["spans/needle"], [[2, 5], [7, 9]])

    def check_root(self, f):
        for name in ("format", "model", "model_digest", "model_config", "text", "recorder", "content_hash"):
            self.assertIsInstance(f.attrs[name], str, name)
        for name, kind in dict(version="i4", tokens="i8", prefill_length="i8", question_start="i8").items():
            self.assertEqual(f.attrs[name].dtype.str, "<" + kind, name)
        for name in ("token_ids", "positions", "spans/needle", "grad/windows"):
            self.assertEqual(f[name].dtype.str, "<i4", name)

    def check_layer(self, group):
        kinds = dict(scale="f8", softcap="f8", window="i8", kv_source="i8", rope_dims="i8", rope_scale="f8",
                     qk_norm="i4")
        for name, kind in kinds.items():
            self.assertEqual(group.attrs[name].dtype.str, "<" + kind, name)
        self.assertEqual(group["rope_inv_freq"].dtype.str, "<f8")
        self.assertIsNone(group["q"].chunks)

    def test_twice_the_same_bytes(self):
        model, ids = s.tiny("Llama"), s.random_ids(T)
        with s.folder() as path:
            files = [os.path.join(path, name) for name in "ab"]
            for out in files:
                s.record.record_model(s.arguments(out, "--tokens", T, "--prefill", 30, "--windows", "31:35",
                                                  "--fisher-probes", 1), model, ids, s.ABOUT)
            self.assertTrue(filecmp.cmp(*files, shallow=False))
            self.assertEqual(sorted(os.listdir(path)), ["a", "b"])

    def test_deflate_keeps_the_digest(self):
        model, ids = s.tiny("Llama"), s.random_ids(T)
        with s.recorded(model, ids, "--prefill", 30) as plain, \
             s.recorded(model, ids, "--prefill", 30, "--deflate") as f:
            self.assertEqual(plain.attrs["content_hash"], f.attrs["content_hash"])
            self.assertEqual(f["layers/000/q"].compression, "gzip")

    def test_same_tokens_with_shorter_text_before_the_end(self):
        """Causality: recording 30 tokens gives the first 30 of recording 40."""
        model, ids = s.tiny("Gemma3Text", **GEMMA), s.random_ids(T)
        with s.recorded(model, ids, "--prefill", 20, "--dtype", "f32") as long, \
             s.recorded(model, ids[:30], "--prefill", 20, "--dtype", "f32") as short:
            for name in "qkv":
                a, b = short[f"layers/003/{name}"][()], long[f"layers/003/{name}"][()]
                self.assertLess(s.distance(b[:, :30], a), 2e-6)


def shared_kv():
    return dict(head_dim=16, global_head_dim=16, num_kv_shared_layers=2, sliding_window=8,
                layer_types=["sliding_attention", "full_attention"] * 2, vocab_size_per_layer_input=97,
                hidden_size_per_layer_input=8, num_global_key_value_heads=2)


if __name__ == "__main__":
    unittest.main()
