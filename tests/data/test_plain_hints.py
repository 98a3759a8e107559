"""Plain pairs beside a chat template, and prompts whose last white space joins the answer, are warned of."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hf_align.config import DataConfig
from hf_align.data import prepare_datasets

TURN = {"role": "user", "content": "a?"}
ANSWER = {"role": "assistant", "content": "b"}


def joining_tokenizer() -> PreTrainedTokenizerFast:
    """Of words with the space before them, so that a space in front of "yes" is a part of it."""
    vocabulary = {"<unk>": 0, "</s>": 1, "Q:": 2, " A:": 3, " yes": 4, "yes": 5, " ": 6}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(" ?[^ ]+| +"), behavior="isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    )


def warnings_of(
    folder: Path, caplog: Any, tokenizer: Any, *rows: dict[str, Any], **options: Any
) -> list[str]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    caplog.clear()
    prepare_datasets(DataConfig(datasets=[str(path)], max_malformed_share=1.0), tokenizer, seed=0, **options)
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_plain_pairs_beside_a_chat_template(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chat = byte_level_tokenizer(FAMILIES["chatml"][0])
    plain = byte_level_tokenizer(FAMILIES["chatml"][0])
    plain.chat_template = None
    pair = {"prompt": "a?", "completion": "b"}
    (found,) = warnings_of(tmp_path, caplog, chat, pair)
    assert "without the tokenizer's chat template" in found and "rows.jsonl" in found
    assert not warnings_of(tmp_path, caplog, plain, pair)
    assert not warnings_of(tmp_path, caplog, chat, {"messages": [TURN, ANSWER]}, {"messages": 7})
    assert not warnings_of(tmp_path, caplog, chat, {"text": "a b"})
    compared = {"prompt": "a?", "chosen": "b", "rejected": "c"}
    assert len(warnings_of(tmp_path, caplog, chat, compared, comparisons=True)) == 1


def test_white_space_that_joins_the_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = joining_tokenizer()
    (found,) = warnings_of(
        tmp_path,
        caplog,
        tokenizer,
        {"prompt": "Q: A: ", "completion": "yes"},
        {"prompt": "Q: A:", "completion": " yes"},
    )
    assert "1 of the first 2 prompts end with white space" in found and "'Q: A: '" in found
    assert not warnings_of(tmp_path, caplog, tokenizer, {"prompt": "Q: A:", "completion": " yes"})
