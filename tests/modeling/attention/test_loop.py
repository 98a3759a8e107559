"""Attention one segment after the other: its two ways give the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hf_align.data.packing import make_segments
from hf_align.modeling.attention import loop as segment_loop
from hf_align.modeling.attention.loop import attend_by_segments


@pytest.mark.parametrize("window", [None, 5])
def test_masks_for_other_devices_and_for_dropout_equal_blocks(window: int | None) -> None:
    tree = make_segments((6, 4, 1, 9, 3), (-1, 0, 0, -1, 3))
    torch.manual_seed(0)
    q = torch.randn(1, 4, 23, 8)
    k, v = torch.randn(2, 1, 2, 23, 8).unbind(0)
    blocks = attend_by_segments(q, k, v, tree, 0.7, 0.0, window, None)
    # A dropout that drops nothing takes the way of other devices.
    masked = attend_by_segments(q, k, v, tree, 0.7, 1e-12, window, None)
    torch.testing.assert_close(masked, blocks, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dropout", "softcap"), [(0.0, None), (1e-12, None), (0.0, 3.0)])
@pytest.mark.parametrize("window", [None, 5])
def test_few_lengths_and_filler_change_nothing(
    window: int | None, dropout: float, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_segments((6, 4, 1, 9, 3), (-1, 0, 0, -1, 3))
    torch.manual_seed(0)
    q = torch.randn(1, 4, 23 + 9, 8, requires_grad=True)
    k, v = (torch.randn(1, 2, 23 + 9, 8, requires_grad=True) for _ in range(2))
    upstream = torch.randn(1, 23, 4, 8)
    results = []
    for few, filler in ((False, 0), (True, 0), (True, 9)):
        monkeypatch.setattr(segment_loop, "compiles", lambda states, few=few: few)
        length = 23 + filler
        given = (x[:, :, :length] for x in (q, k, v))
        output = attend_by_segments(*given, replace(tree, filler=filler), 0.7, dropout, window, softcap)
        assert output.shape == (1, length, 4, 8) and not output[:, 23:].any()
        gradients = torch.autograd.grad((output[:, :23] * upstream).sum(), (q, k, v))
        results.append((output[:, :23], *gradients))
    for found in results[1:]:
        for value, plain in zip(found, results[0], strict=True):
            torch.testing.assert_close(value, plain, rtol=1e-5, atol=1e-5)


def test_segments_of_all_lengths_are_computed_in_few(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[int, int]] = set()

    def noted(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: object) -> torch.Tensor:
        seen.add((query.shape[1], key.shape[1]))
        return query

    monkeypatch.setattr(segment_loop, "blocked_causal_attention", noted)
    for length in range(1, 513):
        states = torch.zeros(1, 1, length, 8, dtype=torch.bfloat16)
        attend_by_segments(states, states, states, make_segments([length]), None, 0.0, None, None)
    assert len(seen) == 8 + 3 * 8 - 8
