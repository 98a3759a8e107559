"""The rows of a KTO step: which answers meet which prompts, and what they become."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from helpers.comparisons import random_comparison

from hf_align.data.batching import StepSampler
from hf_align.kto.rows import (
    KtoRow,
    KtoRows,
    Mismatched,
    StepOrder,
    collate_unpaired,
    filler,
    mismatched,
)
from hf_align.types import ComparisonRow

SHAPES = [(6, 5), (1, 12), (11, 4), (3, 15), (8, 6), (20, 10), (4, 3)]


def rows(count: int = 7) -> list[ComparisonRow]:
    return [random_comparison(p, (a,), seed=i, scores=[i % 2]) for i, (p, a) in enumerate(SHAPES[:count])]


def kto_rows(rows_per_step: int = 3, epochs: int = 2, max_length: int = 100) -> KtoRows:
    given = rows()
    order = StepOrder(len(given), rows_per_step, 5)
    return KtoRows(given, order, Mismatched(given, order, epochs, max_length))


def test_a_prompt_gets_the_answer_of_another_row() -> None:
    one, other = rows(2)
    found = mismatched(one, other)
    prompt = [*one.prefix, one.branches[0].input_ids[0]]
    assert found.sequence(0).input_ids.tolist() == [*prompt, *other.branches[0].input_ids[1:]]
    assert found.sequence(0).target_mask.tolist() == [False] * len(prompt) + [True] * 11


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_process_count_pairs_the_rows_of_a_step_alike(world_size: int) -> None:
    data = kto_rows()
    for epoch in range(2):
        steps: list[list[int]] = [[] for _ in range(3)]
        for rank in range(world_size):
            sampler = data.step_sampler(rank=rank, world_size=world_size)
            sampler.set_epoch(epoch)
            assert len(sampler) == 3
            for step, numbers in zip(steps, sampler, strict=True):
                step += numbers
        plain = StepSampler(7, 3, seed=5)
        plain.set_epoch(epoch)
        for numbers, expected in zip(steps, plain, strict=True):
            ordered = sorted(numbers)
            assert [data.order.row(n) for n in ordered] == expected, "the steps are those of every stage"
            found = [data.order.before(n) for n in ordered]
            rotated = [*expected[-1:], *expected[:-1]]
            assert found == (rotated if len(expected) > 1 else [None])


def test_rows_carry_the_mismatched_answers_of_their_step() -> None:
    data = kto_rows(rows_per_step=4)
    for number, row in zip(range(14), itertools.chain(data, (data[i] for i in range(7, 14))), strict=True):
        own, before = (data.rows[i] for i in (data.order.row(number), data.order.before(number)))
        assert row.answer is own
        assert np.array_equal(row.mismatched.branches[0].input_ids[1:], before.branches[0].input_ids[1:])
        assert np.array_equal(row.mismatched.prefix, own.prefix)


def test_a_step_of_one_row_has_no_mismatched_answer() -> None:
    last = kto_rows(rows_per_step=3)[6]
    assert last.mismatched is not None and last.mismatched.target_tokens == 0
    assert last.answer.target_tokens > 0


def test_mismatched_answers_are_cut_as_rows_are() -> None:
    data = kto_rows(rows_per_step=7, max_length=22)
    lengths = [max(row.mismatched.lengths) for row in data]
    assert max(lengths) == 22
    assert all(row.mismatched.target_tokens for row in data)


@pytest.mark.parametrize("packed", [True, False])
def test_batches(packed: bool) -> None:
    data = kto_rows()
    some = [data[0], data[1], filler()]
    batch = collate_unpaired(some, packed=packed)
    assert batch.desirable.tolist() == [bool(row.answer.scores[0]) for row in some]
    assert batch.answers.answer_lengths.tolist() == [row.answer.target_tokens for row in some]
    assert batch.mismatched.answer_lengths.tolist() == [row.mismatched.target_tokens for row in some]
    assert batch.inputs is batch.answers.inputs and batch.kl is None
    alone = collate_unpaired([KtoRow(data[0].answer)], packed=packed)
    assert alone.mismatched is None
    assert torch.equal(alone.answers.answer_lengths, batch.answers.answer_lengths[:1])
