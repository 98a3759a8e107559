"""Every adapter method under everything that is asked of each: it works, or is refused with the reason.

Which is which stands in ``helpers.adapter_matrix``, from which the table of docs/adapters.md is made.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_ppo, tiny_preferences, tiny_rewards, tiny_runs
from helpers.adapter_matrix import CHECKS, METHODS, REFUSED, markdown_table
from helpers.tiny_checkpoint import save_tiny_checkpoint, tiny_tokenizer
from transformers import AutoModelForCausalLM

from hf_align.adapters import eva
from hf_align.adapters.factory import apply_adapter, can_pack
from hf_align.config import AdapterConfig, ModelConfig
from hf_align.errors import UserError
from hf_align.modeling.loading import load_model
from hf_align.saved_models.merging import adapter_kind, dequantized, merge
from hf_align.saved_models.reward_scoring import load_reward_model, score_rows
from hf_align.saved_models.run_models import attach_adapter, find_model, load_run_model
from hf_align.types import TokenizedRow

BIASED = {"attention_bias": True, "mlp_bias": True}
IDS = torch.arange(5, 17)[None]
STAGES: dict[str, Any] = {
    "sft": tiny_runs,
    "reward": tiny_rewards,
    "dpo": tiny_preferences,
    "ppo": tiny_ppo,
}
FAST = {
    ("bottleneck, parallel", "sft"),
    ("bottleneck, parallel", "reward"),
    ("bottleneck, parallel", "dpo"),
    ("bottleneck, parallel", "ppo"),
    ("bottleneck, parallel", "checkpointing"),
    ("bottleneck, parallel", "resume"),
    ("bottleneck, parallel", "4-bit"),
    ("prompt", "sft"),
    ("trainable", "resume"),
}
"""Runs of commands that "make test" does as well: one method for each way that methods work in."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model, with biases that are not zero: zero is where a lost one would not show."""
    folder = save_tiny_checkpoint(tmp_path_factory.mktemp("matrix") / "model", **BIASED)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.15) if not name.endswith("norm.weight") else None
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def inputs(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Recipe keys of every stage, all with the same model."""
    made = {}
    for name, stage in STAGES.items():
        folder = tmp_path_factory.mktemp(name)
        made[name] = stage.make_inputs(folder) | {"model_name_or_path": checkpoint}
    return made


def combinations(*checks: str, refused: bool = False) -> list[Any]:
    return [
        pytest.param(method, check, id=f"{method}-{check}")
        for method, check in itertools.product(METHODS, checks)
        if ((method, check) in REFUSED) is refused
    ]


def runs(*checks: str) -> list[Any]:
    """Combinations that work, those beyond one method for each mechanism marked as slow."""
    return [
        pytest.param(*case.values, id=case.id, marks=() if tuple(case.values) in FAST else pytest.mark.slow)
        for case in combinations(*checks)
    ]


def base_of(checkpoint: str, method: str = "") -> Any:
    """The base in float32; in 4 bits for the method that begins by correcting their rounding."""
    if method == "lora, loftq":
        config = ModelConfig(checkpoint, load_in_4bit=True)
        return load_model(config, trainable_base=False, precision="fp32", use_cpu=True).eval()
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()


def adapted(checkpoint: str, method: str) -> tuple[Any, Any]:
    """(the model with a new adapter, the base's logits)."""
    keys = {key: value for key, value in METHODS[method].items() if not key.startswith("load_in")}
    base = base_of(checkpoint, method)
    before = logits(base)
    torch.manual_seed(2)
    model: Any = apply_adapter(base, AdapterConfig(**keys)).eval()
    if keys.get("init_lora_weights") == "eva":
        every = torch.randint(3, 300, (4, 40))
        found = eva.find_directions(model, [every], lambda ids: ({"input_ids": ids}, ids > 0))
        eva.put_in(model, found.directions)
    return model, before


def logits(model: Any) -> torch.Tensor:
    """At the last tokens: those of virtual ones come first."""
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[:, -IDS.shape[1] :].clone()


def disturb(model: Any, *, seed: int = 3) -> None:
    """Weights as training would leave them: everything that is trained has moved."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_outputs_at_the_start(checkpoint: str, method: str) -> None:
    model, before = adapted(checkpoint, method)
    assert close(logits(model), before) is ((method, "start") not in REFUSED)


@pytest.mark.parametrize("method", METHODS)
def test_only_its_weights_move(checkpoint: str, method: str) -> None:
    model, _ = adapted(checkpoint, method)
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    earlier = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=0.01)
    # Two steps: in the first one the gradient of whatever stands before a zero is zero.
    for _step in range(2):
        optimizer.zero_grad()
        model(input_ids=IDS, attention_mask=torch.ones_like(IDS), labels=IDS).loss.backward()
        optimizer.step()
    assert frozen, "nothing is frozen"
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    still = [name for name, value in earlier.items() if torch.equal(now[name], value)]
    # The bias of a key moves every score of a query alike, which the softmax takes out again.
    assert [name for name in still if "k_proj" not in name] == []


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_loaded_it_gives_the_same_outputs(checkpoint: str, method: str, tmp_path: Path) -> None:
    model, before = adapted(checkpoint, method)
    disturb(model)
    expected = logits(model)
    assert not close(expected, before), "the disturbance does not show"
    model.save_pretrained(tmp_path)
    if method == "trainable":
        loaded = base_of(str(tmp_path))
    else:
        loaded = attach_adapter(base_of(checkpoint, method), tmp_path, tiny_tokenizer())
    assert close(logits(loaded), expected)
    assert not any(p.requires_grad for p in loaded.parameters()) or method == "trainable"


@pytest.mark.parametrize("method", [m for m in METHODS if m != "trainable"])
def test_switched_off_it_gives_the_base(checkpoint: str, method: str) -> None:
    model, before = adapted(checkpoint, method)
    disturb(model)
    with model.disable_adapter():
        off = logits(model)
    assert close(off, before) is ((method, "off") not in REFUSED)
    assert not close(logits(model), before), "it stays off"


@pytest.mark.parametrize(("method", "check"), combinations("named"))
def test_two_of_them_on_one_base(checkpoint: str, method: str, check: str, tmp_path: Path) -> None:
    expected = []
    for seed in (3, 4):
        model, before = adapted(checkpoint, method)
        disturb(model, seed=seed)
        expected.append(logits(model))
        model.save_pretrained(tmp_path / str(seed))
    both = attach_adapter(base_of(checkpoint, method), tmp_path / "3", tiny_tokenizer())
    both.load_adapter(str(tmp_path / "4"), "second")
    assert close(logits(both), expected[0])
    both.set_adapter("second")
    assert both.active_adapter == "second"
    assert close(logits(both), expected[1])
    both.set_adapter("default")
    assert close(logits(both), expected[0])
    with both.disable_adapter():
        assert close(logits(both), before)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "trainable"])
def test_merged_it_gives_the_same_or_is_refused(checkpoint: str, method: str, tmp_path: Path) -> None:
    model, _ = adapted(checkpoint, method)
    disturb(model)
    expected = logits(model)
    if reason := REFUSED.get((method, "merge")):
        with pytest.raises(UserError, match=reason):
            adapter_kind(model)
        return
    assert adapter_kind(model)
    if method == "lora, loftq":  # rounded anew, the sum would lose the update
        model.save_pretrained(tmp_path)
        model = attach_adapter(dequantized(model.unload()), tmp_path, tiny_tokenizer())
    plain = merge(model)
    assert not any("added" in name or "base_layer" in name for name, _ in plain.named_modules())
    assert close(logits(plain), expected)


@pytest.mark.parametrize("method", METHODS)
def test_packed_or_said_not_to_be(method: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    keys = {key: value for key, value in METHODS[method].items() if not key.startswith("load_in")}
    reason = REFUSED.get((method, "pack"))
    assert can_pack(AdapterConfig(**keys)) is (reason is None)
    assert bool(caplog.text) is (reason is not None)


@pytest.mark.parametrize(("method", "check"), runs("sft", "reward", "dpo", "ppo", "checkpointing", "4-bit"))
def test_it_trains(inputs: dict[str, Any], method: str, check: str, tmp_path: Path) -> None:
    stage = check if check in STAGES else "sft"
    keys = dict(METHODS[method])
    if check == "checkpointing":
        keys["gradient_checkpointing"] = True
    if check == "4-bit":
        keys["load_in_4bit"] = True
    keys |= {"num_rollouts": 2} if stage == "ppo" else {"num_train_epochs": 1, "eval_strategy": "no"}
    record = STAGES[stage].run(inputs[stage], tmp_path / "run", **keys)
    assert record["status"] == "completed"
    assert record["model"]["trainable_parameters"] > 0
    assert record["model"]["trained"]
    packed = "padded" if (method, "pack") in REFUSED else "segments"
    assert record["model"]["attention"] == packed
    if stage in ("sft", "dpo"):
        assert record["final_metrics"]["eval_loss"] < record["final_metrics"]["eval_loss_before"]
    if stage == "reward":
        reward = load_reward_model(tmp_path / "run", use_cpu=True)
        row = TokenizedRow(IDS[0].numpy().astype(np.int32), np.zeros(IDS.shape[1], dtype=bool))
        assert reward.packed is ((method, "pack") not in REFUSED)
        assert np.isfinite(score_rows(reward, [row])).all()
    else:
        config = ModelConfig(str(tmp_path / "run"))
        loaded, _ = load_run_model(find_model(config, use_cpu=True), use_cpu=True)
        assert torch.isfinite(logits(loaded)).all()


@pytest.mark.parametrize(
    ("method", "check"),
    combinations("dpo", "ppo", "checkpointing", "resume", "4-bit", refused=True),
)
def test_it_is_refused_with_the_reason(
    inputs: dict[str, Any], method: str, check: str, tmp_path: Path
) -> None:
    stage = check if check in STAGES else "sft"
    keys = dict(METHODS[method])
    keys |= {
        "checkpointing": {"gradient_checkpointing": True},
        "resume": {"resume_from_checkpoint": "auto"},
        "4-bit": {"load_in_4bit": True},
    }.get(check, {})
    with pytest.raises(UserError, match=REFUSED[method, check]):
        STAGES[stage].run(inputs[stage], tmp_path / "run", **keys)
    assert not (tmp_path / "run").exists(), "refused before anything is done"


@pytest.mark.parametrize(("method", "check"), runs("resume"))
def test_it_goes_on_as_if_never_stopped(
    inputs: dict[str, Any], method: str, check: str, tmp_path: Path
) -> None:
    keys = {**METHODS[method], "num_train_epochs": 1, "save_strategy": "steps", "save_steps": 3}
    keys |= {"save_total_limit": None, "eval_strategy": "no"}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    tiny_runs.run(inputs["sft"], whole, **keys)
    shutil.copytree(whole, stopped)
    shutil.rmtree(stopped / "checkpoint-6")
    tiny_runs.run(inputs["sft"], stopped, **keys, resume_from_checkpoint="auto")
    assert tiny_runs.same_weights(stopped, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "check"), combinations("processes"))
def test_two_processes_train_what_one_trains(
    inputs: dict[str, Any], method: str, check: str, tmp_path: Path
) -> None:
    keys = {**METHODS[method], "num_train_epochs": 1, "optim": "sgd", "learning_rate": 0.1}
    tiny_runs.run(inputs["sft"], tmp_path / "one", **keys)
    recipe = tiny_runs.write_recipe(
        inputs["sft"], tmp_path / "two", **(keys | {"per_device_train_batch_size": 2})
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "hf_align", "sft", "--config", str(recipe)]
    environment = {**os.environ, "NPROC": "2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (tiny_runs.weights(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)


def test_the_documentation_has_this_table() -> None:
    page = Path(__file__).resolve().parents[2] / "docs/adapters.md"
    assert markdown_table() in page.read_text(encoding="utf-8")
    assert {check for _, check in REFUSED} <= set(CHECKS)
