"""The characters of a text, counted by hand."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from hf_align.tokenization.alphabet import read_alphabet


@pytest.fixture
def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def test_marks_of_what_continues_and_of_what_ends(tokenizer: Tokenizer) -> None:
    found = read_alphabet(["ab a", "b"], tokenizer, limit=None, prefix="##", suffix="</w>")
    assert found.characters == ("a", "b") and found.dropped == 0
    assert found.marked == ("##b", "a</w>", "b</w>") and len(found) == 5
    assert read_alphabet(["ab"], tokenizer, limit=None, prefix="", suffix="").marked == ()


def test_the_most_frequent_are_kept_and_of_equals_the_first(tokenizer: Tokenizer) -> None:
    found = read_alphabet(["zzz", "yb", "ab", "a"], tokenizer, limit=2, prefix="##", suffix="")
    # z 3, a 2, b 2, y 1
    assert found.characters == ("a", "z") and found.dropped == 2 and found.marked == ("##z",)


def test_text_is_normalised_first(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Lowercase()
    assert read_alphabet(["Aa"], tokenizer, limit=None, prefix="", suffix="").characters == ("a",)
