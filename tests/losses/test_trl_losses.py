"""The losses against TRL's own code, called on plain tensors without a model or a training run.

TRL computes its losses inside methods of its trainers. They are called here with a stand-in for the trainer
that holds the settings, and a model that returns given log-probabilities or scores.
"""

from __future__ import annotations

import os
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hf_align.losses import (
    F_DIVERGENCES,
    PAIRWISE_LOSSES,
    divergence_scores,
    hinge_loss,
    log_ratios,
    orpo_loss,
    pairwise_ranking_loss,
    simpo_loss,
)
from hf_align.types import PairLogps

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
trl = pytest.importorskip("trl", minversion="1.16")

LENGTHS = torch.tensor([3, 1, 12, 7, 5]), torch.tensor([4, 9, 1, 7, 2])
PAIRS = len(LENGTHS[0])
WIDTH = 13  # the longest answer, and one token of prompt before it
ACCELERATOR = SimpleNamespace(
    device=torch.device("cpu"), gather=lambda value: value, gather_for_metrics=lambda value: value
)


def token_logps(seed: int) -> torch.Tensor:
    """(2 B, WIDTH - 1): log-probabilities of the answers' tokens, chosen ones first, 0 beyond the end."""
    values = -3 * torch.rand(2 * PAIRS, WIDTH - 1, generator=torch.Generator().manual_seed(seed))
    return values * (torch.arange(WIDTH - 1) < torch.cat(LENGTHS)[:, None])


def as_pairs(tokens: torch.Tensor) -> PairLogps:
    return PairLogps(*tokens.sum(dim=1).chunk(2), *LENGTHS)


class TrlDpo:
    """TRL's preference loss and metrics of one batch."""

    def __init__(
        self,
        loss_type: str,
        tokens: torch.Tensor,
        reference: torch.Tensor,
        *,
        beta: float,
        label_smoothing: float = 0.0,
        tau: float = 0.05,
        divergence: str = "reverse_kl",
        alpha: float = 0.5,
    ) -> None:
        from trl import DPOTrainer

        trainer = SimpleNamespace(
            model=SimpleNamespace(training=True),
            accelerator=ACCELERATOR,
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=True,
            f_divergence_type=divergence,
            f_alpha_divergence_coef=alpha,
            args=SimpleNamespace(discopop_tau=tau),
            loss_types=[loss_type],
            loss_weights=[1.0],
            use_weighting=False,
            label_smoothing=label_smoothing,
            beta=beta,
            _metrics={"train": defaultdict(list)},
            _total_train_tokens=0,
            _tp_size=1,
        )
        first, second = reference.sum(dim=1).chunk(2)
        mask = torch.arange(WIDTH) <= torch.cat(LENGTHS)[:, None]
        inputs = {
            "input_ids": torch.zeros(2 * PAIRS, WIDTH, dtype=torch.long),
            "attention_mask": mask.long(),
            "completion_mask": (mask & (torch.arange(WIDTH) > 0)).long(),
            "ref_chosen_logps": first,
            "ref_rejected_logps": second,
        }
        nothing = torch.zeros_like(tokens)
        outputs = SimpleNamespace(
            log_probs=tokens, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
        )
        self.loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
        self.metrics = {name: values[0] for name, values in trainer._metrics["train"].items()}


CASES = [
    ("dpo", "sigmoid", {"beta": 0.1}),
    ("dpo", "sigmoid", {"beta": 2.0}),
    ("robust", "robust", {"beta": 0.1, "label_smoothing": 0.0}),
    ("robust", "robust", {"beta": 0.3, "label_smoothing": 0.3}),
    ("hinge", "hinge", {"beta": 0.1}),
    ("ipo", "ipo", {"beta": 0.1}),
    ("ipo", "ipo", {"beta": 1.0}),
    ("exo_pair", "exo_pair", {"beta": 0.1, "label_smoothing": 1e-3}),
    ("exo_pair", "exo_pair", {"beta": 0.3, "label_smoothing": 0.2}),
    ("discopop", "discopop", {"beta": 0.1, "tau": 0.05}),
    ("discopop", "discopop", {"beta": 0.02, "tau": 0.5}),
    ("apo_zero", "apo_zero", {"beta": 0.1}),
    ("apo_down", "apo_down", {"beta": 0.1}),
    ("nca_pair", "nca_pair", {"beta": 0.1}),
    ("sppo_hard", "sppo_hard", {"beta": 0.1}),
    ("aot", "aot", {"beta": 0.1}),
    ("aot", "aot", {"beta": 0.1, "label_smoothing": 0.2}),
    ("aot_unpaired", "aot_unpaired", {"beta": 0.1}),
    ("aot_unpaired", "aot_unpaired", {"beta": 0.3, "label_smoothing": 0.2}),
]


