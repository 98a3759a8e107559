"""Next-token prediction on the target tokens: supervised fine-tuning and GPT-style pre-training."""

from __future__ import annotations

import torch

from hf_align.losses import negative_log_likelihood
from hf_align.modeling.inputs import model_inputs
from hf_align.training.objectives.target_sums import summed_targets
from hf_align.types import Batch, LossOutput, PretrainingBatch


def causal_lm(model: torch.nn.Module, batch: Batch) -> LossOutput:
    """Summed negative log-likelihood of the batch's targets, each multiplied by its weight.

    ``model``: a causal language model with a target head installed, wrapped or not. ``metrics`` holds
    ``correct``: how many targets were the model's first choice, by weight.
    """
    output = model(**model_inputs(batch))
    losses, correct = negative_log_likelihood(output["logps"]), output["correct"]
    if batch.weights is not None:
        losses, correct = losses * batch.weights, correct * batch.weights
    return LossOutput(
        loss_sum=losses.sum(),
        count=batch.target_tokens,
        metrics={"correct": correct.sum()},
    )


def causal_blocks(model: torch.nn.Module, batch: PretrainingBatch) -> LossOutput:
    """The same on blocks of text; see :func:`summed_targets` for what is counted and kept."""
    return summed_targets(model(**batch.inputs), batch)
