"""System turns in the user's, turns of one role as one: exactly, and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_tokenizers import FAMILIES, byte_level_tokenizer

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.chat.prompts import read_prompts
from hf_align.data.conversion.reshaping import FOLDED, MERGED, folded_system, merged_turns, reshaped
from hf_align.data.prepare import PreparedData, prepare_datasets
from hf_align.data.reading.raw import MalformedRow
from hf_align.types import Comparison, Example, Message

SYSTEM, USER, ANSWER = Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello")


def test_a_system_turn_goes_before_the_words_of_the_user() -> None:
    folded = (Message("user", "Be brief.\n\nHi"), ANSWER)
    assert folded_system((SYSTEM, USER, ANSWER)) == folded
    assert folded_system(folded) == folded
    both = (Message("system", "A."), Message("system", "B."), USER)
    assert folded_system(both) == (Message("user", "A.\n\nB.\n\nHi"),)
    assert folded_system((USER, ANSWER, SYSTEM, USER)) == (USER, ANSWER, Message("user", "Be brief.\n\nHi"))
    assert folded_system((Message("system", ""), USER)) == (USER,)
    with pytest.raises(MalformedRow, match="no turn of the user follows"):
        folded_system((USER, SYSTEM, ANSWER))


def test_turns_of_one_role_become_one() -> None:
    calling = Message("assistant", "", json.dumps({"tool_calls": [1]}))
    tool = Message("tool", "4")
    assert merged_turns((USER, USER, ANSWER)) == (Message("user", "Hi\n\nHi"), ANSWER)
    assert merged_turns((USER, ANSWER, ANSWER)) == (USER, Message("assistant", "Hello\n\nHello"))
    assert merged_turns((USER, ANSWER, calling, tool, tool)) == (
        *(USER, Message("assistant", "Hello", calling.extra), tool, tool),
    )
    with pytest.raises(MalformedRow, match="turn 2 has calls of tools"):
        merged_turns((USER, calling, ANSWER))
    with pytest.raises(MalformedRow, match="turns 2 and 3 of the assistant only one is trained"):
        merged_turns((USER, ANSWER, Message("assistant", "bad", trained=False)))


def config(**keys: Any) -> DataConfig:
    return DataConfig([DatasetConfig("a.jsonl")], **keys)


def test_what_was_done_is_said_and_nothing_else_is_changed() -> None:
    talk = Example("f:1", messages=(SYSTEM, USER, USER, ANSWER), template="{}")
    both = config(fold_system_prompt=True, merge_turns=True)
    assert reshaped(talk, config()) == (talk, ())
    changed, done = reshaped(talk, both)
    assert changed == Example(
        "f:1", messages=(Message("user", "Be brief.\n\nHi\n\nHi"), ANSWER), template="{}"
    )
    assert done == (FOLDED, MERGED)
    pair = Comparison("f:1", (SYSTEM, USER), ("a", "b"), (1.0, 0.0))
    assert reshaped(pair, both)[0].prompt == (Message("user", "Be brief.\n\nHi"),)
    plain = Example("f:1", prompt="a", completion="b")
    assert reshaped(plain, both) == (plain, ())


def test_fold_is_short_for_the_key() -> None:
    data = config(system_prompt="fold")
    assert (data.system_prompt, data.fold_system_prompt) == (None, True)


def prepared(folder: Path, rows: list[list[dict[str, str]]], **keys: Any) -> PreparedData:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    data = DataConfig([DatasetConfig(str(path))], max_malformed_share=1.0, **keys)
    return prepare_datasets(data, byte_level_tokenizer(FAMILIES["gemma"][0]), seed=0)


def test_a_template_without_system_role_learns_the_folded_conversation(tmp_path: Path) -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    found = prepared(tmp_path, [talk, talk[1:]], fold_system_prompt=True)
    written = [{"role": "user", "content": "Be brief.\n\nHi"}, talk[2]]
    tokenizer = byte_level_tokenizer(FAMILIES["gemma"][0])
    expected = tokenizer.apply_chat_template(written, tokenize=True, return_dict=True)["input_ids"]
    rows = {row.source.rsplit(":", 1)[1]: row for row in found.train}
    assert rows["1"].input_ids.tolist() == expected
    assert tokenizer.decode(rows["1"].input_ids[rows["1"].target_mask]) == "Hello<end_of_turn>"
    (source,) = found.report.sources
    assert source.changed == {FOLDED: 1} and "1 rows: system turn folded" in found.report.summary()
    assert source.to_dict()["changed"] == {FOLDED: 1}
    given = prepared(tmp_path, [talk[1:]], fold_system_prompt=True, system_prompt="Be brief.")
    assert given.train[0].input_ids.tolist() == expected
    refused = prepared(tmp_path, [talk, talk[1:]])
    assert refused.report.sources[0].malformed == 1


def test_prompts_are_asked_in_the_same_form(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    path.write_text(json.dumps({"messages": talk}) + "\n")
    data = DataConfig([DatasetConfig(str(path))], fold_system_prompt=True)
    prompts, report = read_prompts(data, byte_level_tokenizer(FAMILIES["gemma"][0]))
    assert "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>" in prompts[0].text
    assert report.sources[0].changed == {FOLDED: 1}