@pytest.mark.parametrize(("name", "loss_type", "settings"), CASES)
def test_pairwise_losses_and_their_gradients(name: str, loss_type: str, settings: dict[str, float]) -> None:
    results = []
    for compute in (
        lambda tokens, reference: TrlDpo(loss_type, tokens, reference, **settings).loss,
        lambda tokens, reference: PAIRWISE_LOSSES[name](
            as_pairs(tokens), as_pairs(reference), **settings
        ).mean(),
    ):
        tokens = token_logps(1).requires_grad_()
        loss = compute(tokens, token_logps(2))
        (gradient,) = torch.autograd.grad(loss, tokens)
        # TRL's batch ends with the padding of its longest row, ours with each answer.
        results.append((loss.detach(), gradient * (token_logps(1) != 0)))
    (theirs, their_gradient), (ours, our_gradient) = results
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_gradient, their_gradient)
    assert our_gradient.any()


@pytest.mark.parametrize("name", ["dpo", "hinge", "exo_pair"])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("divergence", F_DIVERGENCES)
def test_divergences(name: str, divergence: str, alpha: float) -> None:
    settings = {"beta": 0.05} | ({"label_smoothing": 0.1} if name == "exo_pair" else {})
    loss_type = {"dpo": "sigmoid"}.get(name, name)
    results = []
    for ours in (True, False):
        # Near each other, so that the exponentials do not decide everything.
        tokens, reference = token_logps(1).requires_grad_(), 0.7 * token_logps(1) + 0.3 * token_logps(2)
        if ours:
            scores = divergence_scores(
                as_pairs(tokens), as_pairs(reference), divergence=divergence, alpha=alpha
            )
            loss = PAIRWISE_LOSSES[name](scores, None, **settings).mean()
        else:
            options = {**settings, "divergence": divergence, "alpha": alpha}
            loss = TrlDpo(loss_type, tokens, reference, **options).loss
        (gradient,) = torch.autograd.grad(loss, tokens)
        results.append((loss.detach(), gradient * (token_logps(1) != 0)))
    (ours, our_gradient), (theirs, their_gradient) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-4, atol=1e-6)


def test_rewards() -> None:
    tokens, reference = token_logps(3), token_logps(4)
    metrics = TrlDpo("sigmoid", tokens, reference, beta=0.2).metrics
    chosen, rejected = (0.2 * ratio for ratio in log_ratios(as_pairs(tokens), as_pairs(reference)))
    assert chosen.mean().item() == pytest.approx(metrics["rewards/chosen"])
    assert rejected.mean().item() == pytest.approx(metrics["rewards/rejected"])
    assert (chosen > rejected).float().mean().item() == pytest.approx(metrics["rewards/accuracies"])


@pytest.mark.parametrize("loss_type", ["simpo", "hinge"])
def test_reference_free_losses_of_the_cpo_trainer(loss_type: str) -> None:
    from trl.experimental.cpo import CPOTrainer

    pairs = as_pairs(token_logps(5))
    trainer = SimpleNamespace(
        alpha=0.0,
        accelerator=ACCELERATOR,
        loss_type=loss_type,
        simpo_gamma=0.7,
        beta=2.0,
        label_smoothing=0.0,
    )
    if loss_type == "simpo":
        means = pairs.chosen / pairs.chosen_length, pairs.rejected / pairs.rejected_length
        theirs, *_ = CPOTrainer.cpo_loss(trainer, *means)
        ours = simpo_loss(pairs, beta=2.0, gamma=0.7)
    else:
        theirs, *_ = CPOTrainer.cpo_loss(trainer, pairs.chosen, pairs.rejected)
        ours = hinge_loss(pairs, None, beta=2.0)
    torch.testing.assert_close(ours, theirs)


def test_orpo() -> None:
    from trl.experimental.orpo import ORPOTrainer

    pairs = as_pairs(token_logps(6))
    means = pairs.chosen / pairs.chosen_length, pairs.rejected / pairs.rejected_length
    trainer = SimpleNamespace(beta=0.1, accelerator=ACCELERATOR)
    theirs, *_ = ORPOTrainer.odds_ratio_loss(trainer, *means)
    # There the term is subtracted from the likelihood loss.
    torch.testing.assert_close(orpo_loss(pairs, beta=0.1), -theirs)


@pytest.mark.parametrize("centering", [None, 0.05])
@pytest.mark.parametrize("margin", [None, torch.tensor([0.5, 0.0, 2.0, 1.0, -1.0])])
def test_reward_loss(centering: float | None, margin: torch.Tensor | None) -> None:
    from trl import RewardTrainer

    scores = torch.randn(2 * PAIRS, generator=torch.Generator().manual_seed(7))
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=ACCELERATOR,
        args=SimpleNamespace(center_rewards_coefficient=centering),
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs: dict[str, Any] = {"attention_mask": torch.ones(2 * PAIRS, 3)}
    if margin is not None:
        inputs["margin"] = margin
    model = lambda **_: SimpleNamespace(logits=scores[:, None])  # noqa: E731
    theirs = RewardTrainer.compute_loss(trainer, model, inputs)
    chosen, rejected = scores.chunk(2)
    ours = pairwise_ranking_loss(chosen, rejected, margin=margin, centering=centering or 0.0)
    torch.testing.assert_close(ours.mean(), theirs)
    metrics = trainer._metrics["train"]
    assert metrics["accuracy"] == [pytest.approx((chosen > rejected).float().mean().item())]
    assert metrics["margin"] == [pytest.approx((chosen - rejected).mean().item())]
