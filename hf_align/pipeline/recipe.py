"""The recipe of a pipeline: stages one after the other, each with the recipe of its own command.

``stages`` is a list; an entry names a ``command``, may begin from a recipe file (``recipe``), and gives
further keys of that command. ``$NAME`` in a value is the output folder of the stage NAME. Everything is
checked before anything runs: every stage's recipe is built as its own command would build it. Running them is
elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from hf_align.config import shared
from hf_align.config.command_line import read_arguments
from hf_align.config.fields import Option, Spec, option
from hf_align.config.group import Group, KeyProblem, Recipe, with_home
from hf_align.config.help import help_text
from hf_align.config.loader import GivenValue, build_recipe, read_node, read_nodes, read_options
from hf_align.config.yaml_nodes import Source, mapping_items
from hf_align.errors import UserError, did_you_mean
from hf_align.pipeline.stages import HELP, STAGES_KEY, Step, read_steps

_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class PipelineOptions(Group):
    """Where everything is written, the seeds, and what is done again."""

    title: ClassVar[str] = "Pipeline"

    output_dir: str = shared.output_dir(
        "runs/pipeline", help="folder for the report, with the folder of every stage in it"
    )
    seed: int = option(42, ge=0, le=_LARGEST_SEED, help="seed of the stages that run once")
    seeds: list[int] = option(
        factory=list,
        help="seeds of the stages with every_seed, and of all that builds on these: each runs once for "
        "every seed. Left out: seed alone",
        one_or_list=True,
    )
    rerun: list[str] = option(
        factory=list,
        help="stages that run again although they are up to date",
        one_or_list=True,
        changes="resuming",
    )
    keep_after_upgrade: bool = option(
        False,
        help="reuse what another version of hf_align, or of the libraries under it, has made",
        changes="resuming",
    )
    dry_run: bool = option(
        False, help="check everything, say what would run, and stop there", changes="resuming"
    )

    def check(self) -> None:
        object.__setattr__(self, "output_dir", with_home(self.output_dir))
        for seed in self.seeds:
            if not 0 <= seed <= _LARGEST_SEED:
                raise KeyProblem(("seeds",), f"found {seed}, expected numbers from 0 to {_LARGEST_SEED}.")
            if self.seeds.count(seed) > 1:
                raise KeyProblem(("seeds",), f"{seed} is given twice; expected each seed once.")

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of stages that run once for each."""
        return self.seeds or [self.seed]


@dataclass(frozen=True)
class PipelineConfig(Recipe):
    """The keys of a pipeline beside its stages."""

    pipeline: PipelineOptions = field(default_factory=PipelineOptions)


@dataclass(frozen=True)
class Pipeline:
    """A checked pipeline. ``steps``: every stage, once for each seed where it has several, in the order in
    which they run. ``path``: the recipe file."""

    config: PipelineConfig
    steps: tuple[Step, ...]
    path: str

    @property
    def options(self) -> PipelineOptions:
        return self.config.pipeline


def load_pipeline(argv: Sequence[str] | None = None, *, description: str = "") -> Pipeline:
    """The pipeline that the command line asks for; ``argv`` defaults to the process's own.

    ``--help`` prints the options and raises ``SystemExit(0)``. Raises ``UserError`` for every mistake in the
    file, in a stage's own recipe and on the command line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--help" in arguments or "-h" in arguments:
        print(help_text(PipelineConfig, command="pipeline", description=description))
        print(HELP)
        raise SystemExit(0)
    path, options = read_arguments(arguments)
    if path is None:
        raise UserError("--config is missing; a pipeline is described by a recipe: --config RECIPE.yaml.")
    keys = PipelineConfig.keys()
    items = list(mapping_items(read_node(path), Source(path)))
    given = read_nodes([item for item in items if item[0] != STAGES_KEY], _with_stages(keys), Source(path))
    if STAGES_KEY in options:
        raise UserError(f"--{STAGES_KEY}: stages are described in the recipe file, not on the command line.")
    given |= read_options(options, keys)
    config = build_recipe(PipelineConfig, given, path)
    node = next((value for key, _, value in items if key == STAGES_KEY), None)
    steps = read_steps(
        _stage_nodes(node, path),
        path,
        output_dir=config.pipeline.output_dir,
        seed=config.pipeline.seed,
        seeds=config.pipeline.all_seeds,
    )
    _check_rerun(config, steps, given)
    return Pipeline(config, tuple(steps), path)


def _with_stages(keys: dict[str, Any]) -> dict[str, Any]:
    """``keys`` with one for the stages, which a misspelled name is then compared with; it is never read."""
    return {**keys, STAGES_KEY: Spec(STAGES_KEY, Any, Option(""), None, False)}


def _stage_nodes(node: yaml.Node | None, path: str) -> list[yaml.Node]:
    if node is None:
        raise UserError(f"{path}: the required key '{STAGES_KEY}' is missing (the list of stages).")
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        found = "an empty list" if isinstance(node, yaml.SequenceNode) else "no list"
        raise UserError(
            f"{path}:{node.start_mark.line + 1}: {STAGES_KEY}: found {found}, expected a list with an entry "
            "for each stage."
        )
    return list(node.value)


def _check_rerun(config: PipelineConfig, steps: Sequence[Step], given: dict[str, GivenValue]) -> None:
    known = list(dict.fromkeys(name for step in steps for name in (step.stage, step.name)))
    for name in config.pipeline.rerun:
        if name not in known:
            place = given["rerun"].place
            listed = ", ".join(dict.fromkeys(step.stage for step in steps))
            raise UserError(
                f"{place}: there is no stage {name!r}; there are: {listed}.{did_you_mean(name, known)}"
            )
