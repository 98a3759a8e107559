"""Tools of a conversation: functions of a Python file, described to the model and called with what it wrote.

A function is offered where transformers can make a JSON schema of its type hints and its docstring. Whatever
goes wrong in a call is the tool's result, so that the model can answer with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hf_align.data.chat.calls import TAG, Call
from hf_align.errors import UserError, did_you_mean
from hf_align.rewards.functions import load_file


@dataclass(frozen=True)
class Tools:
    """``functions`` by name, and their ``schemas`` in the same order. ``left_out``: public functions of the
    file that cannot be offered, with the reason."""

    functions: Mapping[str, Callable[..., Any]]
    schemas: list[dict[str, Any]]
    left_out: Mapping[str, str]

    def run(self, call: Call) -> str:
        """What a call gives, as text for the model: the value, or the error with its name.

        What the function prints goes to standard error. Ctrl-C ends the call and is its result.
        """
        if call.name not in self.functions:
            known = ", ".join(self.functions)
            problem = f"there is no tool {call.name!r}; there are: {known}." if call.name else call.problem
            return _failed("LookupError", problem + did_you_mean(call.name, self.functions))
        if call.problem:
            return _failed("ValueError", call.problem)
        function = self.functions[call.name]
        try:
            with contextlib.redirect_stdout(sys.stderr):
                inspect.signature(function).bind(**call.arguments)
                value = function(**call.arguments)
                value = asyncio.run(value) if inspect.iscoroutine(value) else value
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # the user's own code
            return _failed(type(error).__name__, " ".join(str(error).split()))


def load_tools(file: str) -> Tools:
    """The tools in a Python file, which is run: its own public functions.

    Raises UserError where the file cannot be run, and where none of its functions can be offered.
    """
    from transformers.utils import get_json_schema

    module, _ = load_file(file, "--tools")
    functions: dict[str, Callable[..., Any]] = {}
    schemas: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for name, function in vars(module).items():
        own = inspect.isfunction(function) and function.__module__ == module.__name__
        if not own or name.startswith("_"):
            continue
        try:
            schemas.append(get_json_schema(function))
        except Exception as error:  # of several types: no docstring, no type hint, one that it does not know
            left_out[name] = " ".join(str(error).split())
        else:
            functions[name] = function
    if not functions:
        found = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UserError(
            f"--tools: '{file}' has no function that can be offered; expected public functions with type "
            f"hints and a docstring that describes each argument under Args:.{f' {found}' if found else ''}"
        )
    return Tools(functions, schemas, left_out)


def _failed(kind: str, detail: str) -> str:
    return json.dumps({"error": f"{kind}: {detail}" if detail else kind}, ensure_ascii=False)


def shown_call(call: Call) -> str:
    """``weather(city="Oslo")``."""
    given = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items()
    )
    return f"{call.name or 'a call that cannot be read'}({given})"


class WithoutCalls:
    """Passes on the text of an answer as it comes, but for what is, or may become, a call of a tool."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._text = ""
        self._shown = 0

    def push(self, piece: str) -> None:
        self._text += piece
        self._pass_on(self._sure())

    def end(self, *, called: bool) -> bool:
        """Pass on the rest unless the answer ``called`` a tool; whether there was any text."""
        if not called:
            self._pass_on(len(self._text))
        return bool(self._text[: self._shown].strip())

    def _pass_on(self, until: int) -> None:
        if until > self._shown:
            self._show(self._text[self._shown : until])
            self._shown = until

    def _sure(self) -> int:
        """How much of the text is none of a call, whatever follows."""
        text = self._text
        if text.lstrip()[:1] in ("", "{", "["):
            return 0
        if TAG in text:
            return text.index(TAG)
        started = next((n for n in range(len(TAG) - 1, 0, -1) if text.endswith(TAG[:n])), 0)
        return len(text) - started
