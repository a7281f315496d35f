"""Gradient probes: against finite differences of the model's own attention on the whole text."""

import unittest

import numpy as np
import torch

import support as s      # first: it puts traces/record on the path
import probes

T, LO, HI = 40, 31, 37
STEP = 1e-3     # rms of the error added; measured disagreement 3e-5 in f32, of which half is rounding


def window_loss(model, ids, lo, hi, weights=None):
    """Sum of the window's NLL, or weights.logits, as a function of an error added to one layer's output."""
    def loss(layer, error):
        def add(module, args):
            x = args[0].clone()
            x[0, lo:hi] += error
            return (x,)
        projection = s.projection_of(s.attention_of(model, layer))
        logits = s.run_own(model, ids, [(projection, add, True)])[lo:hi].double()
        if weights is not None:
            return float((weights.double() * logits).sum())
        return float(torch.nn.functional.cross_entropy(logits, ids[lo + 1:hi + 1], reduction="sum"))
    return loss


def directional(loss, layer, direction):
    """Central differences at one and two steps, extrapolated: what is left is of fifth order."""
    one, two = (loss(layer, n * direction) - loss(layer, -n * direction) for n in (1, 2))
    return (8 * one - two) / 12


def stored(f, path):
    """[W, q_heads * d_v], as the output projection sees it."""
    g = s.tensor(f[path]) * f[path].attrs["unit"]
    return torch.from_numpy(g.transpose(1, 0, 2).reshape(g.shape[1], -1))


def step(g, size, seed=0):
    """Half along the gradient (a signal well above rounding), half at random (so that its direction counts)."""
    r = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(g.shape)))
    d = g / g.norm() + r / r.norm()
    return (d * size / d.square().mean().sqrt()).float()


class Probes(unittest.TestCase):
    def setUp(self):
        self.ids = s.random_ids(T)

    def check(self, model, windows, dtype, limit):
        flags = ["--prefill", 30, "--windows", windows, "--fisher-probes", 1, "--dtype", dtype, "--seed", 11]
        logits = s.run_own(model, self.ids, [])
        with s.recorded(model, self.ids, *flags) as f:
            offset = 0
            for n, (lo, hi) in enumerate(f["grad/windows"][()].tolist()):
                seed = int(f["grad/fisher/0"].attrs["seeds"][n])
                u = probes.fisher_direction(logits[lo:hi], seed)
                for path, weights in (("grad/label", None), ("grad/fisher/0", u)):
                    loss = window_loss(model, self.ids, lo, hi, weights)
                    for layer in range(4):
                        g = stored(f, f"{path}/{layer:03d}")[offset:offset + hi - lo]
                        error = step(g, STEP)
                        slope = directional(loss, layer, error)
                        self.assertLess(abs(float((g * error).sum()) / slope - 1), limit, f"{path} {layer} window {n}")
                offset += hi - lo

    def test_llama(self):
        self.check(s.tiny("Llama"), f"{LO}:{HI}", "f32", 1e-4)

    def test_two_windows_in_half_precision(self):
        self.check(s.tiny("Llama"), "30:33,35:39", "f16", 3e-4)

    def test_sliding_and_softcap(self):
        config = dict(head_dim=16, sliding_window=8, layer_types=["sliding_attention", "full_attention"] * 2,
                      attn_logit_softcapping=2.0)
        self.check(s.tiny("Gemma2", **config), f"{LO}:{HI}", "f32", 1e-4)

    def test_window_alone_equals_the_whole_text(self):
        """The prefix as constants changes nothing: a backward pass through all tokens gives the same gradients."""
        model = s.tiny("Llama")
        with s.recorded(model, self.ids, "--prefill", 30, "--windows", f"{LO}:{HI}", "--dtype", "f32") as f:
            for layer in range(4):
                whole = whole_text_gradient(model, self.ids, layer)
                self.assertLess(s.distance(stored(f, f"grad/label/{layer:03d}"), whole), 1e-5)


def whole_text_gradient(model, ids, layer):
    zero = torch.zeros(1, HI - LO, 48, requires_grad=True)

    def add(module, args):
        return (torch.cat([args[0][:, :LO], args[0][:, LO:HI] + zero, args[0][:, HI:]], dim=1),)

    model.set_attn_implementation("eager")
    handle = s.projection_of(s.attention_of(model, layer)).register_forward_pre_hook(add)
    logits = model(input_ids=ids[None], use_cache=False).logits[0, LO:HI]
    handle.remove()
    loss = torch.nn.functional.cross_entropy(logits, ids[LO + 1:HI + 1], reduction="sum")
    return torch.autograd.grad(loss, zero)[0][0].double().numpy()


class Directions(unittest.TestCase):
    def test_covariance_is_the_softmax_fisher_matrix(self):
        """Mean of u uT over 200,000 draws: standard error of an entry below 1e-3."""
        logits = torch.tensor([1.0, -0.5, 0.3, 2.0, -1.2]).expand(200000, 5)
        u = probes.fisher_direction(logits, seed=7).double()
        p = torch.softmax(logits[0].double(), dim=-1)
        difference = u.T @ u / len(u) - (torch.diag(p) - p[:, None] * p)
        self.assertLess(float(difference.abs().max()), 4e-3)

    def test_signs_are_the_promised_bits(self):
        """The first raw words of PCG64(1), lowest bit first: a changed stream would orphan recorded seeds."""
        word = int(np.random.PCG64(1).random_raw())
        expected = [1.0 if word >> b & 1 else -1.0 for b in range(12)]
        self.assertEqual(probes.signs(1, 3, 4).flatten().tolist(), expected)

    def test_unit_puts_the_peak_under_1024(self):
        for peak in (3e-9, 0.5, 1.0, 1023.0, 1024.0, 1e6):
            unit = probes.power_of_two_unit(np.array([0.0, -peak]))
            self.assertTrue(512 < peak / unit <= 1024, peak)
            self.assertEqual(np.frexp(unit)[0], 0.5)


if __name__ == "__main__":
    unittest.main()
