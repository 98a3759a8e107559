"""Tools of a whole source: from the recipe or a file, to every conversation, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_tokenizers import byte_level_tokenizer

from hf_align.config import DataConfig, DatasetConfig
from hf_align.data.chat.rendering import make_encoder
from hf_align.data.chat.templates import resolve_chat_template
from hf_align.data.conversion.detection import open_rows
from hf_align.data.conversion.formats import FORMATS
from hf_align.data.conversion.source_tools import tools_of_source
from hf_align.data.reading.raw import MalformedRow
from hf_align.data.store.fingerprint import files_of, source_key
from hf_align.errors import UserError

ADD = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
WRAPPED = {"type": "function", "function": ADD}
TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def rows(folder: Path, *values: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def examples(dataset: DatasetConfig, **options: Any) -> list[Any]:
    convert, found = open_rows(dataset, FORMATS, **options)
    return [convert(row) for row in found]


def test_a_list_and_a_file_are_the_same_and_a_row_has_precedence(tmp_path: Path) -> None:
    other = {"type": "function", "function": {"name": "other"}}
    path = rows(tmp_path, {"messages": TALK}, {"messages": TALK, "tools": [other]})
    with path.open("a") as file:
        file.write(json.dumps({"messages": TALK, "tools": []}) + "\n")
    (tmp_path / "tools.json").write_text(json.dumps([ADD]))
    for tools in ([ADD], [WRAPPED], str(tmp_path / "tools.json")):
        found = examples(DatasetConfig(str(path), tools=tools), template_options={"style": "a"})
        templates = [json.loads(example.template) for example in found]
        assert templates == [
            {"style": "a", "tools": [WRAPPED]},
            {"style": "a", "tools": [other]},
            {"style": "a"},
        ]


def test_plain_text_has_no_place_for_tools(tmp_path: Path) -> None:
    path = rows(tmp_path, {"prompt": "q", "completion": "a"})
    with pytest.raises(MalformedRow, match="plain text has no chat template"):
        examples(DatasetConfig(str(path), tools=[ADD]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"tools: .*toolz\.json: no such file\. Did you mean 'tools\.json'"),
        ("{", "toolz.json: this is not valid JSON"),
        ("[]", "toolz.json: found no tool"),
        ("3", "toolz.json: expected a list of tools"),
        ('["add"]', "toolz.json: tools 1: expected an object"),
        ('[{"description": "Adds."}]', "toolz.json: tool 1 has no name"),
    ],
)
def test_what_is_no_list_of_tools_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    (tmp_path / "tools.json").write_text(json.dumps([ADD]))
    if content is not None:
        (tmp_path / "toolz.json").write_text(content)
    with pytest.raises(UserError, match=message):
        tools_of_source(DatasetConfig("rows.jsonl", tools=str(tmp_path / "toolz.json")))


def test_the_content_of_the_file_is_in_the_key_of_prepared_rows_not_its_name(tmp_path: Path) -> None:
    path = rows(tmp_path, {"messages": TALK})
    encoder = make_encoder(byte_level_tokenizer(resolve_chat_template("hermes")))

    def key(tools: Any) -> str | None:
        dataset = DatasetConfig(str(path), tools=tools)
        data = DataConfig([dataset])
        return source_key(dataset, data, encoder, files_of(dataset), keep_examples=False)

    file = tmp_path / "tools.json"
    file.write_text(json.dumps([ADD]))
    first = key(str(file))
    assert first == key([ADD]) != key(None)
    file.write_text(json.dumps([ADD | {"description": "Sums."}]))
    assert key(str(file)) != first
