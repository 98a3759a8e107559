"""A recipe from a YAML file and command-line options, each error with its place.

``--config RECIPE.yaml`` names the file; every key of it is an option too and takes precedence. Relative
paths inside a recipe start at the working directory. Printing the help is in :mod:`hf_align.config.help`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hf_align.config.coerce import coerce
from hf_align.config.command_line import OptionText, read_arguments, read_option_text
from hf_align.config.fields import Mismatch, Spec, describe_found, key_name
from hf_align.config.group import KeyProblem, Recipe
from hf_align.config.help import help_text
from hf_align.config.known_keys import Synonym, synonym, unknown_key
from hf_align.config.yaml_nodes import Source, compose, mapping_items, read_option
from hf_align.errors import UserError

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class GivenValue:
    """A value that the user gave, and its place: ``recipe.yaml:7: key`` or ``--key``."""

    value: Any
    place: str
    override: bool


def load_config(
    recipe: type[R], argv: Sequence[str] | None = None, *, command: str = "", description: str = ""
) -> R:
    """The recipe that the command line asks for; ``argv`` defaults to the process's own.

    ``--help`` prints the options by group and raises ``SystemExit(0)``. Raises ``UserError`` for every
    unknown, repeated, missing or wrong value and for wrong combinations.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--help" in arguments or "-h" in arguments:
        print(help_text(recipe, command=command, description=description or (recipe.__doc__ or "")))
        raise SystemExit(0)
    keys = recipe.keys()
    config, options = read_arguments(arguments)
    given = {} if config is None else read_recipe_file(config, keys)
    return build_recipe(recipe, given | read_options(options, keys), config)


def read_options(options: Mapping[str, OptionText], keys: Mapping[str, Spec]) -> dict[str, GivenValue]:
    """The checked values of command-line options by key. Raises ``UserError`` that names all unknown ones."""
    unknown = [
        f"--{name}: unknown option.{unknown_key(name, keys)}"
        for name in options
        if key_name(name, keys) not in keys and synonym(name, keys) is None
    ]
    if unknown:
        raise UserError("\n".join(unknown))
    given: dict[str, GivenValue] = {}
    for name, text in options.items():
        same = synonym(name, keys)
        key = key_name(name, keys) if same is None else same.key
        if same is not None and same.values is not None:
            said = "true" if text is None else str(text).lower()
            if said in same.values:
                text = same.values[said]
                if text is None:
                    continue
        _add(given, key, GivenValue(read_option_text(name, text, keys[key]), f"--{name}", override=True))
    return given


def _add(given: dict[str, GivenValue], key: str, item: GivenValue) -> None:
    if key in given:
        raise UserError(
            f"{item.place}: this is {key}, which is given as well ({given[key].place}); give it once."
        )
    given[key] = item


def load_recipe(recipe: type[R], path: str | Path, overrides: Mapping[str, Any] | None = None) -> R:
    """The recipe in a file, with Python values in place of some of its keys; for notebooks and tests."""
    keys = recipe.keys()
    given = read_recipe_file(str(path), keys)
    for written, value in (overrides or {}).items():
        name, place = key_name(written, keys), f"override '{written}'"
        if name not in keys:
            raise UserError(f"{place}: unknown key.{unknown_key(name, keys)}")
        try:
            given[name] = GivenValue(coerce(value, keys[name]), place, override=True)
        except Mismatch as problem:
            raise UserError(f"{place}: {problem}") from None
    return build_recipe(recipe, given, str(path))


def recipe_keys(argv: Sequence[str]) -> set[str]:
    """The keys that a command line gives, in its recipe file or as options; their values are not looked at.

    Raises ``UserError`` where the command line or the file cannot be read.
    """
    config, options = read_arguments(argv)
    root = None if config is None else compose(_read_text(config), config)
    if config is None or not isinstance(root, yaml.MappingNode):
        return set(options)
    return {key for key, _, _ in mapping_items(root, Source(config))} | set(options)


def read_recipe_file(path: str, keys: Mapping[str, Spec]) -> dict[str, GivenValue]:
    """The checked values of a recipe file by key; defaults are not filled in."""
    source = Source(path)
    return read_nodes(mapping_items(read_node(path), source), keys, source)


def read_node(path: str) -> yaml.MappingNode:
    """The keys of a recipe file as nodes. Raises ``UserError`` where the file holds no mapping."""
    root = compose(_read_text(path), path)
    if root is None:
        raise UserError(f"{path}: this recipe is empty; expected 'key: value' lines.")
    if not isinstance(root, yaml.MappingNode):
        found = "a list" if isinstance(root, yaml.SequenceNode) else describe_found(root.value)
        raise UserError(f"{path}:{root.start_mark.line + 1}: found {found}, expected 'key: value' lines.")
    return root


