"""The divergence of distillation against TRL's, element by element."""

from __future__ import annotations

import pytest
import torch
from trl.experimental.gkd import GKDTrainer

from hf_align.losses import generalized_jsd


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_divergence_is_trls(beta: float, temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 11), torch.randn(2, 3, 11)
    theirs = GKDTrainer.generalized_jsd_loss(
        student, teacher, beta=beta, temperature=temperature, reduction="none"
    )
    ours = generalized_jsd(student, teacher, beta=beta, temperature=temperature)
    torch.testing.assert_close(ours, theirs.sum(dim=-1), rtol=1e-5, atol=1e-6)
