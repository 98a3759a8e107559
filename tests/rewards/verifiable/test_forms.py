"""JSON of a schema, tags in order, lengths by hand, languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_align.errors import UserError
from hf_align.rewards.verifiable.forms import (
    check_json_schema,
    check_length,
    format_tags,
    json_schema,
    language,
    length,
)

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ('{"n": 3}', 1.0),
        ('```json\n{"n": 3}\n```', 1.0),
        ('<think>{}</think>\n{"n": 3}', 1.0),
        ('{"n": "3"}', 0.0),
        ('Here it is: {"n": 3}', 0.0),
        ("[" * 100_000, 0.0),
        ("", 0.0),
    ],
)
def test_json_of_the_schema(tmp_path: Path, said: str, score: float) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(SCHEMA))
    assert json_schema([said], [{}], schema=str(path)) == [score]
    assert json_schema([said] * 2, [{"schema": SCHEMA}, {"schema": json.dumps(SCHEMA)}]) == [score] * 2


def test_what_is_no_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'.*/none.json' cannot be read"):
        check_json_schema(schema=str(tmp_path / "none.json"))
    path = tmp_path / "s.json"
    path.write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        check_json_schema(schema=str(path))
    path.write_text('{"type": "nothing"}')
    with pytest.raises(UserError, match="'nothing' is not valid"):
        check_json_schema(schema=str(path))
    with pytest.raises(UserError, match="column 'schema': found NoneType, expected a JSON schema"):
        json_schema(["{}"], [{}])


@pytest.mark.parametrize(
    ("said", "plain", "rest"),
    [
        ("<think>a</think><answer>b</answer>", 1.0, 1.0),
        (" <think>\na\n</think>\n<answer>b</answer>\n", 1.0, 1.0),
        ("<think>a</think><answer>b</answer> more", 0.0, 1.0),
        ("so <think>a</think><answer>b</answer>", 0.0, 0.0),
        ("<answer>b</answer><think>a</think>", 0.0, 0.0),
        ("<think>a</think><think>a</think><answer>b</answer>", 0.0, 0.0),
        ("<think>a<answer>b</answer>", 0.0, 0.0),
    ],
)
def test_tags_stand_in_order_each_once(said: str, plain: float, rest: float) -> None:
    assert format_tags([said]) == [plain]
    assert format_tags([said], rest=True) == [rest]


def test_length_by_hand() -> None:
    texts = ["", "a b", "a b c d", "a b c d e f g h"]
    assert length(texts, at_least=4, at_most=4) == [0.0, 0.5, 1.0, 0.5]
    assert length(texts, at_most=2) == [1.0, 1.0, 0.5, 0.25]
    assert length([" 你好 "], at_least=4, unit="characters") == [0.5]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs at_least or at_most"),
        ({"at_least": 5, "at_most": 4}, "found at_least 5"),
        ({"at_most": 3, "unit": "tokens"}, "found 'tokens', expected words or characters"),
    ],
)
def test_lengths_that_say_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_length(**options)


def test_the_language_of_an_answer() -> None:
    texts = ["The train leaves at nine in the morning.", "火车早上九点出发，请不要迟到。", "123"]
    found = language(texts, [{}] * 3, code="en")
    assert found[0] > 0.5 and found[1:] == [0.0, 0.0]
    assert language(texts[1:2], [{"language": "zh"}])[0] > 0.5
    with pytest.raises(UserError, match="the row has no code in its column 'language'"):
        language(["a"], [{}])


def test_a_schema_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    asked: list[object] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *given, **_: asked.append(given))
    with pytest.raises(UserError, match=r"refers to 'http://host/x.json', which is not in it"):
        json_schema(["3"], [{"schema": {"$ref": "http://host/x.json"}}])
    assert asked == []
    inside = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}
    assert json_schema(["3", '"3"'], [{"schema": inside}] * 2) == [1.0, 0.0]
