"""The order of prompts."""

from __future__ import annotations

from hf_align.rl.prompts import PromptOrder


def test_every_prompt_comes_once_before_any_comes_again() -> None:
    order = PromptOrder(rows=10, seed=3)
    whole = order.numbers(0, 30)
    for epoch in range(3):
        assert sorted(whole[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert whole[:10] != whole[10:20], "every pass has its own order"
    pieces = [number for start in range(0, 30, 4) for number in order.numbers(start, 4)]
    assert pieces[:30] == whole
    assert order.numbers(7, 25) == order.numbers(0, 32)[7:]
    assert PromptOrder(10, seed=4).numbers(0, 10) != whole[:10]
