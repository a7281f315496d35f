"""from_dump against dump files that the test writes from the oracle's own replay."""
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

import from_dump
import metrics
from replay import LayerReplay
from synthetic import Case, write_trace
from trace_file import read_trace

CASE = Case(tokens=48, prefill=32, layers=1, q_heads=4, kv_heads=2, d_k=16, d_v=8)


def write_dump(path, replay, spec):
    answers = replay.answers[replay.owner.index]
    with h5py.File(path, "w") as file:
        file.attrs["method"], file.attrs["turned"] = spec, False
        file["output"], file["reference"] = np.float32(answers.output), np.float32(answers.exact)
        file["queries"] = answers.times
        for head, cache in enumerate(replay.heads):
            held = np.flatnonzero(cache.held)
            file[f"head/{head}/positions"] = file[f"head/{head}/read_from"] = held
            file[f"head/{head}/keys"] = np.float32(cache.read_keys()[held])
            file[f"head/{head}/values"] = np.float32(cache.read_values()[held])
        for name, count in replay.byte_counts().items():
            if f"{name}_bytes" in from_dump.BYTE_CLASSES:
                file.attrs[f"{name}_bytes"] = count


class Dumped(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        trace_path = Path(self.folder.name) / "trace.h5"
        self.path = Path(self.folder.name) / "dump.h5"
        write_trace(trace_path, CASE)
        self.trace = read_trace(trace_path)
        self.layer = self.trace.layers[0]

    def tearDown(self):
        self.folder.cleanup()

    def replay(self, spec):
        replay = LayerReplay(self.trace, self.layer, [], spec)
        answers = replay.run()[0]
        write_dump(self.path, replay, spec)
        return replay, answers

    def test_the_file_alone_gives_the_replays_numbers(self):
        for spec in ("h2o:budget=12+int:bits=4", "window:budget=9", "f16"):
            replay, answers = self.replay(spec)
            dump = from_dump.read_dump(self.path)
            row = from_dump.recomputed(self.layer, dump)
            self.assertAlmostEqual(row["output_error"], metrics.output_error(answers), places=6)
            self.assertAlmostEqual(row["key_error"], replay.side_error("key"), places=6)
            self.assertTrue(all(v < 1 for v in from_dump.check_dump(self.layer, dump).values()))
            self.assertTrue(from_dump.causal(dump))

    def test_a_wrong_row_is_seen(self):
        self.replay("int:bits=4")
        with h5py.File(self.path, "a") as file:
            file["head/1/values"][47] += 0.5
        found = from_dump.check_dump(self.layer, from_dump.read_dump(self.path))
        self.assertGreater(found["last_answer"], 1e-4)

    def test_a_row_from_the_future_is_seen(self):
        self.replay("window:budget=9")
        with h5py.File(self.path, "a") as file:
            file["head/0/positions"][-1] = 48
        self.assertFalse(from_dump.causal(from_dump.read_dump(self.path)))

    def test_which_last_answers_follow_from_the_file(self):
        self.replay("h2o:budget=9+int:bits=2")
        dump = from_dump.read_dump(self.path)
        self.assertTrue(from_dump.last_answer_follows(dump))
        self.assertFalse(from_dump.last_answer_follows({**dump, "method": "topk:budget=9"}))
        dump["heads"][1]["read_from"][3] = 48
        self.assertFalse(from_dump.last_answer_follows(dump))


if __name__ == "__main__":
    unittest.main()
