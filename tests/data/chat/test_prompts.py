"""Prompts of any data for fine-tuning, with the rows that they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny_checkpoint import tiny_tokenizer

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.chat.prompts import original_rows, prompt_turns, read_prompts
from hf_align.errors import UserError
from hf_align.types import Example, Message

TALK = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Bye."},
]


def _write(path: Path, rows: list[object]) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def test_every_format_gives_prompts_with_their_rows(tmp_path):
    files = [
        _write(tmp_path / "a.jsonl", [{"instruction": "Send", "output": "12", "extra": 7}]),
        _write(tmp_path / "b.jsonl", [{"messages": TALK, "level": "easy"}]),
        _write(tmp_path / "c.jsonl", [{"prompt": "Once upon", "completion": " a time", "n": [1]}]),
    ]
    tokenizer = tiny_tokenizer()
    prompts, report = read_prompts(DataConfig(files, system_prompt="Be short."), tokenizer)
    assert [prompt.text for prompt in prompts] == [
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nSend<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n",
        "Once upon",
    ]
    assert [prompt.reference for prompt in prompts] == ["12", "Bye.", " a time"]
    assert [tokenizer.decode(list(prompt.ids)) for prompt in prompts] == [prompt.text for prompt in prompts]
    assert prompts[0].row == {"instruction": "Send", "output": "12", "extra": 7}
    assert (prompts[1].row["level"], prompts[2].row["n"]) == ("easy", [1])
    assert [prompt.example.source for prompt in prompts] == [f"{file}:1" for file in files]
    assert report.train_rows == 3


def test_malformed_rows_are_counted_and_the_others_keep_their_places(tmp_path):
    rows = [{"prompt": "a", "completion": "b"}, "{", {"prompt": "c", "completion": "d", "x": 1}]
    path = _write(tmp_path / "a.jsonl", rows)
    prompts, report = read_prompts(DataConfig([path], max_malformed_share=0.5), tiny_tokenizer())
    assert [prompt.example.source for prompt in prompts] == [f"{path}:1", f"{path}:3"]
    assert prompts[1].row == rows[2]
    assert report.sources[0].malformed == 1
    with pytest.raises(UserError, match="1 of 3 rows are malformed"):
        read_prompts(DataConfig([path]), tiny_tokenizer())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "a document"}, "a plain text has no prompt"),
        ({"messages": [{"role": "assistant", "content": "Hi."}]}, "no turn before its answer"),
        ({"prompt": "", "completion": "x"}, "the prompt is empty"),
    ],
)
def test_rows_without_a_prompt(tmp_path, row, words):
    with pytest.raises(UserError, match=words):
        read_prompts(DataConfig([_write(tmp_path / "a.jsonl", [row])]), tiny_tokenizer())


def test_prompts_of_pairs_and_prompts_alone(tmp_path):
    pairs = _write(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    turns = [{"role": "user", "content": "Why?"}]
    verl = {"prompt": turns, "data_source": "x", "reward_model": {"ground_truth": "4"}}
    alone = _write(tmp_path / "alone.jsonl", [{"prompt": "a"}, {"prompt": "b", "system": "S"}, verl])
    later = _write(tmp_path / "later.jsonl", [{"messages": [*TALK, {"role": "user", "content": "And?"}]}])
    prompts, report = read_prompts(DataConfig([pairs, alone, later]), tiny_tokenizer())
    assert [prompt.reference for prompt in prompts] == ["b", "", "", "", ""]
    assert prompts[2].example.messages == (Message("system", "S"), Message("user", "b"))
    assert prompts[3].row["reward_model"] == {"ground_truth": "4"}
    assert prompts[4].text.rstrip().endswith("assistant") and "And?" in prompts[4].text
    assert [source.kept for source in report.sources] == [1, 3, 1]


def test_an_answer_that_has_begun_is_refused(tmp_path):
    path = _write(tmp_path / "a.jsonl", [{"prompt": [TALK[0], {"role": "assistant", "content": "It"}]}])
    with pytest.raises(UserError, match="an answer that has begun is not continued"):
        read_prompts(DataConfig([path]), tiny_tokenizer())


def test_overlong_rows_are_an_error_unless_dropped(tmp_path):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "word " * 40, "completion": "b"}]
    path = _write(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match="max_length"):
        read_prompts(DataConfig([path], max_length=20), tiny_tokenizer())
    prompts, _ = read_prompts(DataConfig([path], max_length=20, overlong="drop"), tiny_tokenizer())
    assert [prompt.text for prompt in prompts] == ["a"]
    with pytest.raises(UserError, match="none of the 2 rows can be used as a prompt: 0 malformed, 2 dropped"):
        read_prompts(DataConfig([path], max_length=2, overlong="drop"), tiny_tokenizer())


def test_the_turns_of_a_prompt():
    turns = tuple(Message(**turn) for turn in TALK)
    assert prompt_turns(Example("x", messages=turns)) == turns[:3]
    later = (*turns, Message("user", "later"))
    assert prompt_turns(Example("x", messages=later)) == later
    assert prompt_turns(Example("x", messages=turns[:1])) == turns[:1]


def test_original_rows_of_a_part(tmp_path):
    path = _write(tmp_path / "a.jsonl", [{"i": number} for number in range(5)])
    dataset = DatasetConfig(path, max_rows=3)
    found = original_rows([dataset], {f"{path}:2", f"{path}:5", "elsewhere:1"})
    assert found == {f"{path}:2": {"i": 1}}


def test_duplicates_are_counted(tmp_path):
    rows = [
        {"prompt": "a", "completion": "b"},
        {"prompt": "a", "completion": "b"},
        {"prompt": "c", "completion": "b"},
    ]
    _, report = read_prompts(DataConfig([_write(tmp_path / "a.jsonl", rows)]), tiny_tokenizer())
    assert report.sources[0].duplicates == 1
