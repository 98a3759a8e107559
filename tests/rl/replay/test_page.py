"""The colours of a replay page, by hand."""

from __future__ import annotations

import pytest

from hf_align.rl.replay.page import level


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, ""), (0.1, ""), (0.3, "p1"), (-0.5, "n2"), (1, "p4"), (-9, "n4"), (float("nan"), "")],
)
def test_colours_by_hand(value: float, expected: str) -> None:
    assert level(value, 1.0) == expected
    assert level(value, 0.0) == ""
