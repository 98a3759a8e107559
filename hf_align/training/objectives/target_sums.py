"""What all objectives of pre-training do with the log-probabilities of their targets: sum, count, keep."""

from __future__ import annotations

from typing import Any

import torch

from hf_align.losses import negative_log_likelihood
from hf_align.types import LossOutput, PretrainingBatch


def summed_targets(output: Any, batch: PretrainingBatch) -> LossOutput:
    """Summed negative log-likelihood of the targets of a batch, in nats.

    ``output``: of a model with a target or selecting head. ``metrics``: ``token_loss``, the same sum, and
    ``correct``, how many targets were the first choice. ``details``, where no gradient is wanted (an
    evaluation): (N,) ``token_loss``, ``correct``, ``target`` and ``source`` of every target.
    """
    losses = negative_log_likelihood(output["logps"])
    details = {}
    if not torch.is_grad_enabled():
        details = {
            "token_loss": losses,
            "correct": output["correct"],
            "target": batch.target_ids,
            "source": batch.target_sources,
        }
    total = losses.sum()
    return LossOutput(
        loss_sum=total,
        count=batch.target_tokens,
        metrics={"token_loss": total.detach(), "correct": output["correct"].sum()},
        details=details,
    )
