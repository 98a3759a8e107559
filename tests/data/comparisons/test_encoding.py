"""Comparisons as token trees: every prefix with its branch is the sequence that the same example has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer, sentencepiece_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.data import best_answer_example
from hf_align.data.chat.rendering import make_encoder
from hf_align.data.comparisons.encoding import ComparisonEncoder, answer_example, shared_length
from hf_align.data.conversion.comparisons import IDENTICAL
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import Comparison, ComparisonRow, Example, Message, TokenizedRow

TOKENIZERS = {
    **{name: byte_level_tokenizer(template) for name, (template, _) in FAMILIES.items()},
    "word-start marks": sentencepiece_tokenizer(FAMILIES["chatml"][0]),
    "own BOS": byte_level_tokenizer(FAMILIES["chatml"][0], bos=True),
}
CHATML = TOKENIZERS["chatml"]
_text = st.text(st.sampled_from("ab \n12你😀.<|"), min_size=1, max_size=12).filter(str.strip)
_prompt = st.one_of(
    _text,
    st.lists(_text, min_size=1, max_size=3).map(
        lambda texts: tuple(Message("user" if i % 2 == 0 else "assistant", t) for i, t in enumerate(texts))[
            : len(texts) - (len(texts) + 1) % 2
        ]
    ),
)


def _encoder(tokenizer: Any = CHATML, **options: Any) -> ComparisonEncoder:
    return ComparisonEncoder(make_encoder(tokenizer, train_on="last", **options))


def _tree(comparison: Comparison, **options: Any) -> ComparisonRow:
    (row,) = _encoder(**options).encode([comparison])
    assert isinstance(row, ComparisonRow), row
    return row


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(TOKENIZERS)),
    prompt=_prompt,
    answers=st.lists(_text, min_size=2, max_size=5, unique_by=str.strip),
    beginning=st.sampled_from(["", "same ", "12"]),
    add_eos=st.booleans(),
)
def test_prefix_and_branch_are_the_whole_sequence(
    name: str, prompt: Any, answers: list[str], beginning: str, add_eos: bool
) -> None:
    texts = tuple(beginning + answer for answer in answers)
    comparison = Comparison("p", prompt, texts, tuple(map(float, range(len(texts)))))
    encoder = make_encoder(TOKENIZERS[name], train_on="last", add_eos=add_eos)
    (row,) = ComparisonEncoder(encoder).encode([comparison])
    singles = encoder.encode([answer_example(comparison, k) for k in range(len(texts))])
    if isinstance(row, MalformedRow):
        assert any(isinstance(single, MalformedRow) for single in singles)
        return
    assert len(row.branches) == len(texts)
    for k, single in enumerate(singles):
        assert isinstance(single, TokenizedRow)
        whole, branch = row.sequence(k), row.branches[k]
        assert whole.input_ids.tolist() == single.input_ids.tolist()
        assert whole.target_mask.tolist() == single.target_mask.tolist()
        assert len(branch) > 0 and not branch.target_mask[0]
        assert (whole.input_ids.dtype, branch.target_mask.dtype) == (np.int32, np.bool_)
    # The prefix is as long as it can be: one token more would be a target's, or would differ.
    position = len(row.prefix)
    following = {int(row.sequence(k).input_ids[position]) for k in range(len(texts))}
    first_is_next = any(len(branch) > 1 and branch.target_mask[1] for branch in row.branches)
    assert len(following) > 1 or first_is_next


def test_a_tree_by_hand() -> None:
    # Spaces and line breaks make the tokens of this vocabulary hard to tell; the texts are not.
    comparison = Comparison("f:1", (Message("user", "q"),), ("yes", "yesterday", "no"), (2.0, 0.0, 1.0), 0.5)
    row = _tree(comparison)
    header = CHATML.decode(row.branches[0].input_ids[:1])
    assert CHATML.decode(row.prefix) + header == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    for branch, answer in zip(row.branches, comparison.answers, strict=True):
        assert CHATML.decode(branch.input_ids[branch.target_mask]) == f"{answer}<|im_end|>"
    assert (row.scores.tolist(), row.scores.dtype, row.margin, row.source) == (
        [2, 0, 1],
        np.float64,
        0.5,
        "f:1",
    )
    assert row.pairs() == [(0, 1), (0, 2), (2, 1)]


def test_earlier_answers_are_no_targets() -> None:
    turns = (Message("user", "a"), Message("assistant", "earlier"), Message("user", "b"))
    row = _tree(Comparison("p", turns, ("c", "d"), (1.0, 0.0)))
    assert "earlier" in CHATML.decode(row.prefix)
    assert [CHATML.decode(branch.input_ids[branch.target_mask]) for branch in row.branches] == [
        "c<|im_end|>",
        "d<|im_end|>",
    ]


def test_plain_answers_may_part_inside_the_prompt() -> None:
    # "12" is one token and "13" is two: which tokens the prompt has depends on the answer.
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens(["a2"])
    row = _tree(Comparison("p", "x a", ("2", "3"), (1.0, 0.0)), tokenizer=tokenizer, add_eos=False)
    assert tokenizer.decode(row.prefix) == "x"
    assert [tokenizer.decode(branch.input_ids) for branch in row.branches] == [" a2", " a3"]
    assert [tokenizer.decode(branch.input_ids[branch.target_mask]) for branch in row.branches] == ["a2", "3"]


def test_answers_that_become_the_same_tokens_are_refused() -> None:
    template = FAMILIES["llama3"][0]  # trims answers
    comparison = Comparison("p", (Message("user", "q"),), ("a", "a "), (1.0, 0.0))
    (row,) = _encoder(byte_level_tokenizer(template)).encode([comparison])
    assert isinstance(row, MalformedRow)
    assert (row.kind, "same tokens" in str(row)) == (IDENTICAL, True)


def test_an_answer_that_the_template_loses_is_named() -> None:
    template = "{% for m in messages %}{{ m.content | replace('b', '') + '<|im_end|>' }}{% endfor %}"
    comparison = Comparison("p", (Message("user", "q"),), ("a", "b"), (1.0, 0.0))
    (row,) = _encoder(byte_level_tokenizer(template)).encode([comparison])
    assert isinstance(row, MalformedRow)
    assert str(row).startswith("answer 2: ")


def test_the_best_answer_as_an_example() -> None:
    plain = Comparison("p", "q ", ("a", "b", "c"), (0.0, 2.0, 2.0))
    assert best_answer_example(plain) == Example("p", prompt="q ", completion="b")
    chat = Comparison("p", (Message("user", "q"),), ("a", "b"), (1.0, 0.0))
    turns = (Message("user", "q"), Message("assistant", "a"))
    assert best_answer_example(chat) == Example("p", messages=turns)


def test_an_encoder_that_trains_prompts_is_refused() -> None:
    with pytest.raises(ValueError, match="trained on their answers"):
        ComparisonEncoder(make_encoder(CHATML, train_on="all"))


def _sequence(ids: list[int], targets_from: int) -> TokenizedRow:
    return TokenizedRow(np.array(ids, np.int32), np.arange(len(ids)) >= targets_from)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (([1, 2, 3, 4], 2), ([1, 2, 5, 6], 2), 1),  # up to the token before the targets
        (([1, 2, 3, 4], 3), ([1, 2, 3, 4, 5], 2), 1),  # before the first target of any
        (([1, 2, 3, 4], 3), ([1, 9, 3, 4], 3), 1),  # up to where they part
        (([1, 2], 1), ([3, 2], 1), 0),
        (([1, 2, 3], 3), ([1, 2, 3], 3), 2),  # without a target, all but the last token
        (([1], 1), ([1, 2], 1), 0),
    ],
)
def test_what_sequences_share(
    first: tuple[list[int], int], second: tuple[list[int], int], shared: int
) -> None:
    assert shared_length([_sequence(*first), _sequence(*second)]) == shared
    assert shared_length([_sequence(*second), _sequence(*first)]) == shared


def _row(prefix: list[int], *branches: list[int]) -> ComparisonRow:
    rows = tuple(_sequence(branch, 1) for branch in branches)
    scores = np.arange(len(branches), 0, -1, dtype=np.float64)
    return ComparisonRow(np.array(prefix, np.int32), rows, scores)


def test_cutting_takes_the_ends_of_branches() -> None:
    row = _row([1, 2, 3], [4, 5, 6], [4, 7])
    assert (max(row.lengths), len(row)) == (6, 8)
    cut = row.cut(5)
    assert isinstance(cut, ComparisonRow)
    assert cut.prefix.tolist() == [1, 2, 3]
    assert [branch.input_ids.tolist() for branch in cut.branches] == [[4, 5], [4, 7]]
    assert cut.untrainable() == ""
    assert row.cut(4).untrainable() == "no token of answer 1 is a target"
    assert max(row.cut(2).lengths) == 2
    assert row.branches[0].input_ids.tolist() == [4, 5, 6]


def test_branches_that_differ_only_behind_the_cut_teach_nothing() -> None:
    row = _row([1], [4, 5, 6], [4, 5, 7])
    assert (row.same_answers(), row.untrainable()) == (False, "")
    assert row.cut(3).untrainable() == "answers that do not tie are the same"
