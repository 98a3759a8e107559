"""Check one value against its option: type, choices, limits. The same code serves YAML, options and Python.

Nothing is converted but a whole number given where any number may stand (``1`` becomes ``1.0``), a tuple
given for a list, and, where the option allows it, one value given for a list of one.
"""

from __future__ import annotations

import math
import types
from typing import Any, get_args, get_origin

from hf_align.config.fields import Mismatch, Spec, choices, describe_found, entry_type, members
from hf_align.errors import UserError, did_you_mean

MAX_INT = 2**63 - 1
"""Larger whole numbers do not fit the 64-bit integers of the libraries they are passed to."""


class _TypeMismatch(Exception):
    """Raised inside this file: ``value`` does not fit; ``reason`` says why when the type alone does not."""

    def __init__(self, value: Any, reason: str = "") -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason


def coerce(value: Any, spec: Spec) -> Any:
    """``value`` as the option's type.

    Raises :class:`Mismatch` (a ``UserError`` without a place) saying what was found and expected.
    """
    if spec.option.one_or_list and not isinstance(value, list | tuple) and value is not None:
        value = [value]
    try:
        result = _fit(value, spec.hint)
        _check_limits(result, spec)
    except _TypeMismatch as problem:
        suggestion = ""
        if isinstance(problem.value, str):
            suggestion = did_you_mean(problem.value, _all_choices(spec.hint))
        raise Mismatch(
            f"found {describe_found(problem.value)}{problem.reason}, expected {spec.expected}.{suggestion}"
        ) from None
    return result


def _all_choices(hint: Any) -> list[str]:
    nested = [hint, *members(hint), *get_args(hint)]
    return [choice for part in nested for choice in choices(part)]


def _fit(value: Any, hint: Any) -> Any:
    if len(members(hint)) > 1:
        return _fit_union(value, hint)
    if hint is Any:
        return _fit_plain(value)
    if choices(hint):
        if isinstance(value, str) and value in choices(hint):
            return value
    elif entry_type(hint):
        if isinstance(value, list | tuple):
            return [_fit_entry(item, entry_type(hint), number) for number, item in enumerate(value, 1)]
    elif get_origin(hint) is list:
        if isinstance(value, list | tuple):
            return [_fit(item, get_args(hint)[0]) for item in value]
    elif get_origin(hint) is dict:
        if isinstance(value, dict):
            key_type, value_type = get_args(hint)
            return {_fit(key, key_type): _fit(item, value_type) for key, item in value.items()}
    else:
        return _fit_scalar(value, hint)
    raise _TypeMismatch(value)


def _fit_plain(value: Any) -> Any:
    """Any value that JSON can hold."""
    if isinstance(value, list | tuple):
        return [_fit_plain(item) for item in value]
    if isinstance(value, dict):
        return {_fit_scalar(key, str): _fit_plain(item) for key, item in value.items()}
    hint = next((kind for kind in (bool, str, int, float) if isinstance(value, kind)), types.NoneType)
    return _fit_scalar(value, hint)


def _fit_entry(item: Any, group: Any, number: int) -> Any:
    if isinstance(item, group):
        return item
    try:
        return group.from_entry(item)
    except UserError as problem:
        raise Mismatch(f"entry {number}: {problem}") from None


def _fit_union(value: Any, hint: Any) -> Any:
    # The reason of the alternative that came nearest: one that looked inside the value before it failed.
    inner: _TypeMismatch | None = None
    for member in members(hint):
        try:
            return _fit(value, member)
        except _TypeMismatch as problem:
            if problem.reason or problem.value is not value:
                inner = problem
    raise inner or _TypeMismatch(value)


def _fit_scalar(value: Any, hint: Any) -> Any:
    if hint is types.NoneType and value is None:
        return None
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _TypeMismatch(value, " (half of a character: not valid Unicode)") from None
        if "\0" in value:  # in no path, and in no text that a model reads
            raise _TypeMismatch(value, " (with a character of number 0)")
        return value
    if isinstance(value, bool):
        raise _TypeMismatch(value)
    if hint is int and isinstance(value, int):
        if abs(value) > MAX_INT:
            raise _TypeMismatch(value, " (too large)")
        return value
    if hint is float and isinstance(value, int | float):
        if isinstance(value, int) and abs(value) > 2**53:
            raise _TypeMismatch(value, " (too large)")
        if not math.isfinite(value):
            raise _TypeMismatch(value, " (not finite)")
        return float(value)
    raise _TypeMismatch(value)


def _check_limits(value: Any, spec: Spec) -> None:
    option = spec.option
    if option.non_empty and isinstance(value, str | list | dict) and not value:
        raise _TypeMismatch(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        outside = (
            (option.ge is not None and value < option.ge)
            or (option.gt is not None and value <= option.gt)
            or (option.le is not None and value > option.le)
            or (option.lt is not None and value >= option.lt)
        )
        if outside:
            raise _TypeMismatch(value)
