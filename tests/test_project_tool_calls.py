"""The project's own calls of tools: reproducible, held out, and what their tools say."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.chat_tokenizers import byte_level_tokenizer
from helpers.scripts import DATA, load_script

from hf_align.commands.chat_tools import load_tools
from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.chat.calls import Call
from hf_align.data.chat.templates import resolve_chat_template
from hf_align.data.prepare import prepare_datasets

FILES = ("tool_calls.jsonl", "tool_calls_heldout.jsonl")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load_script(DATA / "make_tool_calls.py")


def conversations(name: str) -> list[list[dict[str, Any]]]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


def requests(name: str) -> list[str]:
    return [turn["content"] for turns in conversations(name) for turn in turns if turn["role"] == "user"]


def test_the_generator_reproduces_the_committed_files(maker: ModuleType, tmp_path: Path) -> None:
    assert maker.main(["--output", str(tmp_path)]) == 0
    for name in (*FILES, "tools.json"):
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


def test_sizes_and_that_no_request_comes_twice() -> None:
    train, held_out = map(requests, FILES)
    assert (len(conversations(FILES[0])), len(train), len(held_out)) == (201, 600, 100)
    assert len({*train, *held_out}) == 700
    last = [turns[-1] for turns in conversations(FILES[1])]
    assert sum("tool_calls" in turn for turn in last) == 72


def test_every_call_has_the_arguments_that_its_tool_asks_for(maker: ModuleType) -> None:
    kinds = {"string": str, "number": int | float, "integer": int}
    functions = {tool["function"]["name"]: tool["function"]["parameters"] for tool in maker.TOOLS}
    turns = [turn for name in FILES for talk in conversations(name) for turn in talk]
    calls = [call["function"] for turn in turns for call in turn.get("tool_calls", ())]
    assert {call["name"] for call in calls} == set(functions)
    for call in calls:
        wanted = functions[call["name"]]
        assert list(call["arguments"]) == wanted["required"]
        for name, value in call["arguments"].items():
            assert isinstance(value, kinds[wanted["properties"][name]["type"]])
            assert value in wanted["properties"][name].get("enum", [value])


def test_held_out_frames_are_others_and_half_of_the_words_new(maker: ModuleType) -> None:
    for first, second in (*maker.FRAMES.values(), maker.ASKED_BACK):
        assert not set(first) & set(second)
    for field in maker.TRAIN._fields:
        assert not set(getattr(maker.TRAIN, field)) & set(getattr(maker.HELDOUT, field)), field


def test_times_and_durations(maker: ModuleType) -> None:
    assert maker.durations(30) == ["30 minutes", "half an hour", "half an hour"]
    assert maker.durations(12) == ["12 minutes", "twelve minutes"]
    assert maker.times(12, False) == ["12:00", "12 pm", "noon", "noon"]
    assert maker.times(13, True) == ["13:30", "1:30 pm", "half past one in the afternoon"]
    assert maker.times(7, False) == ["07:00", "7 am"]


def test_the_template_with_tools_takes_every_row() -> None:
    tokenizer = byte_level_tokenizer(resolve_chat_template("hermes"))
    tools = str(DATA / "tools.json")
    sets = [DatasetConfig(str(DATA / name), tools=tools) for name in FILES]
    data = DataConfig(sets[:1], eval_datasets=sets[1:], max_length=9000)
    prepared = prepare_datasets(data, tokenizer, seed=0)
    assert (len(prepared.train), len(prepared.eval)) == (201, 100)
    assert prepared.report.leaked == 0 and prepared.report.sources[1].duplicates == 0


def test_the_example_of_chat_has_the_same_tools(maker: ModuleType) -> None:
    tools = load_tools(str(DATA.parent / "recipes" / "chat" / "assistant.py"))

    def shapes(schemas: list[dict[str, Any]]) -> dict[str, dict[str, tuple[Any, Any]]]:
        functions = [schema["function"] for schema in schemas]
        return {
            function["name"]: {
                name: (item["type"], item.get("enum"))
                for name, item in function["parameters"]["properties"].items()
            }
            for function in functions
        }

    assert shapes(tools.schemas) == shapes(maker.TOOLS) and not tools.left_out
    assert json.loads(tools.run(Call("convert_units", {"value": 5, "from_unit": "mi", "to_unit": "km"}))) == {
        **{"value": 8.0, "unit": "km"},
    }
    for value, units in ((100, ("C", "F")), (212, ("F", "C"))):
        given = {"value": value, "from_unit": units[0], "to_unit": units[1]}
        assert json.loads(tools.run(Call("convert_units", given)))["value"] == 312 - value
    tools.run(Call("add_event", {"title": "dentist", "date": "03-09", "time": "19:30"}))
    assert json.loads(tools.run(Call("list_events", {"date": "03-09"}))) == {"events": ["19:30 dentist"]}
    assert "cannot convert km to kg" in tools.run(
        Call("convert_units", {"value": 1, "from_unit": "km", "to_unit": "kg"})
    )
