"""The recipe of a tokenizer: families of special tokens, and what goes with a new or an extended one only."""

from __future__ import annotations

import pytest

from hf_align.errors import UserError
from hf_align.tokenization.recipe import FAMILY_OF_TYPE, TokenizerOptions, parse_tokenizer

TEXT = ["--datasets", "a.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--extend", "m", "--vocab_size", "500"], "vocab_size: this has no effect, because extend is m"),
        (["--extend_model", "true"], "this has no effect without a model to extend"),
        (["--limit_alphabet", "50"], "limit_alphabet: this has no effect, because tokenizer_type"),
        (["--lowercase", "true"], "lowercase: this has no effect"),
        (["--extra_ids", "5"], "the special tokens of gpt have no sentinels"),
        (["--additional_special_tokens", "[' ']"], "a special token cannot be blank"),
        (["--eval_datasets", "b", "--eval_split_size", "0.1"], "only one of the two"),
    ],
)
def test_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_tokenizer([*TEXT, *arguments])


def test_a_weight_has_no_meaning_for_a_tokenizer() -> None:
    with pytest.raises(UserError, match="every text counts once"):
        parse_tokenizer(["--datasets", "[{path: a.txt, weight: 2}]"])


def test_special_tokens_follow_the_algorithm_unless_they_are_named() -> None:
    for kind, family in FAMILY_OF_TYPE.items():
        assert TokenizerOptions(tokenizer_type=kind).family == family
        assert TokenizerOptions(tokenizer_type=kind, special_tokens="bart").family == "bart"
    assert TokenizerOptions(tokenizer_type="unigram", extra_ids=5).extra_ids == 5
