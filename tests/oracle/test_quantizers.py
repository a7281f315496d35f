"""Codecs against blocks worked by hand and the tables of methods-quant.md."""
import unittest

import numpy as np

from makers import make_chain
import specs
import vectors
from lloyd_max import codebook
from llama import Llama, block_bytes
from quantizers import IntChannel, IntToken, integer_grid, kivi_keys, kivi_values
from rounding import bf16_words_to_f32, f32_to_bf16_words, half_away
from turboquant import TurboQuant


class Rounding(unittest.TestCase):
    def test_bf16_rounds_halves_to_even(self):
        values = np.array([1.0, 1.00390625, 1.01171875, -2.385], dtype=np.float32)
        words = f32_to_bf16_words(values)
        self.assertEqual([hex(w) for w in words], ["0x3f80", "0x3f80", "0x3f82", "0xc019"])
        self.assertEqual(bf16_words_to_f32(words)[0], 1.0)

    def test_roundf_goes_away_from_zero(self):
        np.testing.assert_array_equal(half_away([0.5, 1.5, -2.5, 2.4]), [1, 2, -3, 2])


class IntegerGrid(unittest.TestCase):
    def test_two_bits_by_hand(self):
        """min -1, max 2: step 1; 0.5 is a tie on steps 1.5 and goes to the even code 2."""
        codes, scale, minimum, decoded = integer_grid([[-1.0, -0.6, 0.5, 2.0]], 2, axis=1)
        np.testing.assert_array_equal(codes, [[0, 0, 2, 3]])
        self.assertEqual((float(scale[0, 0]), float(minimum[0, 0])), (1.0, -1.0))
        np.testing.assert_array_equal(decoded, [[-1, -1, 1, 2]])

    def test_constant_group_decodes_to_its_minimum(self):
        codes, scale, _, decoded = integer_grid([[2.5] * 8], 4, axis=1)
        self.assertEqual(int(codes.sum()), 0)
        self.assertEqual(float(scale[0, 0]), 0.0)
        np.testing.assert_array_equal(decoded, [[2.5] * 8])

    def test_bytes_are_bits_and_two_halves_a_group(self):
        self.assertEqual(IntToken(64, 4, 64).atom_bytes(), (32, 4))
        self.assertEqual(IntToken(80, 3, 32).atom_bytes(), (30, 12))     # groups of 32, 32, 16
        self.assertEqual(IntToken(48, 2, 64).atom_bytes(), (12, 4))      # clipped to d
        self.assertEqual(IntChannel(64, 2, 32).atom_bytes(), (512, 256))

    def test_channel_axis_is_the_token_axis_transposed(self):
        rows = np.random.default_rng(3).standard_normal((32, 5))
        by_channel = IntChannel(5, 3, 32).round_trip(rows)
        np.testing.assert_array_equal(by_channel, IntToken(32, 3, 32).round_trip(rows.T).T)


class Kivi(unittest.TestCase):
    def test_tiers_are_the_papers(self):
        keys, values = kivi_keys(64, 2, 32, 128).tiers, kivi_values(64, 2, 32, 128).tiers
        self.assertEqual((keys.recent, keys.flush, keys.at_once), (0, 128, False))
        self.assertEqual((values.recent, values.flush, values.at_once), (128, 1, False))

    def test_window_state_machine(self):
        """methods-quant.md, acceptance test 11."""
        machine = {row["tokens"]: row for row in vectors.kivi_windows()}
        residual = {tokens: machine[tokens]["key_residual"] for tokens in machine}
        self.assertEqual(residual, {127: 127, 128: 0, 129: 1, 255: 127, 256: 0, 257: 1})
        self.assertEqual([machine[t]["value_residual"] for t in sorted(machine)],
                         [127, 128, 128, 128, 128, 128])


