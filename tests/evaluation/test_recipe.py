"""The recipe of an evaluation: names of models, and what has no effect or needs something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_align.errors import UserError
from hf_align.evaluation.recipe import ModelsConfig, parse_evaluate

TASK = {"generation_tasks": "g.jsonl"}
TWO = {"model_name_or_path": None, "models": ["a", "b"]}


def parse(folder: Path, **keys: Any) -> Any:
    path = folder / "r.yaml"
    given = {"model_name_or_path": "m", **keys}
    path.write_text(yaml.safe_dump({key: value for key, value in given.items() if value is not None}))
    return parse_evaluate(["--config", str(path)])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["one/run", "two/run"], ["one/run", "two/run"]),
        (["x/one/run", "y/one/run"], ["x/one/run", "y/one/run"]),
        (["/run", "a/run"], ["//run", "a/run"]),
        ([{"path": "runs/a", "name": "base"}, "runs/b"], ["base", "b"]),
    ],
)
def test_names_tell_models_apart(paths: list[Any], names: list[str]) -> None:
    assert ModelsConfig(models=paths).names == names


def test_one_model_is_a_list_of_one() -> None:
    config = ModelsConfig(model_name_or_path="runs/a")
    assert [entry.path for entry in config.entries] == ["runs/a"] and config.names == ["a"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "there is nothing to measure"),
        ({"model_name_or_path": None, **TASK}, "found neither"),
        ({"models": ["a"], **TASK}, "found both"),
        ({"model_name_or_path": None, "models": ["a", "a"], **TASK}, "two models are called 'a'"),
        (
            {"perplexity_datasets": "t", "stride": 16, "max_length": 16},
            "found a stride of 16 with windows of 16",
        ),
        ({"perplexity_datasets": "t", "lm_eval_limit": 3}, "no effect without lm_eval_tasks"),
        ({"perplexity_datasets": "t", "reward_model": "r"}, "no effect without generation_tasks"),
        ({"generation_tasks": [{"path": "g", "num_samples": 5}]}, "the same at temperature 0"),
        ({**TASK, "judge_url": "http://x"}, "each of the two needs the other"),
        ({**TASK, **TWO, "judge_url": "x", "judge_model": "j"}, "begins with http:// or https://"),
        ({**TASK, **TWO, "judge_url": "http://h:port/v1", "judge_model": "j"}, "begins with http:// or"),
        ({**TASK, **TWO, "judge_url": "https://me:hush@h/v1", "judge_model": "j"}, "user or password"),
        ({**TASK, "judge_reward_model": "r"}, "two models at least"),
        ({**TASK, "load_in_4bit": True, "load_in_8bit": True}, "only one of the two"),
        ({**TASK, "reward_functions": "no_function.py"}, "reward_functions"),
    ],
)
def test_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(tmp_path, **keys)


def test_taken(tmp_path: Path) -> None:
    parse(tmp_path, perplexity_datasets="t", stride=15, max_length=16)
    parse(tmp_path, generation_tasks=[{"path": "g", "num_samples": 5}], temperature=0.7)
    parse(tmp_path, **TASK, **TWO, judge_url="https://x", judge_model="j")


def test_paths_begin_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse(tmp_path, **TASK, output_dir="~/out").evaluation.output_dir == "/home/someone/out"


def test_a_folder_may_be_the_one_one_is_in(tmp_path: Path) -> None:
    assert parse(tmp_path, **{**TASK, **TWO, "models": [".", "a"]}).models.names == [".", "a"]


def test_a_password_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UserError) as problem:
        parse(tmp_path, **TASK, **TWO, judge_url="https://me:hush@h/v1", judge_model="j")
    assert "hush" not in str(problem.value)
