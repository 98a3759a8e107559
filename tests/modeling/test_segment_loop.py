"""Attention one segment after the other: its two ways give the same."""

from __future__ import annotations

import pytest
import torch

from hf_align.data.packing import make_segments
from hf_align.modeling.segment_loop import attend_by_segments


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
