"""Needles: exact ranges, exact lengths, and refusals that say what would fit."""

import unittest

import support as s      # first: it puts traces/record on the path
import needle
from refusal import Refusal


class Words:
    """A tokenizer of words: one token each, its text kept."""
    def __init__(self):
        self.known = []

    def __call__(self, text, add_special_tokens=True):
        ids = []
        for word in text.split():
            if word not in self.known:
                self.known.append(word)
            ids.append(self.known.index(word))
        return {"input_ids": ids}

    def decode(self, ids):
        return " ".join(self.known[i] for i in ids)


def arguments(**changes):
    own = dict(needle="the key is blue", question="what is the key", answer="blue", needle_depth=0.5, prefill=30,
               tokens=40)
    return type("Arguments", (), {**own, **changes})


HAY = " ".join("one two three four." for _ in range(20))


class Needle(unittest.TestCase):
    def compose(self, **changes):
        words = Words()
        return words, *needle.compose(words, words(HAY)["input_ids"], arguments(**changes))

    def test_pieces_are_where_the_spans_say(self):
        words, ids, (first, end), question = self.compose()
        self.assertEqual(len(ids), 40)
        self.assertEqual(words.decode(ids[first:end]), "the key is blue")
        self.assertEqual(words.decode(ids[question:30]), "what is the key")
        self.assertEqual(words.decode(ids[30:31]), "blue")

    def test_the_text_goes_on_where_the_prompt_left_it(self):
        words, ids, (first, end), question = self.compose()
        text = ids[:first] + ids[end:question] + ids[31:]
        self.assertEqual(words.decode(text), " ".join(HAY.split()[:len(text)]))

    def test_a_needle_stands_between_sentences_near_its_depth(self):
        for depth in (0.0, 0.3, 1.0):
            words, ids, (first, end), question = self.compose(needle_depth=depth)
            self.assertTrue(words.decode(ids[first - 1:first]).endswith("."))
            self.assertLessEqual(abs(first - depth * 22), 4)

    def test_a_prompt_too_short_says_what_would_fit(self):
        with self.assertRaises(Refusal) as caught:
            self.compose(prefill=8)
        self.assertIn("--prefill above 9", str(caught.exception))
        with self.assertRaises(Refusal):
            self.compose(tokens=30)

    def test_a_text_too_short(self):
        with self.assertRaises(Refusal) as caught:
            self.compose(tokens=300, prefill=200)
        self.assertIn("at least 291 tokens", str(caught.exception))


class Options(unittest.TestCase):
    def test_a_needle_and_its_question_go_together(self):
        common = ["--model", "-", "--text", "-", "--tokens", "64", "--prefill", "32", "--out", "t.h5"]
        for words in (["--needle", "a"], ["--question", "b"], ["--needle", "a", "--question", "b", "--needle-depth", "2"],
                      ["--needle", "a", "--question", "b", "--question-start", "3"]):
            with self.assertRaises(Refusal):
                s.options.parse(common + words)


if __name__ == "__main__":
    unittest.main()
