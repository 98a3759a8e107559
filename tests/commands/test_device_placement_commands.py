"""Commands that use a trained model, on an emulated GPU: nothing is left on the CPU."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.emulated_device import emulated_cuda
from helpers.tiny_adapters import save_adapter
from helpers.tiny_checkpoint import save_tiny_checkpoint, write_orders
from helpers.tiny_evaluation import save_tiny_reward_model, write_questions
from helpers.tiny_rewards import write_pairs

from hf_align.commands import chat, evaluate, merge
from hf_align.modeling import precision

ENDINGS = Path(__file__).resolve().parents[2] / "data/evaluation/endings"


@pytest.fixture(autouse=True)
def devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The devices that modules run on; bfloat16 is fast on none of them."""
    monkeypatch.setattr(precision, "_cpu_has_fast_bf16", lambda: False)
    found: set[str] = set()
    handle = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: found.update(p.device.type for p in module.parameters(recurse=False))
    )
    yield found
    handle.remove()


def numbers(found: Any, name: str = "") -> dict[str, float]:
    """All of them, by their path."""
    if isinstance(found, float):
        return {name: found}
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    return {path: value for key, one in items for path, value in numbers(one, f"{name}/{key}").items()}


@pytest.mark.slow
def test_evaluate_finds_the_same_metrics(tmp_path: Path, devices: set[str]) -> None:
    base = save_tiny_checkpoint(tmp_path / "base", max_position_embeddings=512, initializer_range=0.2)
    reward = save_tiny_reward_model(tmp_path / "reward")
    recipe = {
        "models": [base, save_adapter(tmp_path / "adapter", base, scale=0.3), reward],
        "perplexity_datasets": [write_orders(tmp_path / "orders.jsonl", 6)],
        "choice_tasks": [{"path": str(ENDINGS), "max_rows": 4}],
        "generation_tasks": [{"path": write_questions(tmp_path / "asked.jsonl", 4), "name": "asked"}],
        "max_new_tokens": 6,
        "preference_datasets": [write_pairs(tmp_path / "pairs.jsonl", 4)],
        "judge_reward_model": reward,
    }
    found = {}
    for device, machine in (("cpu", contextlib.nullcontext()), ("cuda", emulated_cuda())):
        path = tmp_path / f"{device}.yaml"
        content = {**recipe, "output_dir": str(tmp_path / device), "use_cpu": device == "cpu"}
        path.write_text(json.dumps(content))
        devices.clear()
        with machine:
            evaluate.main(["--config", str(path)])
        assert devices == {device}
        results = json.loads((tmp_path / device / "evaluation.json").read_text())["results"]
        found[device] = numbers(results)
    assert len(found["cpu"]) > 20
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"modules_to_save": ["embed_tokens", "lm_head"]}], ids=["lora", "whole"]
)
def test_merge_finds_that_nothing_is_lost(options: dict[str, Any], tmp_path: Path, devices: set[str]) -> None:
    base = save_tiny_checkpoint(tmp_path / "base", initializer_range=0.15, hidden_size=64)
    adapter = save_adapter(tmp_path / "adapter", base, **options)
    with emulated_cuda():
        merge.main(["--model_name_or_path", adapter, "--output_dir", str(tmp_path / "merged")])
    assert devices == {"cuda"}
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_chat_answers(
    tmp_path: Path,
    devices: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = save_tiny_checkpoint(tmp_path / "base", initializer_range=0.15)
    options = {"model_name_or_path": base, "temperature": "0.7", "max_new_tokens": "8", "dtype": "float32"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    written = []
    for machine in (contextlib.nullcontext(), emulated_cuda()):
        devices.clear()
        monkeypatch.setattr(sys, "stdin", io.StringIO("Where do the lamps go?\nAnd then?\n"))
        with machine:
            assert chat.main(arguments) == 0
        written.append(capsys.readouterr().out)
    assert devices == {"cuda"}
    assert written[0] == written[1]
