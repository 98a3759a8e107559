"""The unpaired losses against values by hand."""

from __future__ import annotations

import pytest
import torch

from hf_align.losses import UNPAIRED_LOSSES, apo_zero_unpaired_loss, kto_loss

DESIRABLE = torch.tensor([True, False])
REFERENCE = torch.tensor([-5.0, -7.0])


def test_kto_by_hand() -> None:
    # r = 2 and -1, z = 0.5: sigma(-0.15) for both
    policy = REFERENCE + torch.tensor([2.0, -1.0])
    losses = kto_loss(policy, REFERENCE, DESIRABLE, beta=0.1, kl=torch.tensor(0.5))
    assert losses.tolist() == pytest.approx([0.4625702, 0.4625702])
    weighted = kto_loss(
        policy, REFERENCE, DESIRABLE, beta=0.1, kl=0.5, desirable_weight=2.0, undesirable_weight=0.5
    )
    assert weighted.tolist() == pytest.approx([2 * 0.4625702, 0.5 * 0.4625702])


def test_apo_zero_by_hand() -> None:
    policy = REFERENCE + torch.tensor([2.0, -1.0])
    losses = apo_zero_unpaired_loss(policy, REFERENCE, DESIRABLE, beta=0.5)
    # sigma(-1) and sigma(-0.5)
    assert losses.tolist() == pytest.approx([0.26894142, 0.37754067])


@pytest.mark.parametrize("name", UNPAIRED_LOSSES)
def test_value_at_the_start(name: str) -> None:
    entry = UNPAIRED_LOSSES[name]
    options = {"kl": 0.0} if entry.uses_kl else {}
    losses = entry(REFERENCE, REFERENCE, DESIRABLE, beta=0.3, **options)
    assert losses.tolist() == [entry.at_start] * 2


def test_the_gradient_goes_up_for_desirable_answers_and_not_through_the_estimate() -> None:
    policy = (REFERENCE + 1).requires_grad_()
    kl = torch.tensor(0.7, requires_grad=True)
    losses = kto_loss(policy, REFERENCE, DESIRABLE, beta=0.1, kl=kl)
    by_policy, by_kl = torch.autograd.grad(losses.sum(), (policy, kl), allow_unused=True)
    assert by_policy[0] < 0 < by_policy[1]
    assert by_kl is None


def test_an_answer_far_off_keeps_a_loss_that_is_not_rounded_away() -> None:
    losses = kto_loss(REFERENCE + 400, REFERENCE, DESIRABLE, beta=0.1, kl=0.0)
    assert losses[0].item() == pytest.approx(4.248354e-18, rel=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"beta": 0.0}, {"desirable_weight": -1.0}, {"undesirable_weight": float("nan")}]
)
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kto_loss(REFERENCE, REFERENCE, DESIRABLE, **{"beta": 0.1, "kl": 0.0, **wrong})


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        kto_loss(REFERENCE[:, None], REFERENCE, DESIRABLE, beta=0.1, kl=0.0)
