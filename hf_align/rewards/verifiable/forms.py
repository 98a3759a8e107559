"""The form of answers: JSON of a schema, tags, length, language. No right answer is needed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hf_align.data.language import detect
from hf_align.errors import UserError
from hf_align.rewards.calling import RowProblem

_FENCE = re.compile(r"^```(?:json)?\s*\n(.*?)\n?```\s*$", re.DOTALL)


def json_schema(
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    schema: str | None = None,
    column: str = "schema",
) -> list[float]:
    """1 where the whole answer, also in a fence, is JSON that fits the schema, else 0.

    ``schema``: a file with it; without, every row has its own in ``column``, as a mapping or as text. Raises
    UserError for what is no JSON schema.
    """
    checker = None if schema is None else _checker(_read(schema), schema)
    from referencing.exceptions import Unresolvable

    own: dict[str, Any] = {}
    found = []
    for number, (completion, row) in enumerate(zip(completions, rows, strict=True)):
        text = completion.rpartition("</think>")[2].strip()
        fenced = _FENCE.match(text)
        try:
            value = json.loads(fenced[1] if fenced else text)
        except (ValueError, RecursionError):
            found.append(0.0)
            continue
        if checker is None:
            given = row.get(column)
            key = given if isinstance(given, str) else json.dumps(given, sort_keys=True)
            if key not in own:
                try:
                    own[key] = _checker(given, f"column '{column}'")
                except UserError as problem:
                    raise RowProblem(number, str(problem)) from problem
        try:
            found.append(float((checker or own[key]).is_valid(value)))
        except Unresolvable as error:
            raise RowProblem(
                number,
                f"reward_functions: json_schema: the schema refers to {error.ref!r}, which is not in it; "
                "nothing is fetched",
            ) from error
    return found


def check_json_schema(*, schema: str | None = None, column: str = "schema") -> None:
    """Raise UserError for options that cannot be."""
    if schema is not None:
        _checker(_read(schema), schema)


def _read(path: str) -> Any:
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise UserError(
            f"reward_options: json_schema: schema: '{path}' cannot be read: {error.strerror}"
        ) from error
    except ValueError as error:
        raise UserError(f"reward_options: json_schema: schema: '{path}' is not JSON: {error}") from error


def _checker(schema: Any, where: str) -> Any:
    try:
        from jsonschema import SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry
    except ImportError:
        raise UserError(
            "reward_functions: json_schema: the package jsonschema is not installed; "
            "pip install 'hf_align[verifiers]'"
        ) from None
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise UserError(f"reward_functions: json_schema: {where}: not JSON: {error}") from error
    if not isinstance(schema, Mapping):
        raise UserError(
            f"reward_functions: json_schema: {where}: found {type(schema).__name__}, expected a JSON schema"
        )
    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise UserError(f"reward_functions: json_schema: {where}: {error.message}") from error
    # An empty registry: by default jsonschema would fetch what a schema refers to.
    return kind(schema, registry=Registry())


def format_tags(
    completions: Sequence[str], *, tags: list[str] | None = None, rest: bool = False
) -> list[float]:
    """1 where the answer is ``<a>…</a><b>…</b>`` for its ``tags`` a, b in order, each once, else 0.

    ``tags``: think and answer without it. ``rest``: text may follow the last one; else only white space is
    allowed around and between them.
    """
    names = tags or ["think", "answer"]
    parts = r"\s*".join(rf"<{re.escape(name)}>.*?</{re.escape(name)}>" for name in names)
    pattern = re.compile(rf"\s*{parts}" + (".*" if rest else r"\s*"), re.DOTALL)
    marks = [mark for name in names for mark in (f"<{name}>", f"</{name}>")]
    return [
        float(all(text.count(mark) == 1 for mark in marks) and pattern.fullmatch(text) is not None)
        for text in completions
    ]


def length(
    completions: Sequence[str], *, at_least: int = 0, at_most: int | None = None, unit: str = "words"
) -> list[float]:
    """1 from ``at_least`` to ``at_most``; below, the share of it that is there; above, ``at_most`` / length.

    ``unit``: words, or characters, which suits languages without spaces.
    """
    found = []
    for text in completions:
        size = len(text.split()) if unit == "words" else len(text.strip())
        if size < at_least:
            found.append(size / at_least)
        else:
            found.append(1.0 if at_most is None or size <= at_most else at_most / size)
    return found


def check_length(*, at_least: int = 0, at_most: int | None = None, unit: str = "words") -> None:
    """Raise UserError for options that cannot be."""
    if unit not in ("words", "characters"):
        raise UserError(f"reward_options: length: unit: found {unit!r}, expected words or characters")
    if at_least < 0 or (at_most is not None and at_most < max(at_least, 1)):
        raise UserError(
            f"reward_options: length: found at_least {at_least} and at_most {at_most}; expected "
            "0 <= at_least <= at_most"
        )
    if not at_least and at_most is None:
        raise UserError("reward_options: length: needs at_least or at_most; without both every answer gets 1")


def language(
    completions: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    code: str | None = None,
    column: str = "language",
) -> list[float]:
    """The detector's score from 0 to 1 where the answer is in the language, else 0.

    ``code``: its ISO 639 code, such as en or zh; without it, every row has its own in ``column``.
    """
    found = []
    for number, (completion, row) in enumerate(zip(completions, rows, strict=True)):
        wanted = code or row.get(column)
        if not isinstance(wanted, str) or not wanted:
            raise RowProblem(
                number,
                f"reward_functions: language: the row has no code in its column '{column}'; name one for all "
                "by reward_options: {language: {code: en}}",
            )
        likeliest, score = detect(completion)
        found.append(score if likeliest == wanted.lower() else 0.0)
    return found
