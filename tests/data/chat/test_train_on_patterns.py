"""Regular expressions as train_on: only what they match is a target, and rows without a match are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer, conversation

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.chat.rendering import make_encoder
from hf_align.data.prepare import prepare_datasets
from hf_align.errors import UserError
from hf_align.types import Example

TOKENIZER = byte_level_tokenizer(FAMILIES["chatml"][0])
TALK = Example("f:1", messages=tuple(conversation("12 + 30?", "I add. It is 42.", "And 1 + 1?", "It is 2.")))


def targets(example: Example, *patterns: str, **options: Any) -> list[str]:
    """What is trained, in pieces that follow each other."""
    row = make_encoder(TOKENIZER, patterns=patterns, **options).encode([example])[0]
    pieces, before = [], False
    for token, target in zip(row.input_ids, row.target_mask, strict=True):
        text = TOKENIZER.decode([token])
        if target:
            pieces = [*pieces[:-1], pieces[-1] + text] if before else [*pieces, text]
        before = bool(target)
    return pieces


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([r"I add\."], ["I add."]),
        ([r"is (\d+)"], ["42", "2"]),  # the group
        (
            [r"It is.*"],
            ["It is 42.<|im_end|>", "It is 2.<|im_end|>"],
        ),  # to the end, and so the turn's end too
        ([r"I add", r"\d+\.$"], ["I add", "42.<|im_end|>", "2.<|im_end|>"]),
        ([r"12 \+ 30|user"], []),  # in the question
        ([r"x*"], []),  # empty matches
        ([r"(?s).*"], ["I add. It is 42.<|im_end|>", "It is 2.<|im_end|>"]),
    ],
)
def test_what_matches_in_the_answers_is_a_target(patterns: list[str], expected: list[str]) -> None:
    found = ["".join(piece.split(" ")) for piece in targets(TALK, *patterns)]
    assert found == ["".join(piece.split(" ")) for piece in expected]


def test_everything_is_what_assistant_trains() -> None:
    every = make_encoder(TOKENIZER).encode([TALK])[0]
    matched = make_encoder(TOKENIZER, patterns=[r"(?s).+"]).encode([TALK])[0]
    assert (every.target_mask == matched.target_mask).all()
    plain = Example("f:1", prompt="1 + 1 = ", completion="2, I say")
    assert targets(plain, r"(?s).+") == targets(plain) and targets(plain)[0].endswith("</s>")


def test_completions_and_texts() -> None:
    plain = Example("f:1", prompt="say 2: ", completion="2, I say")
    assert [text.strip() for text in targets(plain, r"2")] == ["2"]
    assert targets(plain, r"say")[0].strip() == "say</s>"
    assert "".join(targets(Example("f:1", text="one two"), "two")).strip() == "two</s>"


def test_rows_without_a_match_are_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}] for text in ("is 4", "no")
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))

    def prepare(**keys: Any) -> Any:
        data = DataConfig([DatasetConfig(str(path))], train_on=[r"is \d"], **keys)
        return prepare_datasets(data, TOKENIZER, seed=0)

    found = prepare(max_untrained_share=0.5)
    assert len(found.train) == 1 and found.report.sources[0].no_target == 1
    assert found.report.sources[0].unanswered == [f"{path}:2: train_on matches nothing in what is trained"]
    with pytest.raises(UserError, match="1 of 2 rows have no token to train on"):
        prepare()
    with pytest.raises(UserError, match="answers of encoder-decoder models are trained whole"):
        prepare_datasets(
            DataConfig([DatasetConfig(str(path))], train_on=["a"]), TOKENIZER, seed=0, seq2seq=True
        )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["("], r"train_on: '\(' is no regular expression"),
        ([], "train_on: found an empty list"),
        ("asistant", "train_on: .* Did you mean 'assistant'"),
    ],
)
def test_wrong_patterns(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DataConfig([DatasetConfig("a.jsonl")], train_on=value)
