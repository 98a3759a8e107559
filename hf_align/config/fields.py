"""One option of a recipe: its type, default, limits and help text, and the words that describe them.

Limits live in dataclass metadata and choices in ``Literal`` types, so that the checks, the error messages
and ``--help`` are all made from the one declaration. Reading YAML and printing help are elsewhere.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from hf_align.errors import UserError

MISSING = dataclasses.MISSING


Change = Literal[
    "result",
    "loss",
    "inputs",
    "machine",
    "step_rows",
    "outputs",
    "rounding",
    "speed",
    "place",
    "resuming",
]
"""What another value of a key changes. With another value of these it is another run:

``result``: what is computed. ``loss``: the loss, so that losses and rewards are in another unit as well.
``inputs``: which rows and rewards; where their content is compared, their names do not count. ``machine``:
device and number format, compared as what ``auto`` came to. ``step_rows``: a factor of the rows of an
optimizer step, of which the product alone counts.

With another value of these a run that has begun may go on:

``outputs``: what is saved, logged, shown and checked, and where the run ends, nothing on the way there.
``rounding``: speed and memory, and results by rounding alone. ``speed``: speed and memory, and no bit of the
results. ``place``: where files and servers are, and what the run is called. ``resuming``: how a run goes on.
"""


@dataclass(frozen=True)
class Option:
    """What is declared beside a field. ``ge``, ``gt``, ``le``, ``lt`` limit numbers.

    ``non_empty``: an empty text or list is refused. ``one_or_list``: a single value may be written in
    place of a list of one. ``needs``: ``(key, values)``: the option has no effect unless ``key`` has one
    of ``values``, so that a recipe which gives it otherwise is refused. ``changes``: see :data:`Change`.
    ``text``: a name or plain text, never a path, even where a file is called so. ``also``: other names that
    are read as this key, those of older releases or of other libraries; only the name itself is written.

    ``later``: the first releases lacked it, so that at its default it is in no digest that is compared with
    theirs.
    """

    help: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    non_empty: bool = False
    one_or_list: bool = False
    needs: tuple[str, tuple[Any, ...]] | None = None
    changes: Change = "result"
    later: bool = False
    text: bool = False
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """A field of a group together with its resolved type; made by :func:`specs_of`."""

    name: str
    hint: Any
    option: Option
    default: Any
    required: bool

    @property
    def expected(self) -> str:
        """What a value must be, in words: ``a number above 0 and at most 1``."""
        words = describe_type(self.hint)
        option = self.option
        limits = [
            f"{text} {limit}"
            for text, limit in (
                ("of at least", option.ge),
                ("above", option.gt),
                ("at most", option.le),
                ("below", option.lt),
            )
            if limit is not None
        ]
        words = words.replace("number", f"number {' and '.join(limits)}", 1) if limits else words
        return f"{words} (not empty)" if option.non_empty else words


def option(
    default: Any = MISSING,
    *,
    factory: Callable[[], Any] | None = None,
    **declared: Any,
) -> Any:
    """A dataclass field that carries an :class:`Option`; ``declared`` are its fields.

    Typed ``Any``, as ``dataclasses.field`` is to type checkers where a default is assigned.
    """
    metadata = {"option": Option(**declared)}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def specs_of(group: type[Any]) -> dict[str, Spec]:
    """The options of a group by name, in the order of their declaration."""
    hashable: Any = group  # a class is; mypy asks whether its instances are
    return _specs_of(hashable)


@functools.cache
def _specs_of(group: type[Any]) -> dict[str, Spec]:
    hints = typing.get_type_hints(group)
    specs = {}
    for declared in dataclasses.fields(group):
        default = declared.default
        if declared.default_factory is not MISSING:
            default = declared.default_factory()
        specs[declared.name] = Spec(
            name=declared.name,
            hint=hints[declared.name],
            option=declared.metadata["option"],
            default=None if default is MISSING else default,
            required=default is MISSING,
        )
    return specs


def key_name(name: str, specs: Mapping[str, Spec]) -> str:
    """The key that ``name`` is another name of, or ``name`` itself."""
    if name in specs:
        return name
    return next((key for key, spec in specs.items() if name in spec.option.also), name)


def keys_that_change(specs: Mapping[str, Spec], *changes: Change) -> tuple[str, ...]:
    """The keys that are declared to change one of ``changes``, in the order of ``specs``."""
    return tuple(name for name, spec in specs.items() if spec.option.changes in changes)


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def choices(hint: Any) -> tuple[str, ...]:
    """The choices of a ``Literal`` type, or nothing."""
    return get_args(hint) if get_origin(hint) is Literal else ()


def entry_type(hint: Any) -> type[Any] | None:
    """The group whose entries a ``list[Group]`` option holds, or None for every other type."""
    if get_origin(hint) is list and dataclasses.is_dataclass(get_args(hint)[0]):
        return typing.cast("type[Any]", get_args(hint)[0])
    return None


def describe_type(hint: Any) -> str:
    """A type in plain words, for error messages."""
    simple = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        types.NoneType: "null",
    }
    if hint in simple:
        return simple[hint]
    if hint is Any:
        return "anything"
    if choices(hint):
        return f"one of: {', '.join(choices(hint))}"
    if len(members(hint)) > 1:
        return " or ".join(describe_type(member) for member in members(hint))
    entry = entry_type(hint)
    if entry is not None:
        first = next(iter(specs_of(entry)))
        return f"a list of {'paths or of ' if first == 'path' else ''}mappings with a '{first}'"
    if get_origin(hint) is list:
        item = get_args(hint)[0]
        return "a list of text" if item is str else f"a list, each item {describe_type(item)}"
    if get_origin(hint) is dict:
        values = describe_type(get_args(hint)[1])
        return f"a mapping from names to {values}"
    return getattr(hint, "__name__", str(hint))


def describe_found(value: Any) -> str:
    """A value in plain words, shortened, for error messages."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        if isinstance(value, int) and abs(value) >= 10**30:
            return "a number of more than 30 digits"
        return f"the number {repr(value).removesuffix('.0')}"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping"
    return str(value)


class Mismatch(UserError):
    """A value that an option cannot take; the caller adds the place."""
