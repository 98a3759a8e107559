"""Sums over targets, and what is kept of each where nothing is trained."""

from __future__ import annotations

import torch

from hf_align.training.objectives.target_sums import summed_targets
from hf_align.types import PretrainingBatch

OUTPUT = {"logps": torch.tensor([-1.0, -3.0, 0.0]), "correct": torch.tensor([True, False, True])}
BATCH = PretrainingBatch({}, torch.tensor([4, 5, 6]), torch.tensor([0, 0, 1]))


def test_while_training() -> None:
    found = summed_targets(OUTPUT, BATCH)
    assert (found.loss_sum.item(), found.count, int(found.metrics["correct"])) == (4.0, 3, 2)
    assert found.details == {} and found.metrics["token_loss"] == 4.0


@torch.no_grad()
def test_in_an_evaluation() -> None:
    details = summed_targets(OUTPUT, BATCH).details
    assert details["token_loss"].tolist() == [1.0, 3.0, 0.0]
    assert details["target"].tolist() == [4, 5, 6] and details["source"].tolist() == [0, 0, 1]
