"""Exact attention and the metrics against examples worked by hand."""
import math
import unittest
from types import SimpleNamespace

import numpy as np

import claims
import exact
import metrics
import tolerances


def layer_of(q, k, v, **changes):
    settings = dict(scale=1.0, softcap=0.0, window=0, sink_logits=None, w_o=None, x2=None,
                    attn_post_norm=False)
    layer = SimpleNamespace(q=np.array(q, float), k=np.array(k, float), v=np.array(v, float),
                            **{**settings, **changes})
    layer.group = len(layer.q) // len(layer.k)
    return layer


# Three tokens, one channel. The last query is ln 2, the keys 0, 1, 2: weights 1/7, 2/7, 4/7.
THREE = dict(q=[[[0.0], [0.0], [math.log(2)]]], k=[[[0.0], [1.0], [2.0]]], v=[[[7.0], [14.0], [-7.0]]])


class Tolerances(unittest.TestCase):
    def test_few_answers_leave_rounding_few_directions(self):
        near = lambda answers: tolerances.close("output_error", 1e-3, 1e-3 + 3e-7, 1e-6, answers=answers)
        self.assertTrue(near(4))
        self.assertFalse(near(64))


class ThreeTokens(unittest.TestCase):
    def test_weights_and_output_by_hand(self):
        weights, outputs = exact.attention(layer_of(**THREE), np.array([2]))
        np.testing.assert_allclose(weights[0, 0], [1 / 7, 2 / 7, 4 / 7], rtol=1e-14)
        self.assertAlmostEqual(outputs[0, 0, 0], 1 + 4 - 4, places=13)

    def test_first_query_sees_only_itself(self):
        _, outputs = exact.attention(layer_of(**THREE), np.array([0, 1]))
        np.testing.assert_allclose(outputs[0, :, 0], [7.0, 10.5])

    def test_window_of_two_hides_the_first_key(self):
        weights, _ = exact.attention(layer_of(**THREE, window=2), np.array([2]))
        np.testing.assert_allclose(weights[0, 0], [0, 1 / 3, 2 / 3], rtol=1e-14)

    def test_sink_takes_its_share_of_the_denominator(self):
        sink = np.array([math.log(3)])
        weights, _ = exact.attention(layer_of(**THREE, sink_logits=sink), np.array([2]))
        np.testing.assert_allclose(weights[0, 0], [0.1, 0.2, 0.4], rtol=1e-14)

    def test_softcap_bends_the_logits(self):
        weights, _ = exact.attention(layer_of(**THREE, softcap=0.5), np.array([2]))
        logits = [0.5 * math.tanh(x * math.log(2) / 0.5) for x in (0, 1, 2)]
        ratio = weights[0, 0, 2] / weights[0, 0, 0]
        self.assertAlmostEqual(ratio, math.exp(logits[2] - logits[0]), places=13)

    def test_two_query_heads_read_one_key_head(self):
        layer = layer_of(q=THREE["q"] * 2, k=THREE["k"], v=THREE["v"])
        _, outputs = exact.attention(layer, np.array([2]))
        self.assertEqual(outputs[0, 0, 0], outputs[1, 0, 0])


def answers_of(weights, held, layer, times):
    exact_weights, exact_outputs = exact.attention(layer, times)
    weights, held = np.array(weights, float), np.array(held, bool)
    outputs = np.stack([weights[h] @ layer.v[h // layer.group] for h in range(len(weights))])
    return metrics.Answers(layer=layer, times=times, exact=exact_outputs, output=outputs,
                           exact_weights=exact_weights, weights=weights, held=held, coded=held)


class DroppedFirstToken(unittest.TestCase):
    """Without the first key the weights are 0, 1/3, 2/3 and the output 0 instead of 1."""

    def setUp(self):
        self.layer = layer_of(**THREE, w_o=np.array([[2.0]]), x2=np.array([0, 0, 16.0]))
        self.answers = answers_of([[[0, 1 / 3, 2 / 3]]], [[[0, 1, 1]]], self.layer, np.array([2]))

    def test_errors_by_hand(self):
        row = metrics.layer_metrics(self.answers)
        self.assertAlmostEqual(row["output_error"], 1.0, places=13)
        self.assertAlmostEqual(row["residual_error"], (2.0 * 1.0) ** 2 / 16, places=13)
        self.assertAlmostEqual(row["wo_error"], 1.0, places=13)
        self.assertAlmostEqual(row["error_max"], 1.0, places=13)

    def test_lost_mass_and_kl_by_hand(self):
        row = metrics.layer_metrics(self.answers)
        self.assertAlmostEqual(row["lost_mass"], 1 / 7, places=13)
        self.assertAlmostEqual(row["attention_kl"], math.log(7 / 6), places=13)
        self.assertAlmostEqual(row["mass_drift"], 1 / 7, places=13)

    def test_norm_after_w_o_leaves_residual_error_empty(self):
        self.layer.attn_post_norm = True
        self.assertIsNone(metrics.residual_error(self.answers))

    def test_probes_by_hand(self):
        """Two layers add before the square: (3 - 1)^2 / 2, not (9 + 1) / 2."""
        from trace_file import Probes
        gradient = lambda g: np.full((1, 1, 1), g)
        probes = Probes(np.array([[2, 3]]), {0: gradient(0.5), 1: gradient(0.25)},
                        {0: gradient(-3.0)[None], 1: gradient(1.0)[None]})
        trace = SimpleNamespace(probes=probes, nll=np.array([0, 0, 0, 1.5]))
        row = metrics.probe_metrics(trace, {0: self.answers, 1: self.answers})
        self.assertAlmostEqual(row["dkl"], 2.0, places=12)
        self.assertAlmostEqual(row["dnll1"], -0.75, places=12)
        self.assertAlmostEqual(row["ppl_est"], math.exp(1.5 - 0.75 + 2.0), places=10)


class Claims(unittest.TestCase):
    def test_power_law_of_a_power_law(self):
        slope, fit = claims.power_law(np.arange(1, 200) ** -1.25)
        self.assertAlmostEqual(slope, -1.25, places=10)
        self.assertAlmostEqual(fit, 1.0, places=10)

    def test_sparsity_counts_entries_below_a_hundredth_of_the_largest(self):
        weights = np.array([[[1.0, 0, 0], [0.995, 0.005, 0], [0.3, 0.696, 0.004]]])
        self.assertAlmostEqual(claims.sparsity(weights), 2 / 6)


if __name__ == "__main__":
    unittest.main()
