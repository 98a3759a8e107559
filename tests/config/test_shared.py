"""Options that several commands have: wherever a key stands, it takes the same and says the same."""

from __future__ import annotations

import inspect

import pytest

from hf_align.commands.chat_recipe import ChatConfig
from hf_align.config import shared
from hf_align.config.data import DatasetConfig
from hf_align.config.fields import Spec, specs_of
from hf_align.evaluation.recipe_entries import EvaluatedModel, GenerationTask
from hf_align.stages import PIPELINE_COMMANDS, recipe_class

COMMANDS = {name: recipe_class(name) for name in PIPELINE_COMMANDS}

NAMES = [
    name
    for name, found in inspect.getmembers(shared, inspect.isfunction)
    if found.__module__ == shared.__name__
]


def specs(name: str) -> list[Spec]:
    keys = [recipe.keys() for recipe in COMMANDS.values()]
    # The tools of a conversation are functions in a file, those of data are schemas.
    keys += [] if name == "tools" else [ChatConfig.keys()]
    keys += [specs_of(group) for group in (DatasetConfig, EvaluatedModel, GenerationTask)]
    return [each[name] for each in keys if name in each]


@pytest.mark.parametrize("name", NAMES)
def test_several_have_it_and_it_takes_the_same(name: str) -> None:
    found = specs(name)
    assert len(found) > 1
    limits = {(spec.option.ge, spec.option.gt, spec.option.le, spec.option.lt, spec.hint) for spec in found}
    assert len(limits) == 1


def test_defaults_differ_for_nucleus_sampling_and_folders_alone() -> None:
    differing = [name for name in NAMES if len({str(spec.default) for spec in specs(name)}) > 1]
    assert differing == ["output_dir", "top_p"]
    assert specs_of(ChatConfig.groups()["chat"])["top_p"].default == 0.95
