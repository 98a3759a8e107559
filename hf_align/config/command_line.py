"""Command-line options as texts, and each text as the value of its option.

``--key value`` and ``--key=value`` are read alike; a dash inside a key stands for an underscore; a true or
false option without a value is true. Texts are taken as they stand, so that ``--system_prompt "A: b"`` needs
no quotes for YAML; everything else is YAML, for example ``--datasets '[{path: a.jsonl, weight: 2}]'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_origin

from hf_align.config.coerce import coerce
from hf_align.config.fields import Mismatch, Spec, members
from hf_align.config.yaml_nodes import Source, compose, is_text, read_option
from hf_align.errors import UserError

OptionText = str | list[str] | None
"""What stands behind an option: one text, several, or nothing."""


def read_arguments(arguments: Sequence[str]) -> tuple[str | None, dict[str, OptionText]]:
    """(recipe file or None, option texts by key); the text of an option without a value is None.

    Raises ``UserError`` for an argument that is no option and for an option given twice.
    """
    config: str | None = None
    options: dict[str, OptionText] = {}
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        if not argument.startswith("--") or argument == "--":
            raise _no_option(argument)
        name, equals, text = argument[2:].partition("=")
        name = name.replace("-", "_")
        values = [text] if equals else []
        while not equals and position < len(arguments) and not arguments[position].startswith("--"):
            values.append(arguments[position])
            position += 1
        value: OptionText = values if len(values) > 1 else values[0] if values else None
        if name in options or (name == "config" and config is not None):
            raise UserError(f"--{name}: this option is given twice.")
        if name == "config":
            if not value:
                raise UserError("--config: the name of a recipe file is missing.")
            if isinstance(value, list):
                raise _no_option(value[1])
            config = value
        else:
            options[name] = value
    return config, options


def _no_option(argument: str) -> UserError:
    advice = f" Did you mean --config {argument}?" if argument.endswith((".yaml", ".yml")) else ""
    return UserError(f"{argument!r}: expected an option, --key value.{advice}")


def read_option_text(name: str, text: OptionText, spec: Spec) -> Any:
    """The checked value of ``--name text``, or of ``--name text text`` for a list.

    Raises ``UserError`` naming the option.
    """
    place = f"--{name}"
    if isinstance(text, list):
        if not _takes_list(spec):
            raise _no_option(text[1])
        return [item for one in text for item in _as_list(read_option_text(name, one, spec))]
    if text is None:
        if spec.hint is not bool:
            raise UserError(f"{place}: a value is missing, expected {spec.expected}.")
        return True
    if is_text(spec.hint) and not (text.startswith("[") and text.endswith("]") and _takes_list(spec)):
        try:
            return coerce(None if text == "null" and type(None) in members(spec.hint) else text, spec)
        except Mismatch as problem:
            raise UserError(f"{place}: {problem}") from None
    node = compose(text, place)
    if node is None:
        raise UserError(f"{place}: found an empty value, expected {spec.expected}.")
    return read_option(node, spec, Source(), place)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _takes_list(spec: Spec) -> bool:
    return any(get_origin(member) is list for member in members(spec.hint))
