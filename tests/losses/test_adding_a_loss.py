"""A pairwise loss is one function and one entry of the table: recipes, checks and training follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_preferences
from helpers.tiny_runs import merged_metrics

from hf_align.errors import UserError
from hf_align.losses import PAIRWISE_LOSSES, PairwiseLoss, log_ratios
from hf_align.types import PairLogps


def exponential_loss(policy: PairLogps, reference: PairLogps | None, *, beta: float) -> torch.Tensor:
    """exp(-beta h), as in boosting."""
    chosen, rejected = log_ratios(policy, reference)
    return torch.exp(-beta * (chosen - rejected))


ENTRY = PairwiseLoss(exponential_loss, True, ("beta",), lambda beta: 1.0)


def run(folder: Path, **options: Any) -> dict[str, Any]:
    inputs = tiny_preferences.make_inputs(folder, rows=8)
    options = {"loss": "exponential", "beta": 0.2, "max_steps": 2, "num_samples": 0, **options}
    return tiny_preferences.run(inputs, folder / "run", **options)


def test_one_function_and_one_entry_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAIRWISE_LOSSES, "exponential", ENTRY)
    record = run(tmp_path)
    assert record["recipe"]["loss"] == ["exponential"]
    # The loss at the start, exp(0), was compared with the entry's constant.
    assert record["start_check"]["checked"] and record["start_check"]["expected"] == 1.0
    losses = [row["pairwise_loss"] for row in merged_metrics(tmp_path / "run") if "pairwise_loss" in row]
    assert losses[0] == pytest.approx(1.0, abs=1e-5)
    assert losses[1] != pytest.approx(1.0, abs=1e-3)
    assert record["final_metrics"]["eval_loss"] != record["final_metrics"]["eval_loss_before"]


def test_an_option_that_it_does_not_take_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAIRWISE_LOSSES, "exponential", ENTRY)
    with pytest.raises(UserError, match="label_smoothing"):
        run(tmp_path, label_smoothing=0.1)


def test_without_the_entry_the_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exponential"):
        run(tmp_path)
