"""The text of ``hf-align COMMAND --help``: every option by group, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from typing import Any, get_args, get_origin

from hf_align.config.fields import Spec, choices, entry_type, members, specs_of
from hf_align.config.group import Group, Recipe

WIDTH = 100
_COLUMN = 34
_SPEED = {"speed": "speed and memory only", "rounding": "speed and memory only, but for rounding"}


def help_text(recipe: type[Recipe], *, command: str, description: str, usage: str = "") -> str:
    """Usage, then the groups of ``recipe`` with type, meaning, choices and default of each option.

    ``usage``: the first line, for a command that is usually called without a recipe.
    """
    usage = usage or f"usage: hf-align {command} --config RECIPE.yaml [--key value ...]".replace("  ", " ")
    lines = [usage, "", *_paragraph(description), ""]
    lines += _paragraph(
        "Each option is also a key of the recipe; the command line takes precedence. Lists and mappings are "
        "written as YAML: --datasets '[{path: a.jsonl, weight: 2}]'. A true or false option without a value "
        "is true. Relative paths start at the working directory."
    )
    lines += ["", *_entry("--config FILE", "the recipe, a YAML file"), *_entry("--help", "this text")]
    entries: list[type[Group]] = []
    for group in recipe.groups().values():
        lines += ["", f"{group.title}:"]
        for spec in specs_of(group).values():
            lines += _entry(f"--{spec.name} {_placeholder(spec.hint)}", _meaning(spec))
            entry = entry_type(spec.hint)
            if entry is not None and entry not in entries:
                entries.append(entry)
    for entry in entries:
        lines += ["", f"{entry.title}:"]
        for spec in specs_of(entry).values():
            lines += _entry(f"{spec.name}: {_placeholder(spec.hint)}", _meaning(spec))
    return "\n".join(lines)


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH)


def _entry(left: str, right: str) -> list[str]:
    wrapped = textwrap.wrap(right, WIDTH - _COLUMN, break_long_words=False, break_on_hyphens=False)
    head = f"  {left}"
    if len(head) > _COLUMN - 2:
        return [head, *(" " * _COLUMN + line for line in wrapped)]
    return [head.ljust(_COLUMN) + wrapped[0], *(" " * _COLUMN + line for line in wrapped[1:])]


def _meaning(spec: Spec) -> str:
    notes = []
    for member in members(spec.hint):
        listed = choices(member) or choices(get_args(member)[0] if get_origin(member) is list else None)
        if listed:
            notes.append(f"one of {', '.join(listed)}")
    if spec.required:
        notes.append("required")
    elif spec.default not in (None, [], {}):
        notes.append(f"default {_written(spec.default)}")
    if spec.option.changes in _SPEED:
        notes.append(_SPEED[spec.option.changes])
    return spec.option.help + (f" [{'; '.join(notes)}]" if notes else "")


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _placeholder(hint: Any) -> str:
    names = {bool: "BOOL", int: "INT", float: "NUMBER", str: "TEXT"}
    parts = []
    for member in members(hint):
        origin = get_origin(member)
        if origin is list:
            parts.append("LIST")
        elif origin is dict:
            parts.append("MAPPING")
        elif choices(member):
            parts.append("CHOICE")
        elif member in names:
            parts.append(names[member])
    return "|".join(parts)
