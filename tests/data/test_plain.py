"""Plain rows: one BOS, one EOS, and targets that begin with the completion."""

from __future__ import annotations

import numpy as np
import pytest

from hf_align.data.plain import opening, plain_row, plain_text
from hf_align.data.tokenizing import Tokens
from hf_align.types import Example

BOS, EOS = 1, 2


def tokens(ids: list[int], added: str) -> Tokens:
    """One character a token; ``x`` marks what the tokenizer put there."""
    places = np.cumsum([mark == "." for mark in added]) - 1
    offsets = np.stack([places, places + 1], axis=1)
    own = np.array([mark == "x" for mark in added])
    offsets[own] = 0
    return Tokens(np.array(ids, np.int32), offsets, own)


def made(example: Example, ids: list[int], added: str, **options) -> tuple[list[int], list[int]]:
    given = {"bos": BOS, "eos": EOS, "all_targets": False, **options}
    row, mask = plain_row(example, tokens(ids, added), np.array([id < 3 for id in ids]), **given)
    return row.tolist(), mask.astype(int).tolist()


PAIR = Example("p", prompt="ab", completion="cd")


@pytest.mark.parametrize(
    ("ids", "added", "options", "row", "mask"),
    [
        ([1, 5, 6, 7, 8], "x....", {}, [1, 5, 6, 7, 8, 2], [0, 0, 0, 1, 1, 1]),
        ([1, 5, 6, 7, 8, 2], "x....x", {"eos": None}, [1, 5, 6, 7, 8], [0, 0, 0, 1, 1]),
        ([5, 6, 7, 8], "....", {"all_targets": True}, [5, 6, 7, 8, 2], [1, 1, 1, 1, 1]),
        ([5, 6, 7, 2], "....", {}, [5, 6, 7, 2], [0, 0, 1, 1]),
    ],
)
def test_a_prompt_with_its_completion(ids, added, options, row, mask) -> None:
    assert made(PAIR, ids, added, **options) == (row, mask)


def test_a_text_counts_whole() -> None:
    assert made(Example("p", text="ab"), [1, 5, 6], "x..") == ([1, 5, 6, 2], [1, 1, 1, 1])


def test_a_bos_that_the_text_has_already_is_not_doubled() -> None:
    head, start, stop = opening(tokens([1, 1, 5], "x.."), BOS)
    assert (head.tolist(), start, stop) == ([], 1, 3)
    assert opening(tokens([1, 2], "xx"), BOS)[1:] == (0, 0)


def test_the_whole_text() -> None:
    assert plain_text(PAIR) == "abcd" and plain_text(Example("p", text="x")) == "x"
