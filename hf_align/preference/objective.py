"""Learning from compared answers without a reward model: DPO and every other pairwise loss.

One objective serves them all: it turns a batch into the log-probabilities of pairs and hands them to the
entries of ``losses.PAIRWISE_LOSSES``. The reference's log-probabilities come with the batch, or from the
same model with its adapter switched off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hf_align.losses import PAIRWISE_LOSSES, PairwiseLoss, divergence_scores, kl_estimate, log_ratios
from hf_align.modeling.inputs import model_inputs
from hf_align.types import ComparisonBatch, LossOutput, PairLogps


@dataclass(frozen=True)
class LossTerm:
    """One pairwise loss with its weight and its options, by their names in the loss.

    ``divergence`` and ``alpha``: how log-ratios are scored, as in ``losses.divergence_scores``.
    """

    loss: PairwiseLoss
    weight: float
    options: dict[str, Any]
    divergence: str = "reverse_kl"
    alpha: float = 0.5

    def __call__(
        self, policy: PairLogps, reference: PairLogps | None, among: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(Q,) losses without the weight. ``among``: the pairs of the step, for losses that sort them."""
        if not self.loss.uses_reference:
            return self.loss(policy, **self.options)
        if self.divergence != "reverse_kl":
            policy = divergence_scores(policy, reference, divergence=self.divergence, alpha=self.alpha)
            reference = None
        over = {"among": among} if self.loss.over_step else {}
        return self.loss(policy, reference, **self.options, **over)


@dataclass(frozen=True)
class PreferenceObjective:
    """``(model, batch)`` to the summed loss over prompts; the pairs of a prompt are averaged.

    ``terms``: their weighted losses are added. ``beta``: scales log-ratios to rewards in the metrics.
    ``sft_weight``: of the negative log-likelihood per token of the chosen answer. ``reference_free``: no
    reference is asked for. ``ld_alpha``: as in :func:`pair_logps`, for losses that use the reference.
    ``use_weighting``: pairs count by how likely the model is to write them (:func:`wpo_weights`). ``model``:
    a causal language model with a target head, wrapped or not.
    """

    terms: tuple[LossTerm, ...]
    beta: float
    sft_weight: float = 0.0
    reference_free: bool = False
    ld_alpha: float | None = None
    use_weighting: bool = False

    @property
    def needs_reference(self) -> bool:
        return not self.reference_free and any(term.loss.uses_reference for term in self.terms)

    @property
    def needs_the_step(self) -> bool:
        """Whether a loss sorts the pairs of the whole step, so that they are to be surveyed before."""
        return any(term.loss.over_step for term in self.terms)

    def survey(self, model: torch.nn.Module, batch: ComparisonBatch) -> torch.Tensor:
        """(Q, 4): what ``losses.aot_loss`` calls ``among``, for the pairs of this batch."""
        reference = reference_of(model, batch) if self.needs_reference else None
        logps = model(**model_inputs(batch.inputs))["logps"]
        policy_pairs, reference_pairs = self._compared(logps, reference, batch)
        zeros = torch.zeros_like(policy_pairs.chosen)
        other = (zeros, zeros) if reference_pairs is None else reference_pairs[:2]
        return torch.stack([*policy_pairs[:2], *other], dim=1)

    def _compared(
        self, logps: torch.Tensor, reference: torch.Tensor | None, batch: ComparisonBatch
    ) -> tuple[PairLogps, PairLogps | None]:
        """The pairs as losses that use the reference see them."""
        policy = pair_logps(logps, batch, ld_alpha=self.ld_alpha)
        return policy, None if reference is None else pair_logps(reference, batch, ld_alpha=self.ld_alpha)

    def __call__(self, model: torch.nn.Module, batch: ComparisonBatch) -> LossOutput:
        reference = reference_of(model, batch) if self.needs_reference else None
        options = {"with_collisions": True} if self.use_weighting else {}
        output = model(**model_inputs(batch.inputs), **options)
        logps = output["logps"]
        policy_pairs = pair_logps(logps, batch)
        reference_pairs = None if reference is None else pair_logps(reference, batch)
        compared = self._compared(logps, reference, batch)
        losses = torch.zeros_like(policy_pairs.chosen)
        for term in self.terms:
            pairs = compared if term.loss.uses_reference else (policy_pairs, None)
            losses = losses + term.weight * term(*pairs, batch.among)
        if self.use_weighting:
            losses = losses * wpo_weights(logps, output["collisions"], batch)
        sft = -policy_pairs.chosen / policy_pairs.chosen_length
        weights = batch.pair_weights
        per_pair = {"pairwise_loss": losses.detach()} | _metrics(policy_pairs, reference_pairs, self.beta)
        if self.sft_weight:
            per_pair["sft_loss"] = sft.detach()
            losses = losses + self.sft_weight * sft
        if reference is not None:
            per_pair["kl"] = _kl(logps.detach(), reference, batch)
        return LossOutput(
            loss_sum=(weights * losses).sum(),
            count=batch.prompts,
            metrics={name: (weights * values).sum() for name, values in per_pair.items()},
            details={
                "margins": per_pair["rewards/margins"],
                "likelihood_margins": likelihood_margins(policy_pairs).detach(),
                "pair_weights": weights,
            },
        )


def reference_of(model: torch.nn.Module, batch: ComparisonBatch) -> torch.Tensor:
    """(N,) the reference's log-probabilities of the targets: those of the batch, or with the adapter off."""
    if batch.reference_logps is not None:
        return batch.reference_logps
    training = model.training
    # Dropout in the reference would be noise in every log-ratio.
    model.eval()
    try:
        with torch.no_grad(), _adapted(model).disable_adapter():
            logps: torch.Tensor = model(**model_inputs(batch.inputs))["logps"]
            return logps
    finally:
        model.train(training)


