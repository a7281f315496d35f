"""The program as a user runs it: a folder with a small model, a text file, one command."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import unittest

import tokenizers
import transformers

import support as s      # first: it puts traces/record on the path


def save_model(folder):
    """A random Llama with a tokenizer whose tokens are words, as transformers stores them."""
    words = {word: i for i, word in enumerate(["[UNK]", *(f"w{i}" for i in range(96))])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    s.tiny("Llama").save_pretrained(folder)


def save_text(path, count=60):
    with open(path, "w") as f:
        f.write(" ".join(f"w{7 * i % 96}" for i in range(count)))


class Program(unittest.TestCase):
    def setUp(self):
        holder = s.folder()
        self.path = holder.__enter__()
        self.addCleanup(holder.__exit__, None, None, None)
        self.model, self.text, self.out = (os.path.join(self.path, name) for name in ("tiny-llama", "t.txt", "t.h5"))
        save_model(self.model)
        save_text(self.text)
        self.words = ["--model", self.model, "--text", self.text, "--out", self.out, "--tokens", "48",
                      "--prefill", "32", "--layers", "0,3", "--windows", "33:40,41:47", "--fisher-probes", "2", "--nll"]

    def test_folder(self):
        code, stderr = s.command(*self.words, "--text-note", "counted, CC0")
        self.assertEqual((code, stderr), (0, ""))       # silent: stderr is no terminal
        with s.h5py.File(self.out) as f:
            self.assertEqual(f.attrs["model"], "tiny-llama")
            self.assertTrue(f.attrs["text"].startswith("t.txt sha256:") and f.attrs["text"].endswith("counted, CC0"))
            with open(os.path.join(self.model, "model.safetensors"), "rb") as weights:
                self.assertEqual(f.attrs["model_digest"], "sha256:" + hashlib.sha256(weights.read()).hexdigest())
            self.assertEqual(f["token_ids"][:3].tolist(), [1, 8, 15])
            self.assertEqual(sorted(f["layers"]), ["000", "003"])

    def test_no_path_of_this_machine_in_the_file(self):
        self.assertEqual(s.command(*self.words)[0], 0)
        with open(self.out, "rb") as f:
            self.assertNotIn(self.path.encode(), f.read())

    def test_text_too_short(self):
        save_text(self.text, 20)
        code, stderr = s.command(*self.words)
        self.assertEqual(code, 3)
        self.assertIn("t.txt: text: expected at least 48 tokens, found 20", stderr)
        self.assertNotIn("t.h5", os.listdir(self.path))

    def test_killed(self):
        """Terminated as soon as the half-written file appears: it goes away, and nothing stands in its place."""
        program = subprocess.Popen([sys.executable, s.RECORD, *self.words, "--seed", "2"], stderr=subprocess.PIPE)
        part = f"{self.out}.{program.pid}.part"
        while program.poll() is None and not os.path.exists(part):
            time.sleep(0.0005)
        program.send_signal(signal.SIGTERM)
        program.communicate()
        left = [name for name in os.listdir(self.path) if name.endswith(".part")]
        self.assertEqual(left, [])
        # Either it was stopped in time, or the file was whole already.
        self.assertEqual(os.path.exists(self.out), program.returncode == 0)


if __name__ == "__main__":
    unittest.main()
