"""From YAML text to values, by way of PyYAML's nodes, which know their line.

The option's type guides the reading: where a number is expected ``1e-4`` is one (YAML 1.1 reads text), where
``no`` is a choice it is that text (YAML 1.1 reads false). What YAML versions read differently (octal ``010``,
``1:30``) is refused rather than guessed. Only the parts that a type allows are visited, so that an alias
that contains itself does no harm. Merge keys (``<<``) are refused.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import yaml

from hf_align.config.coerce import coerce
from hf_align.config.fields import Mismatch, Spec, choices, entry_type, members, specs_of
from hf_align.config.group import Group, KeyProblem
from hf_align.errors import UserError, did_you_mean

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_LONGEST_NUMBER = 100
MOST_NODES = 100_000
"""More values than any recipe has; a few lines of aliases of aliases stand for billions."""


@dataclass(frozen=True)
class Source:
    """Where YAML text comes from: a file, or the command line where ``file`` is None."""

    file: str | None = None

    def place(self, node: yaml.Node, key: str) -> str:
        """``recipe.yaml:7: key`` or ``--key``."""
        return f"--{key}" if self.file is None else f"{self.file}:{node.start_mark.line + 1}: {key}"


class _WrongNode:
    """A value that no option takes, such as a date; only its description is kept."""

    def __init__(self, description: str) -> None:
        self.description = description

    def __str__(self) -> str:
        return self.description


def compose(text: str, place: str) -> yaml.Node | None:
    """The root node of one YAML document, or None for an empty one.

    ``place`` names the source in messages: a path, or ``--key``. Raises ``UserError`` for broken YAML.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None and _written_out(root, {}) > MOST_NODES:
            raise UserError(
                f"{place}: with its aliases written out this YAML has more than {MOST_NODES:,} values; "
                "write the values out that are meant."
            )
        return root
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f":{mark.line + 1}" if mark and not place.startswith("--") else ""
        reason = error.problem or "not readable"
        if "'\\t'" in reason:
            reason = "found a tab where YAML allows spaces only"
        raise UserError(f"{place}{line}: this is not valid YAML: {reason}.") from None
    except yaml.reader.ReaderError as error:
        line = f":{text.count(chr(10), 0, error.position) + 1}" if not place.startswith("--") else ""
        raise UserError(
            f"{place}{line}: this is not valid YAML: the character at position {error.position} is not "
            "allowed."
        ) from None
    except RecursionError:
        raise UserError(f"{place}: this YAML is nested too deeply.") from None
    except (ValueError, OverflowError) as error:
        # PyYAML lets a few malformed escapes through to Python's own conversions.
        raise UserError(f"{place}: this is not valid YAML: {error}.") from None


