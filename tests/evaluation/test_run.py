"""An evaluation looks at all that it was given before any model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders
from helpers.tiny_evaluation import save_tiny_reward_model

from hf_align.errors import UserError
from hf_align.evaluation import run as evaluate_run
from hf_align.evaluation.recipe import parse_evaluate
from hf_align.evaluation.run import check_inputs, evaluate, is_reward_source


def config(model: str, **options: Any) -> Any:
    given = [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in options.items()
    ]
    return parse_evaluate(["--model_name_or_path", model, "--use_cpu", "true", *given])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perplexity_datasets": "nowhere.jsonl"}, "nowhere.jsonl"),
        ({"choice_tasks": "nowhere.csv"}, "nowhere.csv"),
        ({"generation_tasks": [{"path": "{here}", "answer_pattern": "("}]}, "answer_pattern"),
        ({"generation_tasks": "{here}", "reward_functions": "none.py:f"}, "there is no file"),
        ({"generation_tasks": "{here}", "reward_model": "./nothing"}, "reward_model"),
    ],
)
def test_mistakes_show_before_anything_is_loaded(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    here = write_orders(tmp_path / "orders.jsonl", 2)
    told = json.loads(json.dumps(options).replace("{here}", here))
    monkeypatch.setattr(evaluate_run, "load_run_model", None)
    with pytest.raises(UserError, match=message):
        check_inputs(config(model, **told))


def test_reward_models_are_known_by_their_settings(tmp_path: Path, model: str) -> None:
    def source(path: str, adapter: Path | None = None) -> Any:
        return SimpleNamespace(config=SimpleNamespace(model_name_or_path=path), adapter=adapter)

    assert is_reward_source(source(save_tiny_reward_model(tmp_path / "reward")))
    assert not is_reward_source(source(model)) and not is_reward_source(source("org/name-on-the-hub"))
    for kind, known in (("SEQ_CLS", True), ("CAUSAL_LM", False)):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"task_type": kind}))
        assert is_reward_source(source(model, tmp_path)) is known


def test_what_was_found_is_told_after_every_model(model: str, tmp_path: Path) -> None:
    path = write_orders(tmp_path / "orders.jsonl", 2)
    told: list[int] = []
    found = evaluate(
        config(model, perplexity_datasets=path), finished=lambda each: told.append(len(each.models))
    )
    assert told == [1] and found.models[0]["name"] == Path(model).name
    ((metrics,),) = [each.values() for each in found.results["perplexity"].values()]
    assert metrics["tokens"] > 0 and found.models[0]["parameters"] > 0