def read_nodes(
    items: Iterable[tuple[str, yaml.Node, yaml.Node]],
    keys: Mapping[str, Spec],
    source: Source,
    *,
    inside: str = "",
    override: bool = False,
) -> dict[str, GivenValue]:
    """The checked values of (key, key node, value node) by key. ``inside``: what a place says before the key.

    Raises ``UserError`` that names all unknown keys, and for a value that its option cannot take.
    """
    given: dict[str, GivenValue] = {}
    unknown = []
    for key, key_node, value_node in items:
        place = source.place(key_node, f"{inside}{key}")
        same = synonym(key, keys)
        if key_name(key, keys) not in keys and same is None:
            unknown.append(f"{place}: unknown key.{unknown_key(key, keys)}")
            continue
        name = key_name(key, keys) if same is None else same.key
        node = _translated(value_node, same)
        if node is not None:
            value = read_option(node, keys[name], source, place)
            _add(given, name, GivenValue(value, place, override=override))
    if unknown:
        raise UserError("\n".join(unknown))
    return given


def _translated(node: yaml.Node, same: Synonym | None) -> yaml.Node | None:
    """The node with our value in place of another trainer's; None for a value that changes nothing."""
    if same is None or same.values is None or not isinstance(node, yaml.ScalarNode):
        return node
    if node.value.lower() not in same.values:
        return node
    value = same.values[node.value.lower()]
    if value is None:
        return None
    return yaml.ScalarNode("tag:yaml.org,2002:str", value, node.start_mark, node.end_mark)


def _read_text(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: this recipe is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from None
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such recipe file.{_neighbours(path)}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{path}: the recipe cannot be read: {reason}.") from None


def _neighbours(path: str) -> str:
    folder = Path(path).parent
    names = sorted(item.name for item in folder.glob("*.yaml")) if folder.is_dir() else []
    return f" In {folder} there are: {', '.join(names)}." if names else ""


def build_recipe(recipe: type[R], given: Mapping[str, GivenValue], path: str | None) -> R:
    """The recipe with these values; ``path`` names the file that they are from, if any.

    Raises ``UserError`` for missing keys, for keys without an effect and for wrong combinations.
    """
    keys = recipe.keys()
    for name, spec in keys.items():
        if spec.required and name not in given:
            if path is None:
                raise UserError(f"--{name} is missing; give it, or a recipe with --config RECIPE.yaml.")
            raise UserError(f"{path}: the required key '{name}' is missing ({spec.option.help}).")
    _check_needs(keys, given)
    try:
        built = recipe.from_flat({name: item.value for name, item in given.items()}, recipe_path=path or "")
    except KeyProblem as problem:
        raise UserError(_place(problem, keys, given)) from None
    # JSON-able, as everything that ends up in run.json: entries of data sets become mappings.
    flat = built.to_flat()
    return dataclasses.replace(
        built, overrides={name: flat[name] for name, item in given.items() if item.override}
    )


def _check_needs(keys: Mapping[str, Spec], given: Mapping[str, GivenValue]) -> None:
    """Refuse a key that would have no effect, such as lora_r without an adapter.

    An option on the command line may switch off what the file describes: ``--adapter none`` is allowed
    with a recipe that gives lora_r.
    """
    for name, item in given.items():
        needs = keys[name].option.needs
        if needs is None or item.value is None:
            continue
        switch, values = needs
        state = given.get(switch)
        value = keys[switch].default if state is None else state.value
        if value in values or (state is not None and state.override and not item.override):
            continue
        wanted = " or ".join(_yaml(option) for option in values)
        where = f"{switch} is {_yaml(value)}" + (" by default" if state is None else f" ({state.place})")
        raise UserError(
            f"{item.place}: this has no effect, because {where}; remove it or set {switch}: {wanted}."
        )


def _place(problem: KeyProblem, keys: Mapping[str, Spec], given: Mapping[str, GivenValue]) -> str:
    """The problem with the place of its first given key in front, and of its other keys behind."""
    ordered = sorted(problem.keys, key=lambda name: name not in given)
    first, *others = ordered
    front = given[first].place if first in given else first
    behind = [
        given[name].place if name in given else f"{name}: {_yaml(keys[name].default)} by default"
        for name in others
        if name in keys
    ]
    return f"{front}: {problem.reason}" + (f" (See {'; '.join(behind)}.)" if behind else "")


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
