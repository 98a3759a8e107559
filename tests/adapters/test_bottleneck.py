"""Bottleneck adapters: their formulas by hand, and widths that cannot work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny_models import tiny_model

from hf_align.adapters.bottleneck import BottleneckOptions
from hf_align.adapters.custom.model import add_adapter
from hf_align.adapters.methods import METHODS
from hf_align.errors import UserError


def test_the_formulas_by_hand() -> None:
    """One block, d = 2, width 1, every number chosen so that the sums are easy."""
    from hf_align.adapters.bottleneck import Parallel, RememberInput, Sequential

    options = BottleneckOptions(width=1, scaling=2.0, activation="relu")
    base = torch.nn.Identity()
    after = Sequential(2, 1, options)
    states = torch.tensor([[1.0, 3.0]])
    with torch.no_grad():
        after.down.weight.copy_(torch.tensor([[1.0, 1.0]]))
        after.down.bias.fill_(-1.0)
        after.up.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        after.up.bias.copy_(torch.tensor([0.5, 0.0]))
    # relu(1 + 3 - 1) = 3; 2 * (3 + 0.5) = 7 and 2 * -3 = -6.
    assert after.run(base, states).tolist() == [[8.0, -3.0]]
    # relu(-4 + 0 - 1) = 0: only the bias of the up-projection is left.
    assert after.run(base, torch.tensor([[-4.0, 0.0]])).tolist() == [[-3.0, 0.0]]
    entrance = RememberInput()
    beside = Parallel(2, 1, options, entrance)
    beside.load_state_dict(after.state_dict())
    entrance.run(base, states)
    # The network sees the input (1, 3), whatever the feed-forward part made of it.
    assert beside.run(base, torch.tensor([[10.0, 20.0]])).tolist() == [[17.0, 14.0]]
    assert entrance.seen is None, "nothing is kept between two forward passes"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 32}, r"bottleneck_width: 32 is no bottleneck in a model with 32 states"),
        ({"reduction": 64.0}, r"bottleneck_reduction: 64 leaves nothing of the model's 32 states"),
        ({"activation": "rellu"}, r"bottleneck_activation: no activation is called 'rellu'.*'relu'"),
    ],
)
def test_widths_and_activations_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        add_adapter(tiny_model("llama"), METHODS["bottleneck"], BottleneckOptions(**options))
