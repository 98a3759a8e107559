"""Optimizers and trackers by transformers' names: the names, their arguments, and what is refused."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args

import pytest
import transformers.trainer_optimizer as theirs
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.training_args import OptimizerNames

from hf_align.config import TrainingConfig
from hf_align.config.choices.optimizers import (
    IN_BACKWARD,
    LOW_RANK,
    OPTIMIZER_ARGUMENTS,
    OPTIMIZER_MODULES,
    TRACKER_MODULES,
    Optimizer,
    Tracker,
)
from hf_align.errors import UserError
from hf_align.rl.recipe import parse_ppo
from hf_align.sft.recipe import parse_sft

GIVEN = ["--model_name_or_path", "m", "--datasets", "a.jsonl"]


def test_the_names_are_those_of_transformers() -> None:
    assert set(get_args(Optimizer)) == {name.value for name in OptimizerNames}
    assert set(get_args(Tracker)) == {"none", *INTEGRATION_TO_CALLBACK}
    assert {*IN_BACKWARD, *LOW_RANK, *OPTIMIZER_ARGUMENTS, *OPTIMIZER_MODULES} <= set(get_args(Optimizer))
    assert set(TRACKER_MODULES) <= set(get_args(Tracker))


def test_arguments_are_those_that_transformers_reads() -> None:
    source = inspect.getsource(theirs)
    read = set(re.findall(r"optim_args\.(?:get|pop)\(\s*\"(\w+)\"", source))
    read |= {
        name for names in re.findall(r"for key in \(([^)]*)\):", source) for name in re.findall(r"\w+", names)
    }
    read |= set(re.findall(r"\"(\w+)\" in ctx\.optim_args", source))
    ours = {name for names in OPTIMIZER_ARGUMENTS.values() for name in names}
    assert ours == read


@pytest.mark.parametrize("name", sorted(set(get_args(Optimizer)) - set(IN_BACKWARD) - set(LOW_RANK)))
def test_every_other_name_can_be_chosen(name: str) -> None:
    arguments = {key: 1 for key in OPTIMIZER_ARGUMENTS.get(name, ())}
    assert TrainingConfig(optim=name, optim_args=arguments).optim == name


@pytest.mark.parametrize("name", IN_BACKWARD)
def test_optimizers_that_step_inside_backward_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UserError, match="while gradients are still being computed"):
        TrainingConfig(optim=name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--optim", "adamw_troch"], "Did you mean 'adamw_torch'"),
        (["--optim_args", "{momentum: 0.9}"], "adamw_torch_fused has no 'momentum'; it takes none"),
        (["--optim", "sgd", "--optim_args", "{momentun: 0.9}"], "Did you mean 'momentum'"),
        (["--optim", "galore_adamw"], "optim_target_modules"),
        (["--optim", "sgd", "--optim_target_modules", "attn"], "optim_target_modules"),
        (
            ["--optim", "apollo_adamw", "--optim_target_modules", "all-linear", "--adapter", "lora"],
            "whole weight matrices",
        ),
    ],
)
def test_what_does_not_go_together(options: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_sft([*GIVEN, *options])


@pytest.mark.parametrize("name", ["schedule_free_adamw", "galore_adamw"])
def test_ppo_steps_with_neither(name: str) -> None:
    options: list[Any] = ["--optim_target_modules", "attn"] if name in LOW_RANK else []
    with pytest.raises(UserError, match="samples between its steps"):
        parse_ppo([*GIVEN, "--reward_functions", "rewards.py:score", "--optim", name, *options])
