"""Compared answers that go on over several turns: read, trained on all or the last, and written again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer
from helpers.comparison_rows import B, Q, S, U, bot, convert, user

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.chat.prompts import read_prompts
from hf_align.data.chat.rendering import make_encoder
from hf_align.data.comparisons.encoding import ComparisonEncoder
from hf_align.data.comparisons.forms import as_hh, as_preference, as_ranking, as_sharegpt
from hf_align.data.prepare import prepare_datasets
from hf_align.errors import UserError
from hf_align.preference.recipe import DpoConfig
from hf_align.types import Comparison, ComparisonRow, Message
from hf_align.types.examples import from_stored

TOKENIZER = byte_level_tokenizer(FAMILIES["chatml"][0])
MORE = (Message("assistant", "b"), Message("user", "why?"), Message("assistant", "so"))
CHOSEN = [B, user("why?"), bot("so")]
PAIR = Comparison("f:1", Q, (MORE, "c"), (1.0, 0.0))


@pytest.mark.parametrize(
    ("row", "system"),
    [
        ({"prompt": [U], "chosen": CHOSEN, "rejected": [bot("c")]}, False),
        ({"prompt": [U], "chosen": [U, *CHOSEN], "rejected": "c"}, False),
        ({"prompt": "q", "chosen": CHOSEN, "rejected": bot("c")}, False),
        ({"prompt": "q", "chosen": [U, *CHOSEN], "rejected": [U, bot("c")]}, False),
        ({"chosen": [S, U, *CHOSEN], "rejected": [S, U, bot("c")]}, True),
        ({"prompt": [U], "answers": [CHOSEN, "c"], "scores": [1, 0]}, False),
        (
            {
                "chosen": "\n\nHuman: q\n\nAssistant: b\n\nHuman: why?\n\nAssistant: so",
                "rejected": "\n\nHuman: q\n\nAssistant: c",
            },
            False,
        ),
    ],
)
def test_they_are_read_in_every_form(row: dict[str, Any], system: bool) -> None:
    found = convert(row)
    assert found.answers == (MORE, "c") and found.scores == (1.0, 0.0)
    assert found.prompt == ((Message("system", "s"), *Q) if system else Q)


def test_both_sides_may_have_several() -> None:
    other = [bot("c"), user("how?"), bot("thus"), user("ok"), bot("bye")]
    found = convert({"chosen": [U, *CHOSEN], "rejected": [U, *other]})
    assert [len(answer) for answer in found.answers] == [3, 5]


@pytest.mark.parametrize(
    ("train_on", "chosen", "rejected"),
    [
        ("assistant", ["b<|im_end|>", "so<|im_end|>"], ["c<|im_end|>"]),
        ("last", ["so<|im_end|>"], ["c<|im_end|>"]),
    ],
)
def test_all_turns_of_the_assistant_are_trained_or_the_last(
    train_on: Any, chosen: list[str], rejected: list[str]
) -> None:
    prompt = (Message("user", "p"), Message("assistant", "never trained"), *Q)
    pair = Comparison("f:1", prompt, PAIR.answers, PAIR.scores)
    (row,) = ComparisonEncoder(make_encoder(TOKENIZER, train_on=train_on)).encode([pair])
    assert isinstance(row, ComparisonRow)
    for k, expected in enumerate((chosen, rejected)):
        branch = row.branches[k]
        assert TOKENIZER.decode(branch.input_ids[branch.target_mask]) == "".join(expected)
        talk = [*prompt, *(MORE if k == 0 else [Message("assistant", "c")])]
        written = [{"role": turn.role, "content": turn.content} for turn in talk]
        ids = TOKENIZER.apply_chat_template(written, tokenize=True, return_dict=True)["input_ids"]
        assert row.sequence(k).input_ids.tolist() == ids


def test_the_key_decides_and_only_dpo_has_it(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": [U], "chosen": CHOSEN, "rejected": [bot("c")]}) + "\n")
    counts = {
        key: prepare_datasets(
            DataConfig([DatasetConfig(str(path))], train_on=key), TOKENIZER, seed=0, comparisons=True
        ).report.sources[0].target_tokens
        for key in ("assistant", "last")
    }  # fmt: skip
    assert counts["assistant"] - counts["last"] == 2  # the first turn: b, and the token that ends it
    given = {"model_name_or_path": "m", "datasets": "a.jsonl", "output_dir": "x"}
    assert DpoConfig.from_flat({**given, "train_on": "last"}).data.train_on == "last"
    with pytest.raises(UserError, match="train_on: found all"):
        DpoConfig.from_flat({**given, "train_on": "all"})


def test_a_model_is_asked_the_prompt_that_all_share(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": [U], "chosen": CHOSEN, "rejected": [bot("c")]}) + "\n")
    ((prompt,), _) = read_prompts(DataConfig([DatasetConfig(str(path))]), TOKENIZER)
    assert prompt.text == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n" and prompt.reference == "b"


@pytest.mark.parametrize("form", [as_preference, as_sharegpt, as_ranking, as_hh])
def test_every_form_is_read_back(form: Any) -> None:
    assert convert(form(PAIR)) == PAIR


def test_they_are_stored_whole() -> None:
    assert from_stored("f:1", *json.loads(json.dumps(PAIR.stored()))) == PAIR
