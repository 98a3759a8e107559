from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.losses import listwise_ranking_loss, pairwise_ranking_loss

LN2 = 0.6931471805599453


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_pairwise_by_hand() -> None:
    # ln(1 + e^-2), ln 2, ln(1 + e^3)
    loss = pairwise_ranking_loss(scores(1.5, 0.3, -1.0), scores(-0.5, 0.3, 2.0))
    assert loss.tolist() == pytest.approx([0.126928011, LN2, 3.048587352])


def test_margin_by_hand() -> None:
    chosen, rejected = scores(1.5, 0.3), scores(-0.5, 0.3)
    # 2 - 2 = 0 and 0 + 2 = 2
    loss = pairwise_ranking_loss(chosen, rejected, margin=scores(2.0, -2.0))
    assert loss.tolist() == pytest.approx([LN2, 0.126928011])
    # 2 - 0.5 = 1.5 and 0 - 0.5
    loss = pairwise_ranking_loss(chosen, rejected, margin=0.5)
    assert loss.tolist() == pytest.approx([0.201413278, 0.974076984])


def test_centering_by_hand() -> None:
    loss = pairwise_ranking_loss(scores(2.0, -1.0), scores(2.0, 1.0), centering=0.01)
    # ln 2 + 0.01 x 16, and ln(1 + e^2) + 0
    assert loss.tolist() == pytest.approx([LN2 + 0.16, 2.126928011])


@settings(deadline=None, max_examples=60)
@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-50, 50))
def test_only_centering_sees_a_common_shift(chosen: float, rejected: float, shift: float) -> None:
    plain = pairwise_ranking_loss(scores(chosen), scores(rejected))
    moved = pairwise_ranking_loss(scores(chosen + shift), scores(rejected + shift))
    torch.testing.assert_close(plain, moved, rtol=1e-9, atol=1e-9)
    centred = pairwise_ranking_loss(scores(chosen + shift), scores(rejected + shift), centering=0.5)
    expected = moved.item() + 0.5 * (chosen + rejected + 2 * shift) ** 2
    assert centred.item() == pytest.approx(expected)


def test_listwise_by_hand() -> None:
    # Differences 1, 3 and 2: (0.313261688 + 0.048587352 + 0.126928011) / 3
    assert listwise_ranking_loss(scores(3.0, 2.0, 0.0)[None]).tolist() == pytest.approx([0.162925684])


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 10**6))
def test_listwise_is_the_mean_over_all_pairs(count: int, rows: int, seed: int) -> None:
    drawn = 4 * torch.randn(rows, count, generator=torch.Generator().manual_seed(seed)).double()
    pairs = [
        pairwise_ranking_loss(drawn[:, i], drawn[:, j]) for i, j in itertools.combinations(range(count), 2)
    ]
    assert len(pairs) == math.comb(count, 2)
    torch.testing.assert_close(listwise_ranking_loss(drawn), torch.stack(pairs).mean(dim=0))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.booleans(), min_size=2, max_size=9), st.integers(0, 10**6))
def test_answers_that_are_masked_are_as_good_as_absent(mask: list[bool], seed: int) -> None:
    drawn = torch.randn(1, len(mask), generator=torch.Generator().manual_seed(seed)).double()
    kept = torch.tensor(mask)[None]
    loss = listwise_ranking_loss(drawn, mask=kept)
    expected = listwise_ranking_loss(drawn[kept][None]) if sum(mask) > 1 else torch.zeros(1).double()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(listwise_ranking_loss(drawn, mask=kept.long()), expected)


def test_rows_may_have_different_numbers_of_answers() -> None:
    drawn = torch.tensor([[3.0, 2.0, 0.0], [1.0, -1.0, 99.0], [5.0, 99.0, 99.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    loss = listwise_ranking_loss(drawn, mask=mask)
    assert loss.tolist() == pytest.approx([0.162925684, 0.126928011, 0.0])


@pytest.mark.parametrize("filler", [math.nan, math.inf, -math.inf])
def test_what_stands_in_a_masked_place_reaches_neither_loss_nor_gradient(filler: float) -> None:
    drawn = torch.tensor([[1.0, filler, -1.0], [filler, filler, filler]], requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    loss = listwise_ranking_loss(drawn, mask=mask)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.126928011, 0.0])
    # sigma(-2) = 0.119202922
    assert drawn.grad[0].tolist() == pytest.approx([-0.119202922, 0.0, 0.119202922])
    assert not drawn.grad[1].any()


def test_the_gradient_orders_the_answers() -> None:
    drawn = torch.zeros(1, 4, requires_grad=True)
    listwise_ranking_loss(drawn).sum().backward()
    # Each pair pulls with sigma(0) / C(4, 2) = 1/12: net wins 3, 1, -1, -3.
    assert drawn.grad[0].tolist() == pytest.approx([-3 / 12, -1 / 12, 1 / 12, 3 / 12])


def test_extremes_are_finite() -> None:
    drawn = torch.tensor([[1e6, -1e6], [-1e6, 1e6]], requires_grad=True)
    loss = listwise_ranking_loss(drawn)
    loss.sum().backward()
    assert loss.tolist() == [0.0, 2e6]
    assert drawn.grad.tolist() == [[0.0, 0.0], [-1.0, 1.0]]


def test_shapes_must_be_equal() -> None:
    with pytest.raises(ValueError, match=r"chosen \(2,\), rejected \(2, 1\)"):
        pairwise_ranking_loss(torch.zeros(2), torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"margin \(3,\)"):
        pairwise_ranking_loss(torch.zeros(2), torch.zeros(2), margin=torch.zeros(3))
    with pytest.raises(ValueError, match=r"mask \(1, 2\)"):
        listwise_ranking_loss(torch.zeros(2, 2), mask=torch.ones(1, 2))
    for shape in [(3,), (2, 1), (1, 2, 2)]:
        with pytest.raises(ValueError, match="at least two answers"):
            listwise_ranking_loss(torch.zeros(shape))


def test_centering_cannot_be_negative() -> None:
    with pytest.raises(ValueError, match="centering: found -1"):
        pairwise_ranking_loss(torch.zeros(2), torch.zeros(2), centering=-1)
