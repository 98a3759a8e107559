"""Exact match, F1, ROUGE-L and BLEU: values by hand, of SQuAD's script and of the packages' own examples."""

from __future__ import annotations

import importlib
import math

import pytest

from hf_align.errors import UserError
from hf_align.evaluation.metrics.answer_match import bleu, exact_match, normalised, rouge_l, token_f1
from hf_align.evaluation.metrics.generation import compute


def test_normalisation_is_squad_s():
    assert normalised("  The cat, an   Owl; THE\tend! ") == "cat owl end"
    assert normalised("theatre a.b") == "theatre ab"


def test_exact_match():
    assert exact_match("The Oslo!", ["rome", "oslo"]) == 1.0
    assert exact_match("Oslo city", ["oslo"]) == 0.0
    assert exact_match("", [""]) == 1.0
    assert exact_match("x", []) == 0.0


def test_a_letter_is_not_nothing():
    # SQuAD's normalisation leaves nothing of these, so that all of them would be equal.
    assert [exact_match(answer, ["A"]) for answer in ("A", "a.", "", "The", "?", "B")] == [1, 1, 0, 0, 0, 0]
    assert [exact_match(answer, ["?!"]) for answer in ("?!", "", "a")] == [1, 0, 0]
    assert token_f1("", ["A"]) == 0.0 and token_f1("a", ["A"]) == 1.0


def test_f1_by_hand():
    # Two of three words of the answer are in the reference of four: 2 * 2 / (3 + 4).
    assert token_f1("red lamps Oslo", ["twelve red lamps please"]) == pytest.approx(4 / 7)
    # A word counts as often as the other side has it.
    assert token_f1("no no no", ["no way"]) == pytest.approx(2 / 5)
    assert token_f1("red lamps", ["x", "red"]) == pytest.approx(2 / 3)
    assert token_f1("", [""]) == 1.0
    assert token_f1("", ["x"]) == 0.0
    assert token_f1("x", []) == 0.0


def test_rouge_l():
    pytest.importorskip("rouge_score")
    # Longest common subsequence "police ... the gunman": 3 of 4 and of 4 words (Lin 2004, section 3.1).
    references = [["police killed the gunman"], ["x", "police killed the gunman"], []]
    found = rouge_l(["police kill the gunman", "police kill the gunman", "x"], references)
    assert found == pytest.approx([0.75, 0.75, 0.0])
    assert compute("rouge_l", ["the gunman kill police"], [["police killed the gunman"]]) == pytest.approx(
        0.5
    )


def test_bleu():
    pytest.importorskip("sacrebleu")
    words = "the quick brown fox jumps over lazy dogs"
    assert bleu([words], [[words]]) == pytest.approx(1.0)
    # Precisions of 1 and a brevity penalty of exp(1 - 8/6).
    assert bleu([" ".join(words.split()[:6])], [[words]]) == pytest.approx(math.exp(1 - 8 / 6))
    # References differ in number.
    assert bleu([words, "a b c d e"], [["x y z", words], ["a b c d e"]]) == pytest.approx(1.0)
    assert compute("bleu", ["one two three"], [["four five six"]]) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("function", "package"), [(rouge_l, "rouge_score"), (bleu, "sacrebleu")], ids=["rouge", "bleu"]
)
def test_a_missing_package_is_named(monkeypatch, function, package):
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        UserError, match=rf"the package {package} is missing .* pip install 'hf_align\[metrics\]'"
    ):
        function(["x"], [["x"]])
