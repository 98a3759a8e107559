"""The two base classes: a group of options, and a recipe, whose fields are groups.

A group checks itself when it is built, from Python as from YAML. Where a recipe file or the command line
is at hand, :mod:`hf_align.config.loader` adds the place to what is raised here.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

from hf_align.config.coerce import coerce
from hf_align.config.fields import (
    Change,
    Mismatch,
    Spec,
    describe_found,
    key_name,
    keys_that_change,
    specs_of,
)
from hf_align.errors import UserError, did_you_mean

Path = TypeVar("Path", str, str | None)


class KeyProblem(UserError):
    """A wrong value, or a wrong combination of values, of the named keys."""

    def __init__(self, keys: tuple[str, ...], reason: str) -> None:
        super().__init__(f"{', '.join(keys)}: {reason}")
        self.keys = keys
        self.reason = reason


def with_home(path: Path) -> Path:
    """``~/x`` as the folder in the user's home that a shell would make of it; anything else unchanged."""
    return os.path.expanduser(path) if path is not None and path.startswith("~/") else path


@dataclass(frozen=True)
class Group:
    """Options that belong together. Subclasses declare fields with ``option(...)``."""

    title: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, spec in specs_of(type(self)).items():
            try:
                # A frozen dataclass forbids plain assignment; this is its own constructor.
                object.__setattr__(self, name, coerce(getattr(self, name), spec))
            except Mismatch as problem:
                raise KeyProblem((name,), str(problem)) from None
        self.check()

    def check(self) -> None:
        """Checks that involve more than one field. Raises :class:`KeyProblem`."""

    @classmethod
    def from_entry(cls, value: Any) -> Self:
        """A group from one entry of a list: a mapping, or the value of its first field alone."""
        specs = specs_of(cls)
        first = next(iter(specs))
        if isinstance(value, str):
            return cls(**{first: value})
        if not isinstance(value, Mapping):
            expected = f"a {first} or a mapping with a '{first}'"
            raise UserError(f"found {describe_found(value)}, expected {expected}.")
        for key in value:
            if key not in specs:
                raise UserError(f"unknown key {key!r}.{did_you_mean(str(key), specs)}")
        if first not in value:
            raise UserError(f"the key '{first}' is missing.")
        return cls(**value)


@dataclass(frozen=True)
class Recipe:
    """All groups of one stage. Subclasses add one field a group.

    ``recipe_path``: the YAML file it was read from, or an empty string. ``overrides``: the values given on
    the command line, by key.
    """

    recipe_path: str = field(default="", kw_only=True)
    overrides: dict[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Checks that involve more than one group. Raises :class:`KeyProblem`."""

    @classmethod
    def groups(cls) -> dict[str, type[Group]]:
        """The groups of this recipe by attribute name."""
        hints = typing.get_type_hints(cls)
        return {
            declared.name: hints[declared.name]
            for declared in dataclasses.fields(cls)
            if isinstance(hints[declared.name], type) and issubclass(hints[declared.name], Group)
        }

    @classmethod
    def keys(cls) -> dict[str, Spec]:
        """Every key of this recipe; the groups share no name."""
        return {name: spec for group in cls.groups().values() for name, spec in specs_of(group).items()}

    @classmethod
    def keys_that_change(cls, *changes: Change) -> tuple[str, ...]:
        """The keys of this recipe that are declared to change one of ``changes``."""
        return keys_that_change(cls.keys(), *changes)

    @classmethod
    def from_flat(cls, values: Mapping[str, Any], *, recipe_path: str = "", overrides: Any = None) -> Self:
        """The recipe with these key values, for example those that :meth:`to_flat` gave, also in an older
        release.

        Raises :class:`KeyProblem` for an unknown or missing key and for every wrong value.
        """
        keys = cls.keys()
        values = cls.renamed(values)
        for key in values:
            if key not in keys:
                raise KeyProblem((str(key),), f"unknown key.{did_you_mean(str(key), keys)}")
        for name, spec in keys.items():
            if spec.required and name not in values:
                raise KeyProblem((name,), "this key is required and is missing.")
        built = {
            attribute: group(**{name: values[name] for name in specs_of(group) if name in values})
            for attribute, group in cls.groups().items()
        }
        return cls(**built, recipe_path=recipe_path, overrides=dict(overrides or {}))

    @classmethod
    def renamed(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """``values`` under the names that this release writes; a key under its own name takes precedence."""
        keys = cls.keys()
        return {key_name(key, keys): value for key, value in values.items()} | {
            key: value for key, value in values.items() if key in keys
        }

    def to_flat(self) -> dict[str, Any]:
        """Every key with its resolved value, defaults included; plain types that JSON can hold."""
        flat: dict[str, Any] = {}
        for attribute in self.groups():
            flat.update(dataclasses.asdict(getattr(self, attribute)))
        return flat
