"""The KL controller of a recipe, and which weights decay."""

from __future__ import annotations

import torch

from hf_align.losses import AdaptiveKLController, FixedKLController
from hf_align.rl.recipe import PpoOptionsConfig
from hf_align.rl.setup import _groups, kl_controller


def test_the_controller_that_the_recipe_asks_for() -> None:
    fixed = kl_controller(PpoOptionsConfig(), 0.07)
    assert isinstance(fixed, FixedKLController) and fixed.coefficient == 0.07
    options = PpoOptionsConfig(adaptive_kl=True, target_kl=3.0, kl_horizon=5000)
    steered = kl_controller(options, 0.07)
    assert isinstance(steered, AdaptiveKLController)
    assert (steered.coefficient, steered.target, steered.horizon) == (0.07, 3.0, 5000)


def test_matrices_decay_and_nothing_else() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 1))
    module[2].requires_grad_(False)
    decayed, rest = _groups(module, 0.1)
    assert decayed["weight_decay"] == 0.1 and [p.shape for p in decayed["params"]] == [(3, 2)]
    assert rest["weight_decay"] == 0.0 and len(rest["params"]) == 3
    assert len(_groups(torch.nn.Linear(2, 2, bias=False), 0.1)) == 1
