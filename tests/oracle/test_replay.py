"""The replay's order of events, on traces that the test writes: equivalences and hand counts."""
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

import specs
from content_hash import content_hash
from replay import replay_layers
from rotary import before_rotation, over_lags, turned
from rows import all_rows
from synthetic import CASES, Case, write_trace
from trace_file import read_trace

SMALL = Case(tokens=48, prefill=32, layers=2, q_heads=4, kv_heads=2, d_k=16, d_v=8)


def trace_of(case):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.h5"
        write_trace(path, case)
        return read_trace(path)


def pooled(trace, spec):
    return all_rows(trace, spec)["all"]


NOTHING = 1e-14          # float64 rounding: numpy sums a subset in another order


class Identity(unittest.TestCase):
    def test_f32_copy_is_zero_on_every_shape(self):
        for name, case in CASES.items():
            trace = trace_of(replace(case, tokens=40, prefill=24, window=min(case.window, 16)))
            row = pooled(trace, "f32")
            self.assertLess(row["error_max"], NOTHING, name)
            self.assertEqual(row["bits_per_element"], 32.0, name)

    def test_a_budget_of_everything_is_zero(self):
        trace = trace_of(SMALL)
        for spec in ("window:budget=48", "streaming:budget=48", "h2o:budget=48", "tova:budget=48",
                     "topk:budget=48", "random:budget=48", "snapkv:budget=32", "knorm:budget=32",
                     "keydiff:budget=32", "lagkv:budget=32:lag=8", "quest:budget=48"):
            self.assertLess(pooled(trace, spec)["output_error"], NOTHING, spec)


class Equivalences(unittest.TestCase):
    """methods-eviction.md section 7."""

    def assert_same(self, trace, one, other):
        for column in ("output_error", "dkl", "lost_mass", "kept_tokens"):
            self.assertEqual(pooled(trace, one)[column], pooled(trace, other)[column], column)

    def test_streaming_without_sinks_is_window(self):
        self.assert_same(trace_of(SMALL), "streaming:sinks=0:budget=12", "window:budget=12")

    def test_quest_with_pages_of_one_reads_topks_rows(self):
        """The box around one key is the key, so bounds are logits; the newest row comes on top."""
        trace = trace_of(replace(SMALL, layers=1))
        (_, quest), = replay_layers(trace, "quest:budget=9:page_size=1:dense_layers=0")
        (_, topk), = replay_layers(trace, "topk:budget=8")
        read, largest = quest[0].weights > 0, topk[0].weights > 0
        newest = np.zeros_like(read)
        newest[:, np.arange(16), trace.steps] = True
        self.assertTrue(np.all(largest <= read))
        self.assertLessEqual(int((read & ~largest & ~newest).sum(axis=2).max()), 1)

    def test_int_channel_blocks_wait_until_full(self):
        row = pooled(trace_of(SMALL), "int:bits=4:axis=channel:group_size=32")
        self.assertEqual(row["residual_bytes"], 2 * 2 * 16 * 2 * (16 + 8))

    def test_h2o_prefill_mean_of_the_group_keeps_what_its_sum_keeps(self):
        self.assert_same(trace_of(SMALL), "h2o:budget=12", "h2o:budget=12:reduce=mean")


class Bytes(unittest.TestCase):
    def test_table_of_the_interface(self):
        """12 lanes of 768 tokens, d 64: interface.md section 5."""
        trace = trace_of(Case(tokens=768, prefill=640, layers=1, q_heads=1, kv_heads=1, probes=False))
        table = {"int:bits=8": 8.5, "int:bits=4": 4.5, "turboquant:bits=4": 4.25, "kivi:bits=2": 4.083,
                 "h2o:budget=128": 2.708, "svd:rank=32+int:bits=4": 3.167, "q8_0": 8.5}
        for spec, bits in table.items():
            self.assertAlmostEqual(pooled(trace, spec)["bits_per_element"], bits, delta=6e-4, msg=spec)

    def test_a_block_is_charged_until_its_last_row_goes(self):
        """Blocks 27-31 .. 42-46 and row 47 are there; 27 was dropped and is still charged."""
        trace = trace_of(replace(SMALL, layers=1, kv_heads=1))
        spec = "window:budget=20+kivi:bits=2:group_size=5:residual_length=5"
        (replay, _), = replay_layers(trace, spec)
        keys = replay.heads[0].keys
        self.assertEqual((len(keys.live_rows), len(keys.atom_of), keys.queue), (4, 19, [47]))
        self.assertEqual(keys.bytes(), dict(payload=4 * 20, metadata=4 * 64, residual=32, basis=0))


