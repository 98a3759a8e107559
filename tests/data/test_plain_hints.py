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
from hf_align.data import prepare_datasets, prompt_ids, render_prompt
from hf_align.data.plain import asked_text
from hf_align.data.unpaired import prepare_unpaired

TURN = {"role": "user", "content": "a?"}
ANSWER = {"role": "assistant", "content": "b"}


def joining_tokenizer() -> PreTrainedTokenizerFast:
    """Of words with the space before them, so that a space in front of "yes" is a part of it."""
    vocabulary = {"<unk>": 0, "</s>": 1, "Q:": 2, " A:": 3, " yes": 4, "yes": 5, " ": 6}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\S+|\s+(?!\S)|\s+"), behavior="isolated")
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


def test_a_prompt_is_asked_as_it_is_trained(tmp_path: Path) -> None:
    tokenizer = joining_tokenizer()
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "Q: A: ", "completion": "yes"}\n')
    prepared = prepare_datasets(DataConfig(datasets=[str(path)]), tokenizer, seed=0, keep_examples=True)
    row, example = prepared.train[0], prepared.train.examples[0]
    trained = row.input_ids[: int(row.target_mask.argmax())].tolist()
    assert prompt_ids(tokenizer, example) == trained == [2, 3]
    assert render_prompt(tokenizer, example) == ("Q: A:", " yes")


@pytest.mark.parametrize("prompt", ["Q: A:", "Q: A:  ", "\n", "", " "])
def test_white_space_that_is_a_token_of_its_own_is_asked(prompt: str) -> None:
    # Two blanks: the first is a token by itself, the second belongs to the answer.
    asked = asked_text(joining_tokenizer(), prompt)
    assert asked == (prompt[:-1] if prompt.endswith("  ") else prompt)


def test_labelled_answers_and_prompts_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chat = byte_level_tokenizer(FAMILIES["chatml"][0])
    path = tmp_path / "kto.jsonl"
    path.write_text('{"prompt": "a?", "completion": "b", "label": true}\n' * 2)
    prepare_unpaired(DataConfig(datasets=[str(path)]), chat, seed=0)
    assert "without the tokenizer's chat template" in caplog.text
    assert len(warnings_of(tmp_path, caplog, chat, {"prompt": "a?"}, asked=True)) == 1
