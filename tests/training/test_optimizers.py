"""Optimizers by name, in runs: their arguments arrive, and the weights between steps are the model's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny_runs import make_inputs, merged_metrics, run
from transformers import Trainer

from hf_align.config import TrainingConfig
from hf_align.errors import UserError
from hf_align.training.arguments import check_optimizer_is_there, check_trackers, training_arguments
from hf_align.training.callbacks import OptimizerMode


def made(folder: Path, **options: Any) -> Any:
    config = TrainingConfig(output_dir=str(folder), **options)
    return training_arguments(config, precision="fp32", use_cpu=True, steps_per_epoch=3)


def test_arguments_arrive(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    args = made(tmp_path, optim="sgd", optim_args={"momentum": 0.9, "nesterov": True})
    kind, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
    assert kind is torch.optim.SGD and options["momentum"] == 0.9 and options["nesterov"] is True
    args = made(tmp_path, optim="rmsprop", optim_args={"alpha": 0.9, "centered": True})
    assert Trainer.get_optimizer_cls_and_kwargs(args, model)[1]["alpha"] == 0.9
    assert made(tmp_path).optim_args is None


@pytest.mark.parametrize(
    ("given", "expected"), [(["all-linear"], "all-linear"), (["attn", "mlp"], ["attn", "mlp"])]
)
def test_target_modules(tmp_path: Path, given: list[str], expected: Any) -> None:
    args = made(tmp_path, optim="galore_adamw", optim_target_modules=given)
    assert args.optim_target_modules == expected


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "lion_32bit", "ademamix", "sgd"])
def test_runs_learn(tmp_path: Path, name: str) -> None:
    rate = {"sgd": 0.5, "lion_32bit": 1e-3}.get(name, 5e-3)
    arguments = {"optim_args": {"momentum": 0.9}} if name == "sgd" else {}
    options = {"save_strategy": "no", "num_samples": 0, "learning_rate": rate, **arguments}
    record = run(make_inputs(tmp_path), tmp_path / "run", optim=name, **options)
    metrics = record["final_metrics"]
    assert metrics["eval_loss"] < metrics["eval_loss_before"]


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_optimizer_is_there("sgd")
    with pytest.raises(UserError, match="schedule_free_adamw needs the package schedulefree"):
        check_optimizer_is_there("schedule_free_adamw")
    with pytest.raises(UserError, match="pip install torch-optimi"):
        check_optimizer_is_there("stable_adamw")
    with pytest.raises(UserError, match=r"azure_ml is not installed.*azureml-core"):
        check_trackers(["azure_ml"])
    with pytest.raises(UserError, match="KUBEFLOW_TRAINER_SERVER_URL"):
        check_trackers(["kubeflow"])


def test_weights_are_those_of_the_model_between_steps() -> None:
    called: list[str] = []
    OptimizerMode().on_step_end(None, None, None, optimizer=SimpleNamespace(eval=lambda: called.append("x")))
    assert called == ["x"]
    OptimizerMode().on_step_end(
        None, None, None, optimizer=torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    )


def test_schedule_free(tmp_path: Path) -> None:
    pytest.importorskip("schedulefree")
    inputs = make_inputs(tmp_path)
    options = {"optim": "schedule_free_adamw", "lr_scheduler_type": "constant", "learning_rate": 0.02}
    options |= {"num_train_epochs": 2, "eval_strategy": "epoch", "num_samples": 0}
    record = run(inputs, tmp_path / "run", **options)
    # What was evaluated last is what was saved.
    again = {**inputs, "model_name_or_path": str(tmp_path / "run")}
    saved = run(again, tmp_path / "again", max_steps=1, num_samples=0, save_strategy="no")
    assert saved["final_metrics"]["eval_loss_before"] == pytest.approx(
        record["final_metrics"]["eval_loss"], rel=1e-4
    )
    assert len(merged_metrics(tmp_path / "run")) > 2
