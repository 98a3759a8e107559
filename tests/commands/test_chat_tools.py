"""Tools of a conversation: what is offered, what a call gives, and what of an answer is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_align.commands.chat_tools import Tools, WithoutCalls, load_tools, shown_call
from hf_align.data.chat.calls import Call
from hf_align.errors import UserError

FILE = '''
from math import sqrt

def weather(city: str, day: str = "today") -> dict:
    """Forecast.

    Args:
        city: The city.
        day: Today or tomorrow.
    """
    print("looking it up")
    return {"city": city, "degrees": 4}

async def later(seconds: int) -> str:
    """Wait.

    Args:
        seconds: How long.
    """
    return f"after {seconds}"

def failing() -> str:
    """Fail."""
    raise KeyError("no such thing")

def leaving() -> str:
    """Leave."""
    raise SystemExit(3)

def undocumented(a: int) -> int:
    return a

def untyped(a):
    """Something.

    Args:
        a: A thing.
    """
    return a

def _private(a: int) -> int:
    return a
'''


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    path = tmp_path / "tools.py"
    path.write_text(FILE)
    return load_tools(str(path))


def test_functions_with_hints_and_a_docstring_are_offered(tools: Tools) -> None:
    assert list(tools.functions) == ["weather", "later", "failing", "leaving"]
    schema = tools.schemas[0]["function"]
    assert schema["name"] == "weather" and schema["description"] == "Forecast."
    assert schema["parameters"]["required"] == ["city"]
    assert set(tools.left_out) == {"undocumented", "untyped"}
    assert "docstring" in tools.left_out["undocumented"]


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (Call("weather", {"city": "Oslo"}), '{"city": "Oslo", "degrees": 4}'),
        (Call("later", {"seconds": 2}), "after 2"),
        (Call("failing"), "KeyError: 'no such thing'"),
        (Call("leaving"), "SystemExit: 3"),
        (Call("weather", {"town": "Oslo"}), "TypeError: missing a required argument: 'city'"),
        (Call("weather", {"city": "Oslo", "hour": 3}), "TypeError: got an unexpected keyword argument"),
        (Call("wether", {}), "LookupError: there is no tool 'wether'"),
        (Call("weather", problem="the arguments are no object"), "ValueError: the arguments are no object"),
        (Call("", problem="no JSON object"), "LookupError: no JSON object"),
    ],
)
def test_what_a_call_gives(tools: Tools, call: Call, result: str, capsys) -> None:
    given = tools.run(call)
    error = json.loads(given).get("error", "") if given.startswith("{") else ""
    assert given == result or error.startswith(result)
    assert capsys.readouterr().out == ""  # what a tool prints is no answer


def test_files_that_offer_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tools.py"
    path.write_text("def f(a):\n    return a\n")
    with pytest.raises(UserError, match=r"--tools: .*no function that can be offered.* f: "):
        load_tools(str(path))
    path.write_text("1 / 0")
    with pytest.raises(UserError, match=r"--tools: running .* fails: ZeroDivisionError.*line 1"):
        load_tools(str(path))
    with pytest.raises(UserError, match=r"--tools: there is no file .*Did you mean 'tools.py'"):
        load_tools(str(tmp_path / "tool.py"))


def test_calls_in_words() -> None:
    assert shown_call(Call("add", {"a": 1, "b": "é"})) == 'add(a=1, b="é")'


@pytest.mark.parametrize(
    ("text", "called", "shown"),
    [
        ("It is 3 < 4.", False, "It is 3 < 4."),
        ('Let me see. <tool_call>{"name": "a"}', True, "Let me see. "),
        ('{"name": "a", "arguments": {}}', True, ""),
        ('{"item": "lamps"}', False, '{"item": "lamps"}'),
        ("a <tool", False, "a <tool"),
    ],
)
def test_an_answer_is_shown_as_it_comes_and_a_call_is_not(text: str, called: bool, shown: str) -> None:
    pieces: list[str] = []
    answer = WithoutCalls(pieces.append)
    for letter in text:
        answer.push(letter)
        assert "<tool_call" not in "".join(pieces)
    assert answer.end(called=called) == bool(shown.strip())
    assert "".join(pieces) == shown
    if shown.startswith("It is"):
        assert len(pieces) > 5
