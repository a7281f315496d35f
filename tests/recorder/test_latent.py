"""Latent attention (MLA): the cache's own view, against the model that expands it."""

import unittest

import torch

import support as s      # first: it puts traces/record on the path
from test_probes import directional, step, window_loss

T, RANK, ROPE, HEADS = 40, 32, 8, 6
MLA = dict(num_key_value_heads=HEADS, q_lora_rank=24, kv_lora_rank=RANK, qk_rope_head_dim=ROPE, qk_nope_head_dim=16,
           v_head_dim=12, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1,
           first_k_dense_replace=1, moe_intermediate_size=16, n_shared_experts=1)
FAMILIES = {
    "pairs in, halves rotated": ("DeepseekV3", MLA),
    "halves": ("DeepseekV3", dict(MLA, rope_interleave=False)),
    "pairs": ("DeepseekV2", dict(MLA, topk_method="greedy")),
    "another family": ("MiniCPM3", MLA),
}


class Latent(unittest.TestCase):
    def test_attention_of_the_latent_is_the_layer_s_output(self):
        """w_o of the trace takes the weighted latents to what the layer returns: f32 rounding, some 10 deep."""
        for family, (name, changes) in FAMILIES.items():
            model, ids, leaves = s.tiny(name, **changes), s.random_ids(T), []
            hooks = [(s.projection_of(s.attention_of(model, i)),
                      lambda m, a, out: leaves.append(out[0].numpy().copy()), False) for i in range(4)]
            s.run_own(model, ids, hooks)
            with s.recorded(model, ids, "--prefill", 30, "--dtype", "f32", "--w-o") as f:
                self.assertEqual(s.content_hash(f), f.attrs["content_hash"])
                for i in range(4):
                    group = f[f"layers/{i:03d}"]
                    self.assertEqual(group["k"].shape, (1, T, RANK + ROPE))
                    self.assertNotIn("v", group)
                    out = s.attention(f, i).transpose(1, 0, 2).reshape(T, -1) @ s.tensor(group["w_o"]).T
                    self.assertLess(s.distance(out, leaves[i]), 5e-6, f"{family}, layer {i}")

    def test_inverse_rotation_restores_what_the_projection_gave(self):
        """The latent's columns stay as they are; the rotated key comes back, its pairs side by side."""
        for family, (name, changes) in FAMILIES.items():
            model, ids, keys, latents = s.tiny(name, **changes), s.random_ids(T), [], []
            attention = s.attention_of(model, 2)
            s.run_own(model, ids, [
                (attention.kv_a_proj_with_mqa, lambda m, a, out: keys.append(out[0, :, RANK:].numpy().copy()), False),
                (attention.kv_a_layernorm, lambda m, a, out: latents.append(out[0].numpy().copy()), False)])
            with s.recorded(model, ids, "--prefill", 30, "--dtype", "f32", "--layers", 2) as f:
                back = s.pre_rotary_keys(f, 2)[0]
            halves = "halves" == family or name == "MiniCPM3"
            own = keys[0].reshape(T, 2, -1).transpose(0, 2, 1).reshape(T, -1) if halves else keys[0]
            self.assertLess(s.distance(back[:, :RANK], latents[0]), 1e-6, family)
            self.assertLess(s.distance(back[:, RANK:], own), 2e-6, family)

    def test_gradient_of_the_latent_agrees_with_a_finite_difference(self):
        """An error of the weighted latents moves the layer's output through W_UV, and the loss with it."""
        model, ids, lo, hi = s.tiny("DeepseekV3", **MLA), s.random_ids(T), 31, 37
        weight = s.attention_of(model, 1).kv_b_proj.weight.view(HEADS, -1, RANK)[:, 16:]
        with s.recorded(model, ids, "--prefill", 30, "--windows", f"{lo}:{hi}", "--dtype", "f32") as f:
            g = torch.from_numpy(s.tensor(f["grad/label/001"]) * f["grad/label/001"].attrs["unit"]).float()
        self.assertEqual(g.shape, (HEADS, hi - lo, RANK))
        error = step(g, 1e-3)
        moved = torch.einsum("hnr,hvr->nhv", error, weight).reshape(hi - lo, -1)
        measured = directional(window_loss(model, ids, lo, hi), 1, moved)
        self.assertLess(abs(float((g * error).sum()) / measured - 1), 1e-3)

    def test_what_is_no_plain_expansion_is_refused(self):
        model, ids = s.tiny("DeepseekV3", **MLA), s.random_ids(T)
        expand = s.attention_of(model, 1).kv_b_proj
        expand.register_forward_hook(lambda m, a, out: out * 1.01)
        with self.assertRaises(s.record.Refusal) as caught:
            with s.recorded(model, ids, "--prefill", 30):
                pass
        self.assertIn("kv_b_proj of the latent", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
