from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_align.data.batching import StepSampler, split_by_tokens
from hf_align.rl.episodes import EpisodeRow, answer_tree, collate_episodes
from hf_align.rl.prompts import PromptOrder
from hf_align.types import TokenizedRow


def rows_of(lengths: list[int]) -> list[TokenizedRow]:
    return [
        TokenizedRow(np.full(n, i, dtype=np.int32), np.ones(n, dtype=bool)) for i, n in enumerate(lengths)
    ]


@given(st.integers(1, 60), st.integers(1, 17), st.integers(1, 5), st.integers(0, 3))
@settings(deadline=None)
def test_every_row_is_seen_once_an_epoch_on_every_rank_count(
    rows: int, rows_per_step: int, world_size: int, epoch: int
) -> None:
    samplers = [
        StepSampler(rows, rows_per_step, seed=7, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    steps = list(zip(*samplers, strict=True))
    assert len(steps) == len(samplers[0]) == -(-rows // rows_per_step)
    assert sorted(i for step in steps for share in step for i in share) == list(range(rows))
    for step in steps[:-1]:
        assert sum(len(share) for share in step) == rows_per_step


def test_step_holds_the_same_rows_on_any_number_of_ranks() -> None:
    def steps(world_size: int) -> list[set[int]]:
        ranks = [StepSampler(23, 6, seed=1, rank=r, world_size=world_size) for r in range(world_size)]
        return [set().union(*shares) for shares in zip(*ranks, strict=True)]

    assert steps(1) == steps(2) == steps(3)


def test_order_changes_with_the_epoch_and_the_seed_and_comes_back() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = StepSampler(50, 50, seed=seed, rank=0, world_size=1)
        sampler.set_epoch(epoch)
        return next(iter(sampler))

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6


def test_every_bit_of_a_seed_counts() -> None:
    """PyTorch's generator drops all but 32; a seed was shifted by 24, so that 42 and 298 gave one order."""
    seeds = [42, 42 + 2**8, 42 + 2**16, 42 + 2**31]
    assert len({tuple(next(iter(StepSampler(50, 50, seed=seed)))) for seed in seeds}) == len(seeds)
    orders = {tuple(PromptOrder(50, seed).numbers(0, 50)) for seed in seeds}
    assert len(orders) == len(seeds)


def test_sampler_refuses_no_rows() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        StepSampler(0, 4, seed=0)


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 64), st.booleans())
@settings(deadline=None)
def test_split_keeps_every_row_and_the_budget(lengths: list[int], budget: int, padded: bool) -> None:
    batches = split_by_tokens(rows_of(lengths), budget, padded=padded)
    assert sorted(int(row.input_ids[0]) for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        cost = len(batch) * max(map(len, batch)) if padded else sum(map(len, batch))
        assert cost <= budget or len(batch) == 1


@pytest.mark.parametrize("packed", [True, False])
def test_answers_of_a_rollout_cost_their_prompt_where_it_is_not_shared(packed: bool) -> None:
    nothing = np.zeros(20, dtype=np.float32)
    tree = answer_tree(list(range(10)), [np.full(5, 7, dtype=np.int32)] * 4)
    rows = [EpisodeRow(tree, {"old_logps": nothing}) for _ in range(4)]
    # Four sequences of 15 tokens each: two rows to a batch.
    batches = split_by_tokens(rows, 120, padded=not packed, shared=False)
    assert [len(batch) for batch in batches] == [2, 2]
    for batch in batches:
        inputs = collate_episodes(batch, packed=packed, share_prefix=False).inputs
        assert inputs.input_ids.numel() == 120
    # Shared, a row costs 9 tokens of the prompt and four times 6.
    assert [len(batch) for batch in split_by_tokens(rows, 120)] == [3, 1]


def test_split_by_hand() -> None:
    packed = split_by_tokens(rows_of([3, 5, 2, 4]), 8)
    assert [[len(row) for row in batch] for batch in packed] == [[5], [4, 3], [2]]
    padded = split_by_tokens(rows_of([3, 5, 2, 4]), 10, padded=True)
    assert [[len(row) for row in batch] for batch in padded] == [[5, 4], [3, 2]]
