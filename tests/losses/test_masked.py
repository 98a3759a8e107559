from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.losses import masked_mean, masked_whiten

VALUES = torch.tensor([[1.0, 2.0, math.nan], [6.0, math.inf, 3.0]])
MASK = torch.tensor([[1, 1, 0], [1, 0, 1]])


def test_only_what_counts_is_averaged() -> None:
    assert masked_mean(VALUES, MASK).item() == 3.0
    assert masked_mean(VALUES, MASK, dim=1).tolist() == [1.5, 4.5]
    assert masked_mean(VALUES, torch.zeros(2, 3)).item() == 0.0


def test_whitening_by_hand() -> None:
    # Values 1, 2, 6, 3: mean 3, biased variance (4 + 1 + 9 + 0) / 4 = 3.5.
    deviation = math.sqrt(3.5)
    whitened = masked_whiten(VALUES, MASK, epsilon=0.0)
    expected = [[-2 / deviation, -1 / deviation, 0.0], [3 / deviation, 0.0, 0.0]]
    torch.testing.assert_close(whitened, torch.tensor(expected))
    kept = masked_whiten(VALUES, MASK, shift_mean=False, epsilon=0.0)
    torch.testing.assert_close(kept, torch.where(MASK.bool(), torch.tensor(expected) + 3.0, 0.0))


def test_equal_values_are_not_divided_by_zero() -> None:
    assert masked_whiten(torch.full((2, 3), 5.0), torch.ones(2, 3)).abs().max() == 0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        masked_mean(torch.ones(2, 3), torch.ones(2, 1))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=8, unique=True),
    st.floats(-50, 50, width=32),
    st.floats(0.5, 20, width=32),
)
def test_whitening_undoes_shift_and_scale(values: list[float], shift: float, scale: float) -> None:
    rows = torch.tensor([values], dtype=torch.float64)
    if rows.std() < 1e-2:
        return
    mask = torch.ones_like(rows)
    torch.testing.assert_close(
        masked_whiten(rows * scale + shift, mask), masked_whiten(rows, mask), rtol=1e-3, atol=1e-3
    )
