"""Whole runs on an emulated GPU: nothing is left on the CPU, and the metrics are those of a run there.

Data, model, trainer, checkpoints, sampling, evaluation and saving all take part.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    tiny_best_of_n,
    tiny_classifiers,
    tiny_evaluation,
    tiny_ppo,
    tiny_preferences,
    tiny_pretraining,
    tiny_raft,
    tiny_rewards,
    tiny_runs,
)
from helpers.documented_kernel import Kernel
from helpers.emulated_device import PEAK_MEMORY, emulated_cuda

from hf_align.modeling import precision
from hf_align.modeling.attention import varlen

Run = Callable[..., dict[str, Any]]

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8}
FULL = {"adapter": "none"}
SHORT = {"max_steps": 2, "num_samples": 1, "sample_max_new_tokens": 2}
ROLLOUTS = {"num_rollouts": 2, "num_ppo_epochs": 1, "max_new_tokens": 4}
SLOW = pytest.mark.slow


def run_of(helper: Any, folder: Path, *arguments: str, **changes: Any) -> Run:
    inputs = helper.make_inputs(folder, *arguments) | changes
    return lambda output_dir, **options: helper.run(inputs, output_dir, **options)


def pretraining(folder: Path, architecture: str, objective: str) -> Run:
    inputs = tiny_pretraining.make_inputs(folder)
    return lambda output_dir, **options: tiny_pretraining.run(
        inputs, output_dir, architecture, objective=objective, **options
    )


def with_reward_model(folder: Path) -> Run:
    return run_of(tiny_ppo, folder, reward_model=tiny_evaluation.save_tiny_reward_model(folder / "reward"))


CASES: list[Any] = [
    pytest.param(lambda f: run_of(tiny_runs, f), SHORT, id="sft"),
    pytest.param(lambda f: run_of(tiny_preferences, f), SHORT | FULL, id="dpo"),
    pytest.param(with_reward_model, LORA | ROLLOUTS, id="ppo", marks=SLOW),
]
CASES += [
    pytest.param(make, options, id=name, marks=SLOW)
    for name, make, options in (
        ("sft-padded", lambda f: run_of(tiny_runs, f), SHORT | {"packing": False}),
        (
            "sft-lora",
            lambda f: run_of(tiny_runs, f),
            SHORT | LORA | {"gradient_checkpointing": True, "neftune_noise_alpha": 5, "optim": "adamw_torch"},
        ),
        *(
            (f"sft-{adapter}", lambda f: run_of(tiny_runs, f), SHORT | {"adapter": adapter})
            for adapter in ("bottleneck", "ladder", "ia3", "prompt", "prefix", "p_tuning")
        ),
        ("sft-eva", lambda f: run_of(tiny_runs, f), SHORT | LORA | {"init_lora_weights": "eva"}),
        ("dpo-lora", lambda f: run_of(tiny_preferences, f), SHORT | LORA),
        ("orpo", lambda f: run_of(tiny_preferences, f), SHORT | FULL | {"loss": "orpo"}),
        ("reward", lambda f: run_of(tiny_rewards, f), {"max_steps": 2, **FULL}),
        ("reward-lora", lambda f: run_of(tiny_rewards, f), {"max_steps": 2, **LORA}),
        *(
            (f"classify-{kind}", lambda f, kind=kind: run_of(tiny_classifiers, f, kind), {"max_steps": 2})
            for kind in ("llama", "bert", "t5")
        ),
        ("classify-lora", lambda f: run_of(tiny_classifiers, f, "bert"), {"max_steps": 2, **LORA}),
        ("ppo-full", lambda f: run_of(tiny_ppo, f), FULL | ROLLOUTS),
        ("ppo-two-models", lambda f: run_of(tiny_ppo, f), FULL | ROLLOUTS | {"value_model": "separate"}),
        ("best-of-n", lambda f: run_of(tiny_best_of_n, f), {}),
        ("raft", lambda f: run_of(tiny_raft, f), {"rounds": 1, "num_train_epochs": 1}),
        *(
            (f"pretrain-{name}", lambda f, a=architecture, n=name: pretraining(f, a, n), {"max_steps": 2})
            for architecture, name in tiny_pretraining.every_pair()
        ),
    )
]


def metrics(record: dict[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in (record.get("final_metrics") or {}).items()
        if isinstance(value, float) and "second" not in name and "memory" not in name
    }


@pytest.mark.parametrize(("make", "options"), CASES)
def test_a_run_gives_what_it_gives_on_the_cpu(
    make: Callable[[Path], Run],
    options: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Neither of the two machines is fast in bfloat16, which reward models would be loaded in there.
    monkeypatch.setattr(precision, "_cpu_has_fast_bf16", lambda: False)
    run = make(tmp_path)
    expected = run(tmp_path / "cpu", **options, use_cpu=True)
    with emulated_cuda(devices=8), caplog.at_level(logging.INFO):
        run(tmp_path / "gpu", **options, use_cpu=False)
    assert "one of 8 GPUs is used; NPROC=8 starts a process for each" in caplog.text
    found = json.loads((tmp_path / "gpu" / "run.json").read_text())
    assert found["peak_memory_bytes"] == PEAK_MEMORY, "it has to have run there"
    assert metrics(found) == pytest.approx(metrics(expected), rel=2e-3, abs=2e-4)


@pytest.mark.parametrize(
    "options", [pytest.param(FULL, id="full"), pytest.param(LORA, id="lora", marks=SLOW)]
)
def test_half_precision_takes_the_variable_length_kernel(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights in float32 under autocast, and a frozen base in bfloat16."""
    run = run_of(tiny_runs, tmp_path)
    expected = run(tmp_path / "cpu", **SHORT, **options, use_cpu=True)
    kernel = Kernel()
    monkeypatch.setattr(varlen, "_kernel", lambda: kernel)
    with emulated_cuda(bf16=True):
        found = run(tmp_path / "gpu", **SHORT, **options, use_cpu=False, precision="auto")
    assert found["model"]["precision"] == "bf16"
    assert kernel.calls >= 2 * (SHORT["max_steps"] + 2), "two layers: evaluations, steps, samples"
    assert metrics(found) == pytest.approx(metrics(expected), rel=0.05, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("options", [FULL, LORA, {"adapter": "bottleneck"}], ids=["full", "lora", "own"])
@pytest.mark.parametrize("helper", [tiny_runs, tiny_ppo], ids=["sft", "ppo"])
def test_a_run_is_resumed_there(helper: Any, options: dict[str, Any], tmp_path: Path) -> None:
    inputs = helper.make_inputs(tmp_path)
    options = {
        **options,
        "save_strategy": "steps",
        "save_steps": 1,
        "lr_scheduler_type": "constant",
        "use_cpu": False,
    }
    lengths = [{"num_rollouts": 1}, {"num_rollouts": 2}]
    if helper is tiny_runs:
        lengths = [{"max_steps": 1}, {"max_steps": 2}]
    with emulated_cuda():
        helper.run(inputs, tmp_path / "whole", **options, **lengths[1])
        helper.run(inputs, tmp_path / "cut", **options, **lengths[0])
        again = {"resume_from_checkpoint": "auto", "force_resume": True}
        helper.run(inputs, tmp_path / "cut", **options, **lengths[1], **again)
    assert tiny_runs.same_weights(tmp_path / "cut", tmp_path / "whole")
