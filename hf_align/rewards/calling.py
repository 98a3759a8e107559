"""How a reward function of the user is called: by the names of its parameters.

Two forms are taken. Ours: ``prompts``, ``completions`` and ``rows`` (the rows with all their columns). TRL's:
``completions``, ``prompts`` and any column of the rows by its name, a list with a value for each completion,
or ``**kwargs`` for all of them. A function of three parameters that have other names is called by position,
in the order of our form. Coroutines are awaited.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hf_align.errors import UserError


class RowProblem(UserError):
    """What is wrong with row number ``row`` (from 0) of a call; whoever knows its place adds that."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


FORM = "function(prompts, completions, rows) or function(completions, a_column, **kwargs)"
_GIVEN = ("prompts", "completions", "rows")
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_form(function: Callable[..., Any], key: str) -> None:
    """Raise UserError for a function that can be called in neither form. ``key`` begins the message."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables written in C do not tell
        return
    if _by_position(signature) or "completions" in signature.parameters or _takes_all(signature):
        return
    name = getattr(function, "__name__", type(function).__name__)
    raise UserError(f"{key}: found {name}{signature}, expected {FORM}")


def call(
    function: Callable[..., Any],
    key: str,
    prompts: Sequence[str],
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> Any:
    """What ``function`` returns. Raises UserError where it wants a column that the rows lack, and whatever
    the function raises."""
    given: dict[str, Any] = {
        "prompts": list(prompts),
        "completions": list(completions),
        "rows": [dict(row) for row in rows],
    }
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return _awaited(function(*given.values()))
    if _by_position(signature):
        return _awaited(function(*given.values()))
    columns = dict.fromkeys(column for row in rows for column in row if isinstance(column, str))
    arguments = {}
    for parameter in signature.parameters.values():
        name = parameter.name
        if parameter.kind not in _BY_NAME:
            continue
        if name in given:
            arguments[name] = given[name]
        elif name in columns:
            arguments[name] = [row.get(name) for row in rows]
        elif parameter.default is inspect.Parameter.empty:
            listed = ", ".join([*_GIVEN, *columns])
            raise UserError(f"{key}: it wants '{name}', which is no column of the rows; there are: {listed}")
    if _takes_all(signature):
        others = {name: value for name, value in given.items() if name in ("prompts", "completions")}
        others |= {name: [row.get(name) for row in rows] for name in columns if name.isidentifier()}
        arguments = others | arguments
    return _awaited(function(**arguments))


def _by_position(signature: inspect.Signature) -> bool:
    """Whether it takes three values by position and none of the names that values are given by."""
    if set(signature.parameters) & set(_GIVEN):
        return False
    try:
        signature.bind([], [], [])
    except TypeError:
        return False
    return True


def _takes_all(signature: inspect.Signature) -> bool:
    return any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def _awaited(returned: Any) -> Any:
    if not inspect.isawaitable(returned):
        return returned

    async def wait() -> Any:
        return await returned

    return asyncio.run(wait())
