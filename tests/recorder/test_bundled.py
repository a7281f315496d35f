"""The bundled traces: whole, within their size, and still what their one command records."""

import os
import subprocess
import sys
import unittest

import numpy as np

import support as s
from test_model import installed

TRACES = {
    "prose": dict(tokens=1024, prefill=768, layers=[1, 5, 9, 13, 16, 20, 24, 28], limit=20 << 20, extras=()),
    "code": dict(tokens=768, prefill=512, layers=[2, 7, 12, 17, 22, 27], limit=12 << 20, extras=("w_o", "x2")),
}

def path_of(name):
    return os.path.join(s.DATA, name + ".h5")


class Bundled(unittest.TestCase):
    def test_contents(self):
        for name, expected in TRACES.items():
            with s.h5py.File(path_of(name)) as f:
                self.assertEqual(f.attrs["tokens"], expected["tokens"])
                self.assertEqual(f.attrs["prefill_length"], expected["prefill"])
                self.assertEqual([int(i) for i in f["layers"]], expected["layers"])
                self.assertEqual(sorted(f["grad"]), ["fisher", "label", "windows"])
                self.assertEqual(sorted(f["grad/fisher"]), ["0", "1"])
                for extra in expected["extras"]:
                    self.assertTrue(all(extra in layer for layer in f["layers"].values()))

    def test_size(self):
        for name, expected in TRACES.items():
            self.assertLessEqual(os.path.getsize(path_of(name)), expected["limit"])

    def test_perplexity_is_that_of_a_sound_model(self):
        for name, low, high in (("prose", 15, 30), ("code", 4, 12)):
            with s.h5py.File(path_of(name)) as f:
                self.assertTrue(low < np.exp(f["nll"][1:].mean()) < high)

    def test_windows(self):
        """Decode tokens only, and never the last one."""
        for name, expected in TRACES.items():
            with s.h5py.File(path_of(name)) as f:
                windows = f["grad/windows"][()].ravel()
                self.assertTrue(expected["prefill"] <= windows[0] and windows[-1] < expected["tokens"])
                self.assertTrue((np.diff(windows) > 0).all())

    def test_digest(self):
        for name in TRACES:
            with s.h5py.File(path_of(name)) as f:
                self.assertEqual(s.content_hash(f), f.attrs["content_hash"])

    @unittest.skipUnless("KVBENCH" in os.environ, "KVBENCH does not name the kvbench binary")
    def test_digest_by_the_c_reader(self):
        for name in TRACES:
            with s.h5py.File(path_of(name)) as f:
                self.assertEqual(c_digest(path_of(name)), f.attrs["content_hash"])

    @unittest.skipUnless("KVBENCH" in os.environ, "KVBENCH does not name the kvbench binary")
    def test_c_reader_on_every_kind_of_tensor(self):
        from test_tiny import FAMILIES, shared_kv
        kinds = {**FAMILIES, "shared": ("Gemma4Text", shared_kv())}
        for kind, (name, changes) in kinds.items():
            for dtype in ("bf16", "f32"):
                with s.recorded(s.tiny(name, **changes), s.random_ids(24), "--prefill", 16, "--dtype", dtype,
                                "--windows", "17:20", "--fisher-probes", 1, "--spans", "needle=2:5") as f:
                    self.assertEqual(c_digest(f.filename), f.attrs["content_hash"], f"{kind} {dtype}")


def c_digest(path):
    done = subprocess.run([os.environ["KVBENCH"], "trace", "hash", path], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


@unittest.skipUnless(installed(), f"package {s.PACKAGE} is not installed")
class RecordedAgain(unittest.TestCase):
    """About a minute each: the very command that stands beside the trace."""

    def check(self, name):
        with s.folder() as path:
            out = os.path.join(path, "again.h5")
            subprocess.run([os.path.join(s.DATA, f"record_{name}.sh"), out], check=True,
                           env={**os.environ, "PYTHON": sys.executable})
            with s.h5py.File(out) as new, s.h5py.File(path_of(name)) as old:
                if new.attrs["content_hash"] != old.attrs["content_hash"]:
                    s.same_recording(self, new, old)

    def test_prose(self):
        self.check("prose")

    def test_code(self):
        self.check("code")


if __name__ == "__main__":
    unittest.main()
