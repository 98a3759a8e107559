"""Instructions whose following a program can verify: length, words, form, and that the answer ends by itself.

Each check is a function of the answer, of whether it ended by itself, and of the value that the recipe or the
row gives. What cannot be decided by looking at characters is left to a judge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from hf_align.errors import UserError, did_you_mean
from hf_align.evaluation.recipe_entries import CHECKS

Check = Callable[[str, bool, Any], bool]


def _no_json(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _parsed(answer: str) -> Any:
    """The value that the answer writes in JSON, or None. NaN and Infinity, which Python reads, are none."""
    try:
        return json.loads(answer, parse_constant=_no_json)
    except (ValueError, RecursionError):  # a model that repeats itself may open brackets without end
        return None


def _is_json(answer: str) -> bool:
    return answer.strip() == "null" or _parsed(answer) is not None


def _has_keys(answer: str, keys: list[str]) -> bool:
    found = _parsed(answer)
    return isinstance(found, dict) and all(key in found for key in keys)


_CHECKS: dict[str, tuple[type, Check]] = {
    "max_words": (int, lambda answer, _, most: len(answer.split()) <= most),
    "min_words": (int, lambda answer, _, least: len(answer.split()) >= least),
    "max_characters": (int, lambda answer, _, most: len(answer) <= most),
    "max_lines": (int, lambda answer, _, most: len(answer.strip().splitlines()) <= most),
    "must_contain": (list, lambda answer, _, words: all(w.lower() in answer.lower() for w in words)),
    "must_not_contain": (list, lambda answer, _, words: not any(w.lower() in answer.lower() for w in words)),
    "starts_with": (str, lambda answer, _, text: answer.strip().startswith(text)),
    "ends_with": (str, lambda answer, _, text: answer.strip().endswith(text)),
    "regex": (str, lambda answer, _, pattern: re.search(pattern, answer) is not None),
    "valid_json": (bool, lambda answer, _, wanted: _is_json(answer) == wanted),
    "json_keys": (list, lambda answer, _, keys: _has_keys(answer, keys)),
    "stops": (bool, lambda _, stopped, wanted: stopped == wanted),
}
assert tuple(_CHECKS) == CHECKS
_WORDS = {int: "a whole number", list: "a text or a list of texts", str: "a text", bool: "true or false"}


def read_checks(place: str, given: Any) -> dict[str, Any]:
    """Checks as {name: value}, from a mapping, or from one in JSON as tables hold it.

    A single text stands for a list of one. Raises UserError, naming ``place``, for an unknown check, a value
    of the wrong kind, and a pattern that is no regular expression.
    """
    if given in (None, ""):
        return {}
    if isinstance(given, str):
        given = _parsed(given)
    if not isinstance(given, Mapping):
        raise UserError(f"{place}: checks: expected a mapping from checks to their values")
    found = {}
    for name, value in given.items():
        if name not in _CHECKS:
            raise UserError(
                f"{place}: checks: unknown check {name!r}; there are: {', '.join(CHECKS)}."
                + did_you_mean(str(name), CHECKS)
            )
        kind = _CHECKS[name][0]
        if kind is list and isinstance(value, str):
            value = [value]
        fits = isinstance(value, kind) and (kind is bool) == isinstance(value, bool)
        if not fits or (kind is list and not all(isinstance(item, str) for item in value)):
            raise UserError(f"{place}: checks: {name}: found {value!r}, expected {_WORDS[kind]}")
        if name == "regex":
            check_pattern(f"{place}: checks: regex", value)
        found[name] = value
    return found


def check_pattern(place: str, pattern: str) -> None:
    """Raise UserError for a pattern that is no regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f"{place}: {pattern!r} is no regular expression: {error}") from error


def passed(checks: Mapping[str, Any], answer: str, *, stopped: bool) -> dict[str, bool]:
    """Whether an answer passes each of ``checks``, as :func:`read_checks` gave them."""
    return {name: bool(_CHECKS[name][1](answer, stopped, value)) for name, value in checks.items()}
