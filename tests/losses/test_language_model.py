from __future__ import annotations

import math

import pytest
import torch

from hf_align.losses import negative_log_likelihood, perplexity


def test_negative_log_likelihood_by_hand() -> None:
    probabilities = torch.tensor([0.5, 0.25, 1.0])
    assert negative_log_likelihood(probabilities.log()).tolist() == pytest.approx([0.693147, 1.386294, 0.0])


def test_perplexity_of_a_uniform_choice_is_the_number_of_choices() -> None:
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(0.0) == 1.0


def test_perplexity_overflows_to_infinity_and_keeps_nan() -> None:
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))