def loss_terms(
    names: Sequence[str], weights: Sequence[float] | None, options: Mapping[str, Any]
) -> tuple[LossTerm, ...]:
    """Entries of ``PAIRWISE_LOSSES`` with the ``options`` that each takes; ``weights`` default to 1.

    ``options``: by their names in a recipe, which begin with the name of a loss where only that one takes
    them (``ipo_reduction``); those that a loss does not take are left out.
    """
    terms = []
    for name, weight in zip(names, weights or [1.0] * len(names), strict=True):
        loss = PAIRWISE_LOSSES[name]
        taken = {key.removeprefix(f"{name}_"): options[key] for key in loss.options}
        scored = {}
        if loss.by_difference and "f_divergence_type" in options:
            scored = {"divergence": options["f_divergence_type"], "alpha": options["f_alpha_divergence_coef"]}
        terms.append(LossTerm(loss, weight, taken, **scored))
    return tuple(terms)


def loss_at_start(terms: Sequence[LossTerm]) -> float | None:
    """The value of the weighted losses where policy and reference are the same, if theory gives one."""
    constants = []
    for term in terms:
        if term.loss.at_start is None:
            return None
        constants.append(term.weight * term.loss.at_start(**term.options))
    return sum(constants)


def pair_logps(logps: torch.Tensor, batch: ComparisonBatch, *, ld_alpha: float | None = None) -> PairLogps:
    """``logps`` (N,) of the targets, in nats, to token sums and counts of the pairs.

    ``ld_alpha`` in [0, 1]: of the longer answer of a pair, the tokens beyond the length of the shorter one
    count that much (LD-DPO, Liu et al. 2024, arXiv 2409.06411, eq. 9).
    """
    lengths = batch.answer_lengths
    sums = answer_sums(logps, batch)
    chosen, rejected = sums[batch.chosen], sums[batch.rejected]
    if ld_alpha is not None:
        shared = torch.minimum(lengths[batch.chosen], lengths[batch.rejected])
        # The targets of an answer stand side by side. In float64: a float32 sum of many would be rounded.
        upto = torch.cat([logps.new_zeros(1).double(), logps.double().cumsum(0)])
        starts = lengths.cumsum(0) - lengths
        heads = [
            (upto[starts[answers] + shared] - upto[starts[answers]]).to(logps.dtype)
            for answers in (batch.chosen, batch.rejected)
        ]
        chosen, rejected = (
            head + ld_alpha * (whole - head) for head, whole in zip(heads, (chosen, rejected), strict=True)
        )
    return PairLogps(chosen, rejected, lengths[batch.chosen], lengths[batch.rejected])


def wpo_weights(logps: torch.Tensor, collisions: torch.Tensor, batch: ComparisonBatch) -> torch.Tensor:
    """(Q,): the product of both answers' weights, without a gradient.

    An answer's weight is exp of the mean over its tokens of log p less the log of the sum of p^2 over the
    vocabulary, what a draw of the model has on average; ``logps``, ``collisions`` (N,) in nats.
    """
    # Zhou et al. 2024, arXiv 2406.11827, eq. 2, with the weights aligned to what the model samples
    sums = answer_sums((logps - collisions).detach(), batch)
    weights = torch.exp(sums / batch.answer_lengths.clamp(min=1))
    return weights[batch.chosen] * weights[batch.rejected]


def answer_sums(values: torch.Tensor, batch: ComparisonBatch) -> torch.Tensor:
    """``values`` (N,) of the targets to (A,) sums over the tokens of each answer."""
    return values.new_zeros(len(batch.answer_lengths)).index_add(0, batch.target_answers, values)


def likelihood_margins(policy: PairLogps) -> torch.Tensor:
    """(Q,): by how many nats per token the chosen answer of each pair is likelier than the rejected one."""
    return policy.chosen / policy.chosen_length - policy.rejected / policy.rejected_length


def _metrics(policy: PairLogps, reference: PairLogps | None, beta: float) -> dict[str, torch.Tensor]:
    """Detached values for each pair; a reward is beta times the log-ratio (arXiv 2305.18290, equation 5)."""
    found = {"logps/chosen": policy.chosen.detach(), "logps/rejected": policy.rejected.detach()}
    chosen, rejected = (ratio.detach() for ratio in log_ratios(policy, reference))
    if reference is not None:
        found["logps/chosen_change"] = chosen / policy.chosen_length
    return found | {
        "rewards/chosen": beta * chosen,
        "rewards/rejected": beta * rejected,
        "rewards/margins": beta * (chosen - rejected),
        "rewards/accuracies": (chosen > rejected).float(),
    }


def _kl(logps: torch.Tensor, reference: torch.Tensor, batch: ComparisonBatch) -> torch.Tensor:
    """(Q,) half the squared log-ratio per token, averaged over both answers of each pair, in nats.

    For small changes that is the KL divergence from the reference. For large ones it only says how far apart
    the two models are on these tokens: the answers are those of the data, not samples of the policy, and k3,
    which is exact for samples, would be the exponential of whatever the rejected answers have lost.
    """
    estimates = kl_estimate(logps, reference, kind="k2")
    means = answer_sums(estimates, batch) / batch.answer_lengths.clamp(min=1)
    return (means[batch.chosen] + means[batch.rejected]) / 2


def _adapted(model: Any) -> Any:
    """The model with an adapter inside whatever wraps it."""
    while not hasattr(model, "disable_adapter"):
        if not hasattr(model, "module"):
            raise TypeError(
                f"{type(model).__name__} has no adapter to switch off, and the batch has no reference"
            )
        model = model.module
    return model
