"""The entries of a pipeline's ``stages``: each becomes a step, or one for every seed, with a checked recipe.

The keys of an entry are those of its command, read as in a recipe file of that command, so that a mistake is
reported with the line of the pipeline. Where stages name each other is in ``references``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from hf_align.config.fields import Spec, option, specs_of
from hf_align.config.group import Group, Recipe, with_home
from hf_align.config.loader import GivenValue, build_recipe, read_nodes, read_recipe_file
from hf_align.config.yaml_nodes import Source, mapping_items
from hf_align.errors import UserError
from hf_align.pipeline.references import referenced, with_folders
from hf_align.stages import PIPELINE_COMMANDS, recipe_class

STAGES_KEY = "stages"
OWN_FOLDER = "pipeline"
"""Where a pipeline keeps recipes, logs and what it knows of its steps, inside its output_dir."""

HELP = """
stages (in the recipe file; a list, an entry for each stage in the order in which they run):
  command: CHOICE                 corpus, tokenizer, pretrain, classify, sft, merge, reward, dpo, kto,
                                  ppo, grpo, best-of-n or evaluate
  name: TEXT                      by which later stages name it: $NAME is its output folder [default:
                                  the command]
  recipe: TEXT                    a recipe of that command to begin from
  every_seed: BOOL                run once for each of seeds; what builds on such a stage does so by
                                  itself
  ...                             every other key is one of the command's recipe; output_dir and seed
                                  are set by the pipeline"""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class StageHead(Group):
    """What an entry of ``stages`` says beside the keys of its command."""

    title: ClassVar[str] = "Entries of stages"

    command: Literal[PIPELINE_COMMANDS] = option(help="what the stage does")
    name: str | None = option(None, help="by which later stages name it", non_empty=True)
    recipe: str | None = option(None, help="a recipe of that command to begin from", non_empty=True)
    every_seed: bool = option(False, help="run once for each of seeds")

    def check(self) -> None:
        object.__setattr__(self, "recipe", with_home(self.recipe))


@dataclass(frozen=True)
class Step:
    """One run of a stage. ``name``: the stage's, with the seed behind it where the stage has several.

    ``seed``: that seed, or None. ``config``: its checked recipe; ``keys``: those of it that somebody gave.
    ``uses``: names of the steps whose folders it names. ``place``: its entry in the recipe file.
    """

    name: str
    stage: str
    command: str
    seed: int | None
    config: Recipe
    keys: tuple[str, ...]
    output_dir: str
    uses: tuple[str, ...]
    place: str

    def recipe(self, **changes: Any) -> dict[str, Any]:
        """The keys that are given, as a recipe file of the command has them, and ``changes``.

        Keys that an override has left without an effect are dropped: a recipe file with them is refused.
        """
        specs, flat = type(self.config).keys(), self.config.to_flat()
        return {key: flat[key] for key in self.keys if _has_effect(specs[key], specs, flat)} | changes


def _has_effect(spec: Spec, specs: Mapping[str, Spec], flat: Mapping[str, Any]) -> bool:
    if spec.name not in flat:
        return False
    if spec.option.needs is None:
        return True
    switch, values = spec.option.needs
    return flat.get(switch, specs[switch].default) in values


@dataclass(frozen=True)
class _StageEntry:
    """An entry of ``stages`` with the nodes of its command's keys."""

    head: StageHead
    name: str
    items: list[tuple[str, yaml.Node, yaml.Node]]
    place: str
    inside: str


def read_steps(
    nodes: Sequence[yaml.Node], path: str, *, output_dir: str, seed: int, seeds: Sequence[int]
) -> list[Step]:
    """The steps of the entries of ``stages`` in the file ``path``.

    Raises ``UserError`` for an unknown command, key or stage, a value that does not fit, and whatever a
    stage's own command would refuse in its recipe.
    """
    entries = [_read_entry(node, number, path) for number, node in enumerate(nodes, start=1)]
    names = [entry.name for entry in entries]
    steps: list[Step] = []
    seeded: dict[str, bool] = {}
    for number, entry in enumerate(entries):
        if entry.name in names[:number]:
            raise UserError(
                f"{entry.place}: another stage is called {entry.name!r} already; give this one a name of its "
                "own."
            )
        used = referenced(
            entry.items, Source(path), entry.inside, earlier=names[:number], later=names[number:]
        )
        seeded[entry.name] = entry.head.every_seed or any(seeded[name] for name in used)
        for own_seed in seeds if seeded[entry.name] else [None]:
            folders = {
                name: f"{output_dir}/{_step_name(name, own_seed if seeded[name] else None)}" for name in used
            }
            steps.append(_step(entry, path, output_dir, folders, seed=seed, own_seed=own_seed))
    return steps