def _written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node has with its aliases written out; one that contains itself counts once
    inside."""
    if id(node) not in known:
        known[id(node)] = 1
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else []
        parts = list(node.value) if isinstance(node, yaml.SequenceNode) else parts
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def mapping_items(
    node: yaml.MappingNode, source: Source, inside: str = ""
) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """(key, key node, value node) of a mapping.

    Raises ``UserError`` for a key that is repeated or is not text.
    """
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        if key_node.tag == _TAG + "merge":
            raise UserError(
                f"{source.place(key_node, inside or '<<')}: merge keys (<<) are not supported; "
                "write the keys out."
            )
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
            found = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
            raise UserError(
                f"{source.place(key_node, inside or 'recipe')}: found {found!r} as a key, expected a name."
            )
        key, line = key_node.value, key_node.start_mark.line + 1
        if key in seen:
            where = "" if source.file is None else f" (first in line {seen[key]})"
            raise UserError(f"{source.place(key_node, inside + key)}: this key is given twice{where}.")
        seen[key] = line
        yield key, key_node, value_node


def read_option(node: yaml.Node, spec: Spec, source: Source, place: str) -> Any:
    """The checked value of one option. ``place`` (``recipe.yaml:7: key``) begins every message."""
    group = entry_type(spec.hint)
    if group is not None:
        value = _read_entries(node, group, source, spec)
    else:
        value = _read(node, spec.hint, source, spec.name)
    try:
        return coerce(value, spec)
    except Mismatch as problem:
        raise UserError(f"{place}: {problem}") from None


def _read_entries(node: yaml.Node, group: type[Group], source: Source, spec: Spec) -> Any:
    if _is_null(node):
        return None
    if not isinstance(node, yaml.SequenceNode):
        return [_read_entry(node, group, source, spec.name)]
    return [
        _read_entry(item, group, source, f"{spec.name} entry {number}")
        for number, item in enumerate(node.value, start=1)
    ]


def _read_entry(node: yaml.Node, group: type[Group], source: Source, trail: str) -> Group:
    specs = specs_of(group)
    first = next(iter(specs.values()))
    place = source.place(node, trail)
    if not isinstance(node, yaml.MappingNode):
        value = _read(node, first.hint, source, trail)
        try:
            return group(**{first.name: coerce(value, first)})
        except Mismatch as problem:
            reason = str(problem).replace("expected text", "expected a path or a mapping with a 'path'", 1)
            raise UserError(f"{place}: {reason}") from None
    values = {}
    for key, key_node, value_node in mapping_items(node, source, f"{trail}: "):
        inner = source.place(key_node, f"{trail}: {key}")
        if key not in specs:
            raise UserError(
                f"{inner}: unknown key of a data set; known: {', '.join(specs)}.{did_you_mean(key, specs)}"
            )
        values[key] = read_option(value_node, specs[key], source, inner)
    for spec in specs.values():
        if spec.required and spec.name not in values:
            raise UserError(f"{place}: the key '{spec.name}' is missing.")
    try:
        return group(**values)
    except KeyProblem as problem:
        raise UserError(f"{place}: {problem}") from None


def _read(node: yaml.Node, hint: Any, source: Source, trail: str) -> Any:
    """A plain value; parts that the type has no place for become descriptions."""
    by_origin = {get_origin(member): member for member in members(hint)}
    if hint is Any:
        by_origin = {list: list[Any], dict: dict[str, Any]}
    if isinstance(node, yaml.SequenceNode):
        if list not in by_origin:
            return _WrongNode("a list")
        item = get_args(by_origin[list])[0]
        return [_read(part, item, source, trail) for part in node.value]
    if isinstance(node, yaml.MappingNode):
        if dict not in by_origin:
            return _WrongNode("a mapping")
        item = get_args(by_origin[dict])[1]
        return {
            key: _read(part, item, source, trail)
            for key, _, part in mapping_items(node, source, f"{trail}: ")
        }
    if list in by_origin and len(by_origin) == 1:
        hint = get_args(hint)[0]
    assert isinstance(node, yaml.ScalarNode)  # the third and last kind of node
    return _read_scalar(node, members(hint))


def _is_null(node: yaml.Node) -> bool:
    return node.tag == _TAG + "null" and node.value in ("", "~", "null", "Null", "NULL")


def _read_scalar(node: yaml.ScalarNode, allowed: tuple[Any, ...]) -> Any:
    text: str = node.value
    kind = node.tag.removeprefix(_TAG)
    if _is_null(node):
        return None
    if kind == "bool" and text.lower() in _TRUE + _FALSE:
        if any(text in choices(hint) for hint in allowed):
            return text
        return text.lower() in _TRUE
    if kind in ("int", "float") or (kind == "str" and node.style is None and float in allowed):
        number = _read_number(text, kind)
        if number is not None:
            return number
    if kind == "str":
        return text
    names = {"int": "number", "float": "number", "timestamp": "date"}
    return _WrongNode(f"the {names.get(kind, 'value')} {text[:60]!r} (tag {kind})")


def _read_number(text: str, kind: str) -> int | float | None:
    """The number that YAML 1.1 and 1.2 and Python agree on, or None."""
    if len(text) > _LONGEST_NUMBER:
        return None
    if _INTEGER.fullmatch(text) and kind != "float":
        return int(text)
    if _NUMBER.fullmatch(text) and kind != "int":
        number = float(text)
        vanished = number == 0 and re.search(r"[1-9]", re.split("[eE]", text)[0])
        return None if vanished else number
    special = text.lower().lstrip("+-")
    return float(special[1:]) if kind == "float" and special in (".inf", ".nan") else None


def is_text(hint: Any) -> bool:
    """Whether the type takes text or choices and, at most, null or a list of them beside."""
    parts = [get_args(part)[0] if get_origin(part) is list else part for part in members(hint)]
    return all(part in (str, types.NoneType) or choices(part) for part in parts)