class LlamaBlocks(unittest.TestCase):
    def test_q8_0_by_hand(self):
        block = np.zeros((1, 32))
        block[0, :3] = [127.0, -63.5, 1.0]
        codes, step, decoded = Llama.BLOCKS["q8_0"][1](block)
        np.testing.assert_array_equal(codes[0, :3], [127, -64, 1])
        self.assertEqual(float(step[0][0, 0]), 1.0)
        np.testing.assert_array_equal(decoded[0, :3], [127, -64, 1])

    def test_q4_0_step_has_the_sign_of_the_largest(self):
        block = np.zeros((1, 32))
        block[0, :3] = [-8.0, 4.0, 7.9]
        codes, step, decoded = Llama.BLOCKS["q4_0"][1](block)
        self.assertEqual(float(step[0][0, 0]), 1.0)
        np.testing.assert_array_equal(codes[0, :3], [0, 12, 15])
        np.testing.assert_array_equal(decoded[0, :3], [-8, 4, 7])

    def test_fifth_bits_lie_in_a_word(self):
        """x = -16 .. 15: d = 1, codes are x + 16, so that the codes from 16 on have the fifth bit."""
        codes, halves, decoded = Llama.BLOCKS["q5_0"][1](np.arange(-16.0, 16.0)[None])
        np.testing.assert_array_equal(decoded[0], np.arange(-16, 16))
        self.assertEqual(block_bytes("q5_0", codes[0], [halves[0][0, 0]]).hex(),
                         "003c" + "0000ffff" + "".join(f"{j}{j}" for j in "0123456789abcdef"))

    def test_q4_1_starts_at_the_minimum(self):
        codes, halves, decoded = Llama.BLOCKS["q4_1"][1](np.array([[-1.0] * 16 + [14.0] * 15 + [0.4]]))
        self.assertEqual([float(h[0, 0]) for h in halves], [1.0, -1.0])
        np.testing.assert_array_equal(decoded[0, [0, 16, 31]], [-1, 14, 0])

    def test_iq4_nl_refits_its_step(self):
        """127 and -38 (code 5 is -35 and code 4 is -49): d = (127^4 + 38^3 35) / (127^4 + 38^2 35^2)."""
        block = np.zeros((1, 32))
        block[0, :2] = [-127.0, -38.0]
        codes, step, _ = Llama.BLOCKS["iq4_nl"][1](block)
        np.testing.assert_array_equal(codes[0, :3], [0, 5, 8])
        want = (127 ** 4 + 38 ** 3 * 35) / (127 ** 4 + 38 ** 2 * 35 ** 2)
        self.assertAlmostEqual(float(step[0][0, 0]), want, delta=5e-4)

    def test_width_without_whole_blocks_is_refused(self):
        self.assertRaises(ValueError, Llama, 80, "q4_0")


class LloydMax(unittest.TestCase):
    """The tables of methods-quant.md section 2, all printed digits."""
    DISTORTION = {64: [.358387, .114526, .033391, .009132, .002399],
                  128: [.360889, .116000, .033966, .009315, .002451],
                  256: [.362136, .116740, .034256, .009408, .002478]}
    CENTROIDS = {(64, 1): [.801007], (64, 2): [.452119, 1.499975],
                 (64, 3): [.243753, .750658, 1.329343, 2.111311],
                 (64, 4): [.127352, .384718, .650494, .931894, 1.239404, 1.590849, 2.023310, 2.646370],
                 (128, 4): [.127873, .386381, .653619, .937097, 1.247770, 1.604343, 2.045925, 2.688859],
                 (256, 4): [.128134, .387214, .655187, .939714, 1.251989, 1.611168, 2.057411, 2.710567]}

    def test_distortions(self):
        for d, column in self.DISTORTION.items():
            for bits, want in enumerate(column, 1):
                self.assertAlmostEqual(codebook(d, bits)[1], want, delta=1e-6, msg=f"{d} {bits}")

    def test_centroids(self):
        for (d, bits), want in self.CENTROIDS.items():
            got = codebook(d, bits)[0][2 ** (bits - 1):] * np.sqrt(d)
            np.testing.assert_allclose(got, want, atol=1e-6)


class Rotated(unittest.TestCase):
    """Gaussian rows, d = 128: methods-quant.md sections 3.6 and 5.1, within sampling noise."""

    def rows(self):
        return np.random.default_rng(7).standard_normal((8000, 128))

    def distortion(self, **settings):
        rows = self.rows()
        got = TurboQuant(128, **settings).round_trip(rows)
        return np.sum((got - rows) ** 2) / np.sum(rows ** 2)

    def test_norm_rules(self):
        table = {"raw": .0340, "matched": .0338, "unbiased": .0347, "least-squares": .03355}
        for rule, want in table.items():
            self.assertAlmostEqual(self.distortion(bits=3, norm=rule) / want, 1, delta=0.01, msg=rule)

    def test_haar_and_hadamard_agree(self):
        haar, hadamard = (self.distortion(bits=2, rotation=r) for r in ("haar", "hadamard"))
        self.assertAlmostEqual(haar / hadamard, 1, delta=0.01)

    def test_prod_is_unbiased_and_mse_shrinks(self):
        rows = self.rows()
        for mode, slope in (("mse", 0.884), ("prod", 1.0)):
            got = TurboQuant(128, 2, mode).round_trip(rows)
            self.assertAlmostEqual(np.sum(got * rows) / np.sum(rows ** 2), slope, delta=0.01)


class LowRank(unittest.TestCase):
    def test_rank_of_the_data_loses_only_halves(self):
        rng = np.random.default_rng(2)
        rows = rng.standard_normal((100, 6)) @ rng.standard_normal((6, 40))
        codec = make_chain(specs.parse("svd:rank=6+int:bits=8"), 40, "k")
        codec.bind(None, None, 0, "k")
        codec.fit(rows)
        error = np.linalg.norm(codec.round_trip(rows) - rows) / np.linalg.norm(rows)
        self.assertLess(error, 0.01)
        self.assertEqual(codec.basis_bytes, 2 * 40 * 6)
        self.assertEqual(codec.atom_bytes(), (6, 4))


if __name__ == "__main__":
    unittest.main()