def _step_name(stage: str, seed: int | None) -> str:
    return stage if seed is None else f"{stage}-seed{seed}"


def _read_entry(node: yaml.Node, number: int, path: str) -> _StageEntry:
    source, label = Source(path), f"{STAGES_KEY} entry {number}"
    place = source.place(node, label)
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{place}: expected a mapping with a 'command'.")
    items = list(mapping_items(node, source, f"{label}: "))
    specs = specs_of(StageHead)
    own = [item for item in items if item[0] in specs]
    given = read_nodes(own, specs, source, inside=f"{label}: ")
    if "command" not in given:
        raise UserError(f"{place}: the key 'command' is missing; expected {specs['command'].expected}.")
    head = StageHead(**{key: item.value for key, item in given.items()})
    name = head.name or head.command.replace("-", "_")
    if not _NAME.fullmatch(name) or name == OWN_FOLDER:
        where = given["name"].place if "name" in given else place
        reason = (
            "the pipeline keeps files of its own under that name; choose another"
            if name == OWN_FOLDER
            else "expected small letters, digits and underscores, with a letter first, such as sft_long"
        )
        raise UserError(f"{where}: found {name!r}; {reason}.")
    others = [item for item in items if item[0] not in specs]
    return _StageEntry(head, name, others, place, f"{label} ({name}): ")


def _step(
    entry: _StageEntry,
    path: str,
    output_dir: str,
    folders: Mapping[str, str],
    *,
    seed: int,
    own_seed: int | None,
) -> Step:
    recipe = recipe_class(entry.head.command)
    keys = recipe.keys()
    source = Source(path)
    inline = read_nodes(
        [(key, key_node, with_folders(node, folders)) for key, key_node, node in entry.items],
        keys,
        source,
        inside=entry.inside,
        override=True,
    )
    resuming = recipe.keys_that_change("resuming")
    reasons = {
        "output_dir": "the folder of a stage is output_dir/NAME of the pipeline",
        **dict.fromkeys(resuming, "a pipeline goes on by itself where it stopped"),
    }
    for key, reason in reasons.items():
        if key in inline:
            raise UserError(f"{inline[key].place}: {reason}; remove it.")
    if own_seed is not None and "seed" in inline:
        raise UserError(
            f"{inline['seed'].place}: this stage runs with each of the pipeline's seeds; remove it."
        )
    given = {} if entry.head.recipe is None else read_recipe_file(entry.head.recipe, keys)
    given = {key: item for key, item in given.items() if key not in resuming} | inline
    name = _step_name(entry.name, own_seed)
    folder = f"{output_dir}/{name}"
    given["output_dir"] = GivenValue(folder, entry.place, override=True)
    if "seed" in keys and "seed" not in inline:
        given["seed"] = GivenValue(seed if own_seed is None else own_seed, entry.place, override=True)
    config = _checked(recipe, given, entry, path)
    known = tuple(Path(folder).name for folder in folders.values())
    return Step(
        name, entry.name, entry.head.command, own_seed, config, tuple(given), folder, known, entry.place
    )


def _checked(recipe: type[Recipe], given: Mapping[str, GivenValue], entry: _StageEntry, path: str) -> Recipe:
    where = f"{entry.place} ({entry.name})"
    try:
        built = build_recipe(recipe, given, where)
    except UserError as error:
        files = (f"{path}:", f"{entry.head.recipe}:")
        # A problem of keys that nobody gave has no place of its own.
        text = str(error)
        raise UserError(text if text.startswith(files) else f"{where}: {text}") from None
    return dataclasses.replace(built, recipe_path=entry.head.recipe or path)