class OrderOfEvents(unittest.TestCase):
    def test_window_holds_the_current_token_and_the_ones_before(self):
        (_, answers), *_ = replay_layers(trace_of(SMALL), "window:budget=5")
        held = np.flatnonzero(answers[0].held[0, 3])
        np.testing.assert_array_equal(held, [31, 32, 33, 34, 35])

    def test_streaming_holds_sinks_too(self):
        (_, answers), *_ = replay_layers(trace_of(SMALL), "streaming:sinks=2:budget=5")
        np.testing.assert_array_equal(np.flatnonzero(answers[0].held[0, 0]), [0, 1, 30, 31, 32])

    def test_no_budget_is_exceeded_and_recent_rows_stay(self):
        for spec in ("h2o:budget=12", "random:budget=12"):
            for _, answers in replay_layers(trace_of(SMALL), spec):
                for layer in answers.values():
                    self.assertEqual(int(layer.held.sum(axis=2).max()), 12)
                    recent = [layer.held[:, s, t - 5:t + 1].all() for s, t in enumerate(layer.times)]
                    self.assertTrue(all(recent), spec)

    def test_prompt_policies_let_decoded_tokens_stay(self):
        row = pooled(trace_of(SMALL), "snapkv:budget=10:observation_window=4")
        self.assertEqual(row["kept_tokens"], 10 + 16)

    def test_tova_keeps_one_set_for_all_heads(self):
        for _, answers in replay_layers(trace_of(SMALL), "tova:budget=10"):
            for layer in answers.values():
                self.assertTrue((layer.held[0] == layer.held[1]).all())

    def test_future_tokens_do_not_matter(self):
        """A changed last token leaves every earlier answer as it was."""
        trace, changed = trace_of(SMALL), trace_of(SMALL)
        for layer in changed.layers.values():
            layer.k[:, -1] += 3.0
            layer.q[:, -1] -= 1.0
        for spec in ("h2o:budget=12", "kivi:bits=2:group_size=8:residual_length=8", "int:bits=3",
                     "snapkv:budget=10:observation_window=4", "quest:budget=16:dense_layers=0"):
            pairs = zip(replay_layers(trace, spec), replay_layers(changed, spec))
            for (_, one), (_, other) in pairs:
                for index in one:
                    np.testing.assert_array_equal(one[index].output[:, :-1],
                                                  other[index].output[:, :-1])

    def test_cached_positions_change_nothing_while_nothing_is_dropped(self):
        for name in ("plain", "interleaved"):
            trace = trace_of(replace(CASES[name], tokens=40, prefill=24))
            row = pooled(trace, "streaming:budget=40:positions=cache")
            self.assertLess(row["output_error"], 1e-12)

    def test_readers_of_shared_keys_are_answered(self):
        rows = all_rows(trace_of(replace(CASES["shared"], tokens=40, prefill=24)), "int:bits=4")
        self.assertGreater(rows[2]["output_error"], 0.01)
        self.assertEqual((rows[2]["resident_bytes"], rows[1]["resident_bytes"]), (0, 2 * 2 * 40 * 36))


class Lags(unittest.TestCase):
    def test_queries_of_all_lags_are_those_turned_pair_by_pair(self):
        """Windows, gaps between positions, a part that does not rotate, a scale of what does."""
        trace = trace_of(replace(CASES["gaps"], tokens=40, prefill=30))
        for layer in trace.layers.values():
            positions = trace.positions[:30]
            rows = before_rotation(layer, layer.q[0, :30], positions)
            total, pairs, factor = 0, 0, np.where(np.arange(16) < layer.rope_dims, layer.rope_scale ** 2, 1)
            for i in range(30):
                for j in range(max(0, i - layer.window + 1) if layer.window else 0, i + 1):
                    met = turned(layer, rows * factor, np.full(30, positions[i] - positions[j]))
                    total, pairs = total + met.T @ met, pairs + 1
            np.testing.assert_allclose(over_lags(layer, rows.T @ rows, positions), total / pairs, rtol=1e-12, atol=1e-9)


class Files(unittest.TestCase):
    def test_hash_ignores_the_recorder_and_extras(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.h5"
            write_trace(path, SMALL)
            with h5py.File(path, "a") as file:
                before = file.attrs["content_hash"]
                file.attrs["recorder"], file.attrs["x_note"] = "another", 7
                self.assertEqual(content_hash(file), before)
                file.attrs["text"] = "another"
                self.assertNotEqual(content_hash(file), before)

    def test_bf16_words_are_widened(self):
        exact, coarse = trace_of(replace(SMALL, dtype="f32")), trace_of(replace(SMALL, dtype="bf16"))
        gap = np.abs(coarse.layers[0].k / exact.layers[0].k - 1).max()
        self.assertTrue(0 < gap <= 2.0 ** -8)


class SpecGrammar(unittest.TestCase):
    def test_numbers_and_shares(self):
        self.assertEqual([specs.number(t) for t in ("2k", "1Ki", "20%", "512")], [2000, 1024, 0.2, 512])
        self.assertEqual(specs.budget_rows(0.2, 768), 153)

    def test_unknown_stages_are_refused(self):
        self.assertRaises(specs.Unknown, specs.parse, "nonesuch:bits=2")


if __name__ == "__main__":
    unittest.main()
