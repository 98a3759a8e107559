"""Random numbers pick tokens in proportion to their probability, and never one that has none."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.sampling.options import Sampling
from hf_align.sampling.token_choice import choose_tokens

ONCE = Sampling(max_new_tokens=1, temperature=1.0)


@settings(max_examples=40, deadline=None)
@given(
    weights=st.lists(st.integers(0, 9), min_size=1, max_size=700).filter(any),
    draw=st.sampled_from([0.0, 1e-12, 0.1, 0.25, 0.5, 0.999, 1 - 2**-53]) | st.floats(0, 1, exclude_max=True),
)
def test_the_token_is_the_one_whose_share_of_the_unit_interval_holds_the_number(
    weights: list[int], draw: float
) -> None:
    probabilities = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    chosen, logps = choose_tokens(probabilities.log().float()[None], ONCE, torch.tensor([draw]).double())
    token = int(chosen)
    assert weights[token] > 0
    before, after = sum(weights[:token]) / sum(weights), sum(weights[: token + 1]) / sum(weights)
    assert before - 1e-5 <= draw <= after + 1e-5
    assert float(logps) == pytest.approx(float(probabilities[token].log()), abs=1e-5)


def test_even_numbers_give_every_token_its_share() -> None:
    """Of 1,000 evenly spaced numbers, 0.1, 0.2, 0.3 and 0.4 fall on the four tokens."""
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().repeat(1000, 1)
    draws = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    chosen, _ = choose_tokens(logits, ONCE, draws)
    assert torch.bincount(chosen).tolist() == [100, 200, 300, 400]
    assert (chosen.diff() >= 0).all()


def test_the_temperature_sharpens_and_zero_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 1.0, 3.0, 2.0]])
    chosen, logps = choose_tokens(logits, Sampling(temperature=0.0))
    assert chosen.tolist() == [2]
    assert float(logps) == pytest.approx(float(torch.log_softmax(logits, -1)[0, 2]))
    _, logps = choose_tokens(logits, Sampling(temperature=0.5), torch.tensor([0.999]).double())
    assert float(logps) == pytest.approx(float(torch.log_softmax(logits / 0.5, -1)[0, 3]), abs=1e-5)
