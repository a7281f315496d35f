"""The micro-traces of tests/micro: small, of many kinds, and still what their script records."""

import glob
import os
import sys
import unittest

import support as s

MICRO_FOLDER = os.path.join(s.ROOT, "tests", "micro")
sys.path.insert(0, MICRO_FOLDER)
import make_micro

LIMIT = 200 << 10


class Micro(unittest.TestCase):
    def test_files_and_script_name_the_same_traces(self):
        files = [os.path.basename(path)[:-3] for path in glob.glob(os.path.join(MICRO_FOLDER, "*.h5"))]
        self.assertEqual(sorted(files), sorted(make_micro.MICRO))

    def test_size(self):
        for name in make_micro.MICRO:
            self.assertLessEqual(os.path.getsize(os.path.join(MICRO_FOLDER, name + ".h5")), LIMIT, name)

    def test_recorded_again(self):
        with s.folder() as folder:
            for name in make_micro.MICRO:
                make_micro.record(name, folder)
                with s.h5py.File(os.path.join(folder, name + ".h5")) as new, \
                        s.h5py.File(os.path.join(MICRO_FOLDER, name + ".h5")) as old, self.subTest(name):
                    s.same_recording(self, new, old)


if __name__ == "__main__":
    unittest.main()
