"""Options that a recipe gives to a function by name: those it takes are its keyword-only parameters."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from hf_align.errors import UserError, did_you_mean

Value = str | bool | int | float | list[str]
"""What such an option can be in a recipe."""

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def check_keywords(function: Callable[..., Any], options: Mapping[str, Any], where: str) -> None:
    """Raise UserError, which begins with ``where``, for an option that ``function`` lacks, for a value of
    another type, and for a missing one that has no default."""
    hints = typing.get_type_hints(function)
    taken = {
        parameter.name: parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for key, value in options.items():
        if key not in taken:
            raise UserError(
                f"{where} has no option '{key}'.{did_you_mean(key, taken)} It has: "
                f"{', '.join(taken) or 'none'}."
            )
        if not any(_fits(value, hint) for hint in _members(hints[key])):
            expected = " or ".join(dict.fromkeys(map(_described, _members(hints[key]))))
            raise UserError(f"{where}: {key}: found {value!r}, expected {expected}.")
    for key, parameter in taken.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            expected = " or ".join(dict.fromkeys(map(_described, _members(hints[key]))))
            raise UserError(f"{where} needs its option {key}: {expected}.")


def _members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union; choices one by one; the hint itself where it is neither."""
    if typing.get_origin(hint) in (list, None):
        return (hint,)
    return tuple(part for member in typing.get_args(hint) for part in _members(member))


def _fits(value: Any, hint: Any) -> bool:
    if typing.get_origin(hint) is list:
        return isinstance(value, list) and all(isinstance(item, typing.get_args(hint)[0]) for item in value)
    if not isinstance(hint, type):  # a choice
        return bool(value == hint)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float) if hint is float else isinstance(value, hint)


def _described(hint: Any) -> str:
    if typing.get_origin(hint) is list:
        return "a list of texts"
    return _WORDS.get(hint, hint.__name__) if isinstance(hint, type) else repr(hint)
