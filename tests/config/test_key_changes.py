"""What every key says that it changes, and that nobody else keeps lists of keys."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

import hf_align
from hf_align.commands.chat_recipe import ChatConfig
from hf_align.config import DataConfig, DatasetConfig, TrainingConfig
from hf_align.config.fields import Change, entry_type, keys_that_change, specs_of
from hf_align.config.group import Group, Recipe
from hf_align.stages import STAGES, recipe_class

PACKAGE = Path(hf_align.__file__).parent
RECIPES: dict[str, type[Recipe]] = {name: recipe_class(name) for name in STAGES} | {"chat": ChatConfig}
ANOTHER_RUN = ("result", "loss", "inputs", "machine", "step_rows")
GOES_ON = ("outputs", "rounding", "speed", "place", "resuming")

# The key, and what it is to the recipes that differ from the others.
DIFFERENT = {"dry_run": {"corpus": "result"}, "packing": {"pretrain": "result"}}

# Lists of keys that say nothing about what a key changes.
LISTS = {
    "reporting/compare/comparability.py": "the keys that say which rows are held out",
    "saved_models/run_models.py": "the keys that an adapter takes over from the run that made it",
}


def groups() -> Iterator[type[Group]]:
    for recipe in RECIPES.values():
        for group in recipe.groups().values():
            yield group
            for spec in specs_of(group).values():
                if entry := entry_type(spec.hint):
                    yield entry


@pytest.mark.parametrize("command", RECIPES)
def test_every_key_is_of_one_kind(command: str) -> None:
    recipe = RECIPES[command]
    found = [key for change in get_args(Change) for key in recipe.keys_that_change(change)]
    assert sorted(found) == sorted(recipe.keys())
    assert set(get_args(Change)) == {*ANOTHER_RUN, *GOES_ON}


def test_a_key_changes_the_same_wherever_it_is_declared() -> None:
    """Also where a stage declares it again with another default."""
    declared: dict[str, dict[str, str]] = {}
    for command, recipe in RECIPES.items():
        for name, spec in recipe.keys().items():
            if DIFFERENT.get(name, {}).get(command) != spec.option.changes:
                declared.setdefault(name, {})[command] = spec.option.changes
    assert {name: found for name, found in declared.items() if len(set(found.values())) > 1} == {}


def test_a_group_that_inherits_a_key_keeps_what_it_changes() -> None:
    for group in set(groups()):
        for base in group.__mro__[1:]:
            if issubclass(base, Group):
                ours = specs_of(group)
                for name, spec in specs_of(base).items():
                    assert ours[name].option.changes == spec.option.changes, f"{group.__name__}.{name}"


@pytest.mark.parametrize(
    ("command", "change", "keys"),
    [
        ("sft", "rounding", "max_tokens_per_batch packing torch_compile"),
        ("dpo", "rounding", "max_tokens_per_batch packing share_prefix torch_compile"),
        ("ppo", "rounding", "generation_batch_size max_tokens_per_batch packing torch_compile"),
        ("best-of-n", "rounding", "generation_batch_size max_tokens_per_batch packing torch_compile"),
        ("evaluate", "rounding", "generation_batch_size max_tokens_per_batch packing"),
        ("sft", "step_rows", "gradient_accumulation_steps per_device_train_batch_size"),
        ("ppo", "machine", "precision use_cpu"),
        ("ppo", "place", "dataset_cache_dir output_dir run_name vllm_server_base_url"),
        ("sft", "resuming", "force_resume resume_from_checkpoint"),
        ("pretrain", "speed", "dataset_cache dataset_num_proc gradient_checkpointing"),
        (
            "dpo",
            "loss",
            "beta discopop_tau f_alpha_divergence_coef f_divergence_type ipo_reduction label_smoothing "
            "ld_alpha loss loss_weights reference_free sft_weight simpo_gamma use_weighting",
        ),
    ],
)
def test_verdicts_by_hand(command: str, change: Change, keys: str) -> None:
    assert sorted(RECIPES[command].keys_that_change(change)) == keys.split()


def test_a_key_that_says_nothing_changes_results() -> None:
    silent = specs_of(TrainingConfig)
    assert {"learning_rate", "seed", "optim", "max_steps"} <= set(keys_that_change(silent, "result"))


def test_what_decides_how_a_row_is_prepared() -> None:
    """The rest of both groups says which rows there are, or is about speed, places and limits."""
    assert keys_that_change(specs_of(DatasetConfig), "result") == (
        *("format", "split", "name", "separator", "text_unit", "columns", "skip_rows", "max_rows", "tools"),
    )
    assert keys_that_change(specs_of(DataConfig), "result") == (
        *(
            "max_length",
            "overlong",
            "train_on",
            "system_prompt",
            "fold_system_prompt",
            "merge_turns",
            "chat_template_kwargs",
        ),
        *("keep_reasoning", "add_eos", "require_end_of_turn"),
    )


def test_text_is_what_no_path_is() -> None:
    named = {name for group in groups() for name, spec in specs_of(group).items() if spec.option.text}
    assert named == {
        *("split", "name", "separator", "run_name", "system_prompt", "columns", "checks", "report_by"),
        *("chat_template_kwargs", "judge_parameters", "train_on"),
    }


def known_keys() -> set[str]:
    return {name for group in groups() for name in specs_of(group)}


def lists_of_keys(source: str, known: set[str]) -> list[list[str]]:
    """Literals of three or more texts that are all recipe keys: lists, tuples, sets, and texts of words."""
    found = []
    for node in ast.walk(ast.parse(source)):
        words: list[Any] = []
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            words = [getattr(item, "value", None) for item in node.elts]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = node.value.split()
        if len(words) > 2 and all(isinstance(word, str) and word in known for word in words):
            found.append(words)
    return found


def test_no_list_of_keys_outside_recipes() -> None:
    known = known_keys()
    assert lists_of_keys("FREE = ('seed', 'optim', 'packing')\nX = 'seed optim packing'", known) != []
    assert lists_of_keys("MIXED = ('seed', 'optim', 'another thing')\ntwo = ('seed', 'optim')", known) == []
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        lists = lists_of_keys(path.read_text(encoding="utf-8"), known)
        if lists and not name.startswith("config/") and "recipe" not in path.stem:
            found[name] = lists
    assert found.keys() - LISTS.keys() == set(), f"declare it in the option instead: {found}"
    assert LISTS.keys() <= found.keys()
