"""Learning from single answers with a label: the losses of ``UNPAIRED_LOSSES`` and their KL estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from hf_align.kto.rows import collate_unpaired, filler
from hf_align.losses import UnpairedLoss
from hf_align.modeling.inputs import model_inputs
from hf_align.preference.objective import answer_sums, reference_of
from hf_align.training.tasks import Task
from hf_align.types import ComparisonBatch, LossOutput, UnpairedBatch


@dataclass(frozen=True)
class KtoObjective:
    """``(model, batch)`` to the summed loss over rows.

    ``model``: a causal language model with a target head, wrapped or not. The reference's log-probabilities
    come with the batch, or from the model with its adapter switched off.
    """

    loss: UnpairedLoss
    beta: float
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0

    def survey(self, model: torch.nn.Module, batch: UnpairedBatch) -> torch.Tensor:
        """(n, 1): the log-ratios of the mismatched answers that there are, in nats."""
        pairs = batch.mismatched
        if pairs is None:
            return batch.answers.answer_lengths.new_zeros(0, 1, dtype=torch.float32)
        policy, reference = _answer_logps(model, pairs)
        return (policy - reference)[pairs.answer_lengths > 0, None]

    def __call__(self, model: torch.nn.Module, batch: UnpairedBatch) -> LossOutput:
        answers, desirable = batch.answers, batch.desirable
        policy, reference = _answer_logps(model, answers)
        options: dict[str, Any] = {"beta": self.beta}
        if self.loss.uses_kl:
            if batch.kl is None:
                raise ValueError("the batch has no KL estimate; survey the step before")
            options["kl"] = batch.kl
        # A row without targets fills up a process that has none left.
        counted = answers.answer_lengths > 0
        losses = self.loss(policy, reference, desirable, **options) * counted
        weights = torch.where(desirable, self.desirable_weight, self.undesirable_weight)
        rewards = self.beta * (policy - reference).detach()
        liked, disliked = desirable & counted, ~desirable & counted
        metrics = {
            "desirable": liked.sum(),
            "unweighted_loss": losses.detach().sum(),
            "rewards/chosen": rewards[liked].sum(),
            "rewards/rejected": rewards[disliked].sum(),
            "logps/chosen": policy.detach()[liked].sum(),
            "logps/rejected": policy.detach()[disliked].sum(),
        }
        if batch.kl is not None:
            metrics["kl"] = batch.kl * counted.sum()
        return LossOutput(
            loss_sum=(weights.to(losses.dtype) * losses).sum(),
            count=int(counted.sum()),
            metrics=metrics,
            details={"rewards": rewards[counted], "desirable": desirable[counted]},
        )


def _answer_logps(model: torch.nn.Module, batch: ComparisonBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """(A,) sums over the tokens of each answer in nats, under policy and reference."""
    reference = reference_of(model, batch)
    policy = model(**model_inputs(batch.inputs))["logps"]
    return answer_sums(policy, batch), answer_sums(reference, batch)


def inform(batch: UnpairedBatch, ratios: torch.Tensor) -> UnpairedBatch:
    """The batch with z = max(0, mean of the step's mismatched log-ratios (N, 1)); 0 where there are none."""
    # Ethayarajh et al. 2024, arXiv 2402.01306, section 4.2: the estimate is clamped at zero
    mean = ratios.sum() / max(1, len(ratios))
    return replace(batch, kl=mean.clamp(min=0).float())


def kto_task(objective: KtoObjective, *, packed: bool, pad_token_id: int, **options: Any) -> Task:
    """The unit is the row. ``options``: further fields of :class:`Task`."""
    return Task(
        collate=partial(collate_unpaired, packed=packed, pad_token_id=pad_token_id),
        objective=objective,
        units=lambda row: 1,
        filler=filler,
        unit_name="rows",
        eval_metrics=lambda loss, units, sums, details: {
            "loss": loss,
            **step_metrics(sums, units),
            "rows": units,
        },
        train_metrics=step_metrics,
        padded=not packed,
        shared=False,
        survey=objective.survey if objective.loss.uses_kl else None,
        inform=inform if objective.loss.uses_kl else None,
        **options,
    )


def step_metrics(sums: Mapping[str, float], rows: int) -> dict[str, float]:
    """Means of the objective's sums over ``rows``; those of a label that has no row are left out."""
    counts = {"chosen": sums["desirable"], "rejected": rows - sums["desirable"]}
    found = {"desirable": sums["desirable"] / rows, "unweighted_loss": sums["unweighted_loss"] / rows}
    for kind in ("rewards", "logps"):
        found |= {f"{kind}/{label}": sums[f"{kind}/{label}"] / n for label, n in counts.items() if n}
    if all(counts.values()):
        found["rewards/margins"] = found["rewards/chosen"] - found["rewards/rejected"]
    if "kl" in sums:
        found["kl"] = sums["kl"] / rows
    return found
